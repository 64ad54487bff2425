"""The model package: a folder with the network and everything needed to answer with it.

classifier.tflite   the network as LiteRT (absent when the runtime is `keras`)
classifier.keras    the network it was converted from (or classifier.h5)
classifier.layers.py  code of layers that are not Keras' own (absent where there are none)
model.json          ModelFacts: classes, preprocessing, calibration
statistics.npz      Statistics: arrays fitted on the training photos
canary.jpg          a photo whose answer is known
canary.json         that answer
reference_profile.json   what its answers look like without drift (absent where there were no validation photos)
"""

import hashlib
import json
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from model_code.model_error import ModelError
from model_code.preprocessing import Recipe
from model_code.promise import Promise

LITERT_FILE = "classifier.tflite"
FACTS_FILE = "model.json"
STATISTICS_FILE = "statistics.npz"
CANARY_PHOTO = "canary.jpg"
CANARY_ANSWER = "canary.json"
PACKAGE_ARTIFACT = "package"
"""Name of the artifact of an MLflow model that holds the package."""
RUNTIMES = ("litert", "keras")
OUTPUT_KINDS = ("logits", "probabilities")


@dataclass(frozen=True)
class OtherFinding:
    """Reads the network's output `other_finding`, a logit (Platt, Advances in Large Margin Classifiers, 1999)."""

    slope: float
    offset: float
    """The calibrated score is the logistic function of slope * logit + offset."""
    limit: float
    """A score at or above it is a finding, 0..1."""


@dataclass(frozen=True)
class ModelFacts:
    """`model.json`. Raises ModelError for a value that cannot be served."""

    name: str
    """Registered name, the first part of a record's folder."""
    classes: tuple[str, ...]
    """Class names in the order of the network's outputs."""
    recipe: Recipe
    output_kind: str = "logits"
    """`logits` or `probabilities`: what the network's output is."""
    runtime: str = "litert"
    """`litert` or `keras`."""
    quantized: bool = False
    """Whether the LiteRT network's deep layers count in 8-bit integers."""
    temperature: float = 1.0
    """Logits are divided by it before the softmax (Guo et al., ICML 2017)."""
    low_confidence: float = 0.6
    """A confidence below it sends the photo to `review`."""
    other_finding: OtherFinding | None = None
    """How the network's output for a disease outside the classes is read; None where it has none."""
    second_disease: float | None = None
    """A probability at or above it of a second disease sends the photo to `review`; None: not looked at."""
    promise: Promise | None = None
    """What `report` stands for; None: nothing is promised, and every answer that is sure enough is reported."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """How the model came to be: base, data, split, figures."""

    def __post_init__(self) -> None:
        for name, allowed in (("runtime", RUNTIMES), ("output_kind", OUTPUT_KINDS)):
            if getattr(self, name) not in allowed:
                raise ModelError(f"{name}={getattr(self, name)!r} is not known. Expected one of {', '.join(allowed)}.")
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes) or not all(self.classes):
            raise ModelError(f"classes={list(self.classes)}: expected at least two different names.")
        if not 0 < self.temperature < float("inf"):
            raise ModelError(f"temperature={self.temperature}: expected a number above 0.")

    @classmethod
    def load(cls, folder: Path) -> "ModelFacts":
        """Read `model.json`. Raises ModelError if it is missing or wrong."""
        path = folder / FACTS_FILE
        if not path.is_file():
            raise ModelError(f"{folder} is not a model package: it has no {FACTS_FILE}.")
        try:
            stored = json.loads(path.read_text())
            stored["classes"] = tuple(stored["classes"])
            stored["recipe"] = Recipe(**stored["recipe"])
            for name, read in (("other_finding", lambda fields: OtherFinding(**fields)), ("promise", Promise.from_dict)):
                if stored.get(name) is not None:
                    stored[name] = read(stored[name])
            return cls(**stored)
        except (KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ModelError(f"{path} does not have the fields of this version: {error}.") from error

    def save(self, folder: Path) -> None:
        """Write `model.json` into `folder`."""
        (folder / FACTS_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n")


@dataclass(frozen=True)
class Statistics:
    """`statistics.npz`: arrays fitted on embeddings (D,) and styles (K,), stored as float32; None where there are none."""

    class_weights: np.ndarray | None = None
    """(D, C): last dense layer, for the heatmap."""
    embedding_mean: np.ndarray | None = None
    """(D,)"""
    components: np.ndarray | None = None
    """(D, K): orthonormal principal components of the training embeddings, strongest first."""
    source_means: np.ndarray | None = None
    """(G, K): mean style of each source of training photos."""
    source_precisions: np.ndarray | None = None
    """(G, K, K): inverse covariance of each source's styles."""
    ood_limit: np.ndarray | None = None
    """(): the distance to the nearest source above which a photo is out of distribution."""
    familiar_limit: np.ndarray | None = None
    """(): the share of `ood_limit` above which a photo is taken for one of an unknown camera."""
    quality_weights: np.ndarray | None = None
    """(K + 1,): of the style, and an offset; a positive sum is not gradable."""

    @classmethod
    def load(cls, folder: Path) -> "Statistics":
        """Read `statistics.npz`. Raises ModelError if it is damaged or holds other arrays, OSError if it cannot be read."""
        path = folder / STATISTICS_FILE
        try:
            with np.load(path, allow_pickle=False) as stored:
                return cls(**{name: stored[name].astype(np.float64) for name in stored.files})
        except (ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise ModelError(f"{path} does not hold the arrays of this version: {error}.") from error

    def save(self, folder: Path) -> None:
        """Write `statistics.npz` into `folder`."""
        arrays: dict[str, Any] = {name: np.asarray(a, np.float32) for name, a in vars(self).items() if a is not None}
        np.savez_compressed(folder / STATISTICS_FILE, **arrays)


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def keras_file(folder: Path) -> Path:
    """The Keras source in a package: `classifier.keras` or `classifier.h5`. Raises ModelError if there is none."""
    for suffix in (".keras", ".h5"):
        if (path := folder / f"classifier{suffix}").is_file():
            return path
    raise ModelError(f"{folder} holds no classifier.keras and no classifier.h5.")
