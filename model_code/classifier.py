"""One photo -> one answer and its record. Knows nothing of MLflow."""

import base64
import hashlib
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from uuid_utils import uuid7

from model_code.decision import answer_columns
from model_code.decode import decode
from model_code.embedding import logged_components
from model_code.errors import ImageError
from model_code.heatmap import class_activation, overlay_png
from model_code.package import CANARY_PHOTO, LITERT_FILE, ModelFacts, Statistics, file_sha256, keras_file
from model_code.payload import image_bytes
from model_code.preprocessing import field_of_view, prepare, scale
from model_code.quality import image_statistics
from model_code.runtime import Infer, KerasRuntime, LiteRTRuntime, Runtime
from model_code.schema import empty_answer, empty_facts
from model_code.settings import ServingSettings

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answered:
    """An answer row and the record's other fields."""

    answer: dict[str, Any]
    facts: dict[str, Any]


class Classifier:
    """A model package, loaded. Safe for threads; at most `inference_threads` photos are decoded and classified at a time."""

    def __init__(self, folder: Path, model_version: str, settings: ServingSettings) -> None:
        self.facts = ModelFacts.load(folder)
        self._statistics = Statistics.load(folder)
        self._version = model_version
        self._settings = settings
        self._runtime = self._load_runtime(folder)
        self._canary_sha256 = file_sha256(folder / CANARY_PHOTO)
        size = self.facts.recipe.input_size
        self._mask = field_of_view(size) if self.facts.recipe.crop == "fundus" else np.ones((size, size), np.uint8)

    def classify(self, cell: Any, image_id: str | None = None, site: str | None = None, explain: bool = False) -> Answered:
        """Answer one image cell (base64 text or bytes). Never raises: what is wrong stands in `error` and `error_code`."""
        blank = self._blank(image_id, explain)
        facts = empty_facts() | {"site": site}
        try:
            with self._runtime.session() as infer:
                start = time.perf_counter()
                answer = blank | self._answer(cell, infer, explain, facts)
                answer["inference_time_ms"] = round((time.perf_counter() - start) * 1000, 3)
        except ImageError as error:
            answer = blank | _describe(error)
        except Exception as error:  # one photo must never fail its neighbours, nor the worker
            _logger.exception("prediction %s failed", blank["prediction_id"])
            problem = f"The model failed on this image ({type(error).__name__}). The server's log names the prediction_id."
            answer = blank | _describe(ImageError("internal_error", problem))
        return Answered(answer, facts)

    def _blank(self, image_id: str | None, explain: bool) -> dict[str, Any]:
        known = {"prediction_id": str(uuid7()), "image_id": image_id, "model_version": self._version}
        return empty_answer(self.facts.classes) | known | ({"heatmap_png": None} if explain else {})

    def _answer(self, cell: Any, infer: Infer, explain: bool, facts: dict[str, Any]) -> dict[str, Any]:
        """The answer's columns for a good photo; fills `facts` as far as it comes."""
        data = image_bytes(cell, self._settings.max_image_bytes)
        sha256 = hashlib.sha256(data).hexdigest()
        facts.update(image_bytes=len(data), image_sha256=sha256, canary=sha256 == self._canary_sha256)
        limits = self._settings.max_image_pixels, self._settings.decode_timeout_seconds
        photo = decode(data, self.facts.recipe.working_side, *limits)
        facts.update(width=photo.width, height=photo.height, format=photo.format, file_defect=photo.defect, **photo.facts)
        view = prepare(photo.image, self.facts.recipe)
        outputs = infer(scale(view, self.facts.recipe))
        _require_finite(outputs)
        statistics = image_statistics(view, self._mask)
        components = logged_components(outputs["embedding"], self._statistics) or []
        facts.update(statistics, **{f"embedding_{i}": value for i, value in enumerate(components, start=1)})
        answer = answer_columns(outputs, self.facts, self._statistics)
        if explain:
            answer["heatmap_png"] = self._heatmap(view, outputs, answer["predicted_class"])
        return answer

    def _heatmap(self, view: np.ndarray, outputs: dict[str, np.ndarray], predicted_class: str) -> str | None:
        if "feature_map" not in outputs or self._statistics.class_weights is None:
            return None
        weights = self._statistics.class_weights[:, self.facts.classes.index(predicted_class)]
        return base64.b64encode(overlay_png(view, class_activation(outputs["feature_map"], weights))).decode()

    def _load_runtime(self, folder: Path) -> Runtime:
        threads = self._settings.inference_threads
        if self.facts.runtime == "keras":
            return KerasRuntime(keras_file(folder), self.facts.recipe.input_size, threads)
        return LiteRTRuntime(folder / LITERT_FILE, threads)


def _require_finite(outputs: dict[str, np.ndarray]) -> None:
    for name, array in outputs.items():
        if not np.isfinite(array).all():
            raise FloatingPointError(f"the network's {name} is not finite")


def _describe(error: ImageError) -> dict[str, Any]:
    return {"error": str(error), "error_code": error.code}
