"""What a package knows of its photos' kinds: which are familiar, which are gradable; learned from the eye, not from the file.

Everything is fitted on photos as they are and on copies saved by other programs (training.reencode). How the same photo's
style differs from copy to copy is the file's share of it; it is added, many times over, to the spread that a style may have,
so that what moves with the file alone hardly counts (within-class covariance normalisation, Hatch et al., Interspeech 2006).
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from eye_disease.training.degrade import HAZE, RUINING
from eye_disease.training.network_outputs import Outputs, PackagedNetwork
from eye_disease.training.photos import Photos
from eye_disease.training.post_hoc import fit_familiarity, fit_quality
from model_code.decision import HAZY
from model_code.package import Statistics

COPIES = 1500
"""Training photos that are also looked at as copies"""
RUINED, HAZED = 1200, 300
"""Training photos that are also looked at made ungradable, and behind haze, which counts as gradable"""


def fit_safety(
    packaged: PackagedNetwork, training: Photos, validation: Photos, learned: Outputs, seen: Outputs, statistics: Statistics
) -> Statistics:
    """`statistics` with familiarity and gradability; learned, seen: outputs for the photos of `training` and `validation`."""
    chosen = _some(training.rows, COPIES, seed=1)
    copies = packaged.reencoded(chosen, seed=1)["style"]
    plain = pd.Series(range(len(training.rows)), training.rows.index)[chosen.index]
    noise = file_covariance(learned["style"][plain], copies)
    judged = np.concatenate([seen["style"], packaged.reencoded(validation.rows, seed=2)["style"]])
    familiarity = fit_familiarity(
        learned["style"], kinds(training.sources, training.rows["label"].to_numpy(str)), judged, noise
    )
    ruined = packaged.degraded(_some(training.rows, RUINED, seed=2), RUINING, seed=3)["style"]
    hazed = packaged.degraded(_some(training.rows, HAZED, seed=4), (HAZE,), seed=4)["style"]
    quality = fit_quality(np.concatenate([learned["style"], copies, hazed]), ruined, judged, noise)
    return replace(statistics, **{k: v for k, v in vars(familiarity).items() if v is not None}, quality_weights=quality)


def kinds(sources: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """str (N,): the sources, and hazy photos as a source of their own, since haze hides the camera's style."""
    return np.where(labels == HAZY, HAZY, sources)


def file_covariance(styles: np.ndarray, copies: np.ndarray) -> np.ndarray:
    """(K, K): how styles (N, K) of photos differ from those of the photos' copies, (N, K), in the same order."""
    differences = copies - styles
    return np.asarray(differences.T @ differences / len(differences))


def _some(rows: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    return rows.sample(min(count, len(rows)), random_state=seed)
