"""Everything a model package learns beside the network: calibration, the embedding's subspace, familiarity, gradability."""

from dataclasses import replace

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression

from model_code.decision import second_disease
from model_code.embedding import LOGGED_COMPONENTS
from model_code.familiarity import quality_margin, source_distance
from model_code.package import OtherFinding, Statistics

FLAGGED_SHARE = 0.01
"""Share of validation photos that the out-of-distribution limit flags, and that the gradability limit flags."""
UNFAMILIAR_SHARE = 0.08
"""Share of validation photos that are taken for those of an unknown camera."""
OTHER_SHARE = 0.1
"""Share of validation photos without another finding that its limit flags."""
SECOND_SHARE = 0.02
"""Share of validation photos, each of one disease at most, that the limit for a second disease flags."""
MIN_SOURCE = 40
"""Photos of a source from which it is described by itself; smaller ones are described together."""
NOISE_WEIGHT = 2.0
"""How many times over the variance between copies of one photo is added to the variance between photos."""
_QUALITY_STRENGTH = 0.1
"""Inverse of the regularisation."""


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature that minimises the negative log-likelihood; logits (N, C), labels int (N,) (Guo et al., ICML 2017)."""

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float(scaled[np.arange(len(labels)), labels].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def fit_embedding(embeddings: np.ndarray) -> Statistics:
    """Mean and first LOGGED_COMPONENTS principal components of the training embeddings (N, D)."""
    mean = embeddings.mean(axis=0)
    _, _, directions = np.linalg.svd(embeddings - mean, full_matrices=False)
    return Statistics(embedding_mean=mean, components=directions[:LOGGED_COMPONENTS].T)


def fit_familiarity(training: np.ndarray, sources: np.ndarray, validation: np.ndarray, noise: np.ndarray) -> Statistics:
    """A Gaussian for each source of training styles (N, K), str (N,), and the limits by validation styles (M, K).

    noise: (K, K), how the style of one photo varies with the file it is saved in. Covariances shrunk as by Ledoit & Wolf
    (J. Multivariate Analysis 88(2), 2004).
    """
    names, counts = np.unique(sources, return_counts=True)
    large = names[counts >= MIN_SOURCE]
    groups = [training[sources == name] for name in large]
    rest = training[~np.isin(sources, large)]
    if len(rest) >= MIN_SOURCE or not groups:
        groups.append(rest if len(rest) >= MIN_SOURCE else training)
    fitted = [LedoitWolf().fit(group) for group in groups]
    statistics = Statistics(
        source_means=np.stack([source.location_ for source in fitted]),
        source_precisions=np.stack([np.linalg.inv(source.covariance_ + NOISE_WEIGHT * noise) for source in fitted]),
    )
    distances = source_distance(validation, statistics)
    limit = np.quantile(distances, 1 - FLAGGED_SHARE)
    familiar = np.quantile(distances, 1 - UNFAMILIAR_SHARE) / limit
    return replace(statistics, ood_limit=limit, familiar_limit=familiar)


def fit_quality(good: np.ndarray, ruined: np.ndarray, validation: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Weights (K + 1,) that tell ruined styles (M, K) from good ones (N, K) and flag FLAGGED_SHARE of validation's (V, K).

    noise: as above. Each style is moved at random by NOISE_WEIGHT times the noise, so that what varies with the file tells
    little (Bishop, Neural Computation 7(1), 1995: training with noise is a penalty on what follows the noise).
    """
    styles = np.concatenate([good, ruined])
    labels = np.r_[np.zeros(len(good)), np.ones(len(ruined))]
    variances, directions = np.linalg.eigh(NOISE_WEIGHT * noise)
    moved = np.random.default_rng(0).normal(size=styles.shape) * np.sqrt(variances.clip(0))
    styles = styles + moved @ directions.T
    mean, deviation = styles.mean(axis=0), styles.std(axis=0) + 1e-6
    fitted = LogisticRegression(C=_QUALITY_STRENGTH, max_iter=3000).fit((styles - mean) / deviation, labels)
    weights: np.ndarray = np.r_[fitted.coef_[0] / deviation, 0.0]
    weights[-1] = -np.quantile(quality_margin(validation, weights), 1 - FLAGGED_SHARE)
    return weights


def fit_other_finding(without: np.ndarray, other: np.ndarray) -> OtherFinding:
    """How the output for a finding outside the classes is read, from its logits on validation photos without one and with one.

    Platt's scaling, and a limit that OTHER_SHARE of the photos without one reach.
    """
    logits, labels = np.concatenate([without, other]), np.repeat([0, 1], [len(without), len(other)])
    fitted = LogisticRegression(C=1e6).fit(logits[:, None], labels)
    slope, offset = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    return OtherFinding(slope, offset, float(expit(np.quantile(slope * without + offset, 1 - OTHER_SHARE))))


def fit_second_disease(probabilities: np.ndarray, classes: tuple[str, ...]) -> float:
    """The second largest probability of a disease, of (N, C), that SECOND_SHARE of validation photos (of one class) reach."""
    columns = (dict(zip((f"prob_{name}" for name in classes), row, strict=True)) for row in probabilities)
    return float(np.quantile([second_disease(answer, classes) for answer in columns], 1 - SECOND_SHARE))
