"""The classifier as an MLflow model: a table of photos in, a table of answers out, every answer on record."""

import gc
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from model_code.canary import canary_photo, differences, expected_answer
from model_code.classifier import Answered, Classifier
from model_code.errors import RequestError, StrictRequestError
from model_code.http_guard import attach
from model_code.identity import Identity
from model_code.inference_log import InferenceLog
from model_code.load_gate import LoadGate
from model_code.package import PACKAGE_ARTIFACT
from model_code.payload import is_null
from model_code.schema import EXPECTED, PARAMS, SCHEMA_VERSION
from model_code.settings import ServingSettings

MAX_TEXT = 256
"""Characters of `image_id` and `site` that are kept: a record must stay small, whatever a client sends."""


class EyeDiseaseModel(PythonModel):
    """`predict` is called by several threads at a time."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the model package and answer its canary photo, which also warms it up.

        Raises SettingError for a wrong setting, ValueError for a broken package or a wrong answer to the canary.
        """
        start = time.perf_counter()
        self._settings = ServingSettings.from_env()
        package = Path(context.artifacts[PACKAGE_ARTIFACT])
        identity = Identity.read(package.parent.parent)
        self._classifier = Classifier(package, identity.version, self._settings)
        self._require_canary(package)
        name = identity.name or self._classifier.facts.name
        folder = self._settings.inference_log_dir / name / identity.version
        self._log = InferenceLog(folder, self._settings.inference_log_required)
        self._executor = ThreadPoolExecutor(self._settings.inference_threads, thread_name_prefix="photo")
        self._gate = LoadGate(self._settings.max_wait_seconds)
        self._is_served = attach(self._gate)
        self._record_constants = {
            "model_name": name,
            "run_id": identity.run_id,
            "model_source": self._settings.model_source,
            "role": self._settings.model_role,
            "model_load_time_seconds": round(time.perf_counter() - start, 3),
            "schema_version": SCHEMA_VERSION,
        }
        if self._is_served:
            # What was loaded stays: looking through it again for garbage takes longer than a photo.
            gc.collect()
            gc.freeze()

    def _require_canary(self, package: Path) -> None:
        answer = self._classifier.classify(canary_photo(package)).answer
        if problems := differences(answer, expected_answer(package)):
            raise ValueError("The model's answer to its canary photo is wrong: " + "; ".join(problems))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame | list[dict[str, Any]]:
        """One answer row a photo, in order: a table; to MLflow's server a list, since it would make one of a table.

        model_input: columns `image` (base64 text or bytes), optional `image_id` and `site`. params: `explain`, `strict`.
        Raises RequestError (no column `image`, too many rows), StrictRequestError (`strict` and a bad row) and
        InferenceLogError (the log is required and cannot be written).
        """
        self._require_answerable(model_input)
        values = {name: value for name, value in (params or {}).items() if value is not None}
        options = PARAMS | values
        answered = self._classify(model_input, options["explain"])
        if options["strict"]:
            _refuse_bad_rows(answered)
        self._log.append([self._record(photo) for photo in answered])
        if self._is_served:
            return [photo.answer for photo in answered]
        columns = list(answered[0].answer) if answered else None
        return pd.DataFrame([photo.answer for photo in answered], columns=columns, dtype=object)

    def _classify(self, table: pd.DataFrame, explain: bool) -> list[Answered]:
        rows = list(zip(table["image"], _texts(table, "image_id"), _texts(table, "site"), strict=True))

        with self._gate.photos(len(rows)) as answered:

            def classify(row: tuple[Any, str | None, str | None]) -> Answered:
                answer = self._classifier.classify(*row, explain=explain)
                answered()
                return answer

            return [classify(rows[0])] if len(rows) == 1 else self._in_parallel(classify, rows)

    def _require_answerable(self, table: pd.DataFrame) -> None:
        if "image" not in table:
            raise RequestError(f"The request has no column `image`. {EXPECTED}")
        limit = self._settings.max_request_rows
        if len(table) > limit:
            raise RequestError(
                f"too_many_rows: the request has {len(table):,} rows, the limit is {limit:,}, and none is answered."
                " Send fewer at a time or raise MAX_REQUEST_ROWS."
            )

    def _in_parallel(self, classify: Callable[[Any], Answered], rows: Iterable[Any]) -> list[Answered]:
        """Hand the executor a few rows at a time, so that a small request need not wait for all of a large one."""
        answered: list[Answered] = []
        waiting: deque[Future[Answered]] = deque()
        for row in rows:
            if len(waiting) == self._settings.inference_threads:
                answered.append(waiting.popleft().result())
            waiting.append(self._executor.submit(classify, row))
        return answered + [future.result() for future in waiting]

    def _record(self, answered: Answered) -> dict[str, Any]:
        answer = {name: value for name, value in answered.answer.items() if name != "heatmap_png"}
        return answer | answered.facts | self._record_constants


def _texts(table: pd.DataFrame, column: str) -> list[str | None]:
    """A text column, cut to MAX_TEXT characters; None where it is null or missing."""
    if column not in table:
        return [None] * len(table)
    return [None if is_null(value) else str(value)[:MAX_TEXT] for value in table[column]]


def _refuse_bad_rows(answered: list[Answered]) -> None:
    bad = [(i, photo.answer) for i, photo in enumerate(answered) if photo.answer["error_code"]]
    if bad:
        shown = "; ".join(f"row {i}: {answer['error_code']}: {answer['error']}" for i, answer in bad[:5])
        raise StrictRequestError(f"{len(bad)} of {len(answered)} rows are bad and `strict` was asked for. {shown}")
