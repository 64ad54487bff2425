"""A package's network by itself, with all its outputs."""

from pathlib import Path

import numpy as np
from scipy.special import softmax

from model_code.package import LITERT_FILE, ModelFacts, Statistics
from model_code.preprocessing import scale
from model_code.runtime import LiteRTRuntime


class Network:
    """view, uint8 (S, S, 3) -> the outputs of model_code.runtime.Infer."""

    def __init__(self, package: Path) -> None:
        self.facts = ModelFacts.load(package)
        statistics = Statistics.load(package)
        if statistics.class_weights is None:
            raise ValueError(
                f"{package} has no class weights. Expected a network that ends in a mean pooling and a dense layer."
            )
        self.class_weights = statistics.class_weights
        self._runtime = LiteRTRuntime(package / LITERT_FILE, threads=1)

    def __call__(self, view: np.ndarray) -> dict[str, np.ndarray]:
        """The network's outputs for a view."""
        with self._runtime.session() as infer:
            return infer(scale(view, self.facts.recipe))

    def probabilities(self, outputs: dict[str, np.ndarray]) -> np.ndarray:
        """Calibrated, float64 (C,)."""
        return softmax(outputs["output"].astype(np.float64) / self.facts.temperature)
