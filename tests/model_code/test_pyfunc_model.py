import hashlib
import json
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow.models import Model
from PIL import Image

from model_code import classifier as classifier_module
from model_code.canary import canary_photo
from model_code.decode import decode
from model_code.errors import ERROR_CODES, InferenceLogError, RequestError, SettingError, StrictRequestError
from model_code.identity import VERSION_KEY, Identity
from model_code.package import CANARY_ANSWER
from model_code.pyfunc_model import PACKAGE_ARTIFACT, EyeDiseaseModel
from model_code.schema import answer_types, empty_facts
from tests.support.photos import PACKAGE, bad_cells, base64_text, encode, fundus

Load = Callable[..., EyeDiseaseModel]
CLASSES = ("cataract", "diabetic_retinopathy", "glaucoma", "normal")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An MLflow model folder with the bundled package."""
    folder = tmp_path / "model"
    (folder / "artifacts").mkdir(parents=True)
    (folder / "artifacts" / PACKAGE_ARTIFACT).symlink_to(PACKAGE)
    Model(run_id="run-1").save(str(folder / "MLmodel"))
    return folder


@pytest.fixture
def load(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads the model as MLflow does, under the settings given."""

    def load(**settings: str) -> EyeDiseaseModel:
        for name, value in ({"INFERENCE_LOG_DIR": str(tmp_path / "logs"), "INFERENCE_THREADS": "4"} | settings).items():
            monkeypatch.setenv(name, value)
        model = EyeDiseaseModel()
        package = folder / "artifacts" / PACKAGE_ARTIFACT
        model.load_context(SimpleNamespace(artifacts={PACKAGE_ARTIFACT: str(package)}))
        return model

    return load


def _predict(model: EyeDiseaseModel, images: list[Any], params: dict[str, Any] | None = None, **columns: Any) -> list[Any]:
    """The answer rows; they must be strict JSON and have a row for each image."""
    table = pd.DataFrame({"image": pd.Series(images, dtype=object), **columns})
    answers = model.predict(None, table, params)
    assert len(answers) == len(images)
    rows = answers.to_dict("records")
    json.dumps(rows, allow_nan=False)
    return rows


def _records(tmp_path: Path) -> list[dict[str, Any]]:
    files = sorted((tmp_path / "logs").rglob("*.jsonl"))
    return [json.loads(line) for path in files for line in path.read_text().splitlines()]


def test_bad_rows_never_fail_their_neighbours_and_every_error_code_can_be_reached(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good, cursed = bad_cells(), encode(fundus(), "JPEG"), encode(fundus(33), "PNG")
    slow = encode(fundus(2_000), "TIFF", compression="tiff_lzw")

    def failing_decode(data: bytes, working_side: int, max_pixels: int, timeout_seconds: float) -> Any:
        if data == cursed:
            raise RuntimeError("out of luck")
        return decode(data, working_side, max_pixels, 0.001 if data == slow else timeout_seconds)

    monkeypatch.setattr(classifier_module, "decode", failing_decode)
    cells = [cell for bad_cell, _ in bad.values() for cell in (good, bad_cell)] + [cursed, slow, good]
    codes = [code for _, bad_code in bad.values() for code in (None, bad_code)] + ["internal_error", "decode_timeout", None]
    rows = _predict(load(MAX_REQUEST_ROWS=str(len(cells))), cells)
    assert [row["error_code"] for row in rows] == codes
    assert set(codes) - {None} == set(ERROR_CODES)
    assert len({row["confidence"] for row in rows if row["error_code"] is None}) == 1
    assert [record["error_code"] for record in _records(tmp_path)] == codes


def test_answers_come_back_in_the_order_of_their_photos(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = [encode(fundus(100 + i, seed=i), "PNG") for i in range(24)]
    model = load()
    alone = [_predict(model, [photo])[0]["confidence"] for photo in photos]
    delays = {photo: 0.03 if i % 4 == 0 else 0 for i, photo in enumerate(photos)}

    def uneven_decode(data: bytes, *limits: Any) -> Any:
        time.sleep(delays[data])
        return decode(data, *limits)

    monkeypatch.setattr(classifier_module, "decode", uneven_decode)
    ids = [f"photo-{i}" for i in range(24)]
    rows = _predict(model, photos, image_id=ids)
    records = _records(tmp_path)[24:]
    assert len(set(alone)) == 24
    assert [row["confidence"] for row in rows] == alone
    assert [row["image_id"] for row in rows] == [record["image_id"] for record in records] == ids
    assert [record["image_sha256"] for record in records] == [hashlib.sha256(photo).hexdigest() for photo in photos]
    assert [record["prediction_id"] for record in records] == [row["prediction_id"] for row in rows]


def test_threads_get_their_own_answers_and_every_answer_is_on_record_once(load: Load, tmp_path: Path) -> None:
    model = load()
    photos = {f"photo-{i}": encode(fundus(100 + i, seed=i), "JPEG") for i in range(8)}
    alone = {name: _predict(model, [photo])[0]["confidence"] for name, photo in photos.items()}

    def ask(turn: int) -> list[Any]:
        names = [f"photo-{(turn + i) % 8}" for i in range(1 + turn % 3)]
        return _predict(model, [photos[name] for name in names], image_id=names)

    with ThreadPoolExecutor(16) as executor:
        rows = [row for answered in executor.map(ask, range(48)) for row in answered]
    assert all(row["confidence"] == alone[row["image_id"]] for row in rows)
    records = _records(tmp_path)
    assert [record["sequence"] for record in records] == list(range(len(records)))
    assert {record["prediction_id"] for record in records[8:]} == {row["prediction_id"] for row in rows}
    assert len(records) == 8 + len(rows)


def test_a_record_has_the_answer_and_what_the_drift_job_needs_and_nothing_else(
    load: Load, tmp_path: Path, retina: bytes
) -> None:
    model = load(MODEL_SOURCE="registry")
    row = _predict(model, [base64_text(retina)], {"explain": True}, image_id=["left"], site=["clinic"])[0]
    record = _records(tmp_path)[0]
    stamp = {"timestamp", "process_id", "sequence", "lost_records"}
    constants = {"model_name", "run_id", "model_source", "role", "model_load_time_seconds", "schema_version"}
    assert set(record) == set(answer_types(CLASSES)) | set(empty_facts()) | stamp | constants
    assert {name: record[name] for name in answer_types(CLASSES)} == {k: v for k, v in row.items() if k != "heatmap_png"}
    assert (record["model_name"], record["run_id"]) == ("eye-disease-classifier", "run-1")
    assert (record["model_source"], record["site"], record["canary"]) == ("registry", "clinic", False)
    assert record["model_load_time_seconds"] > 0


def test_a_record_never_holds_the_image_or_its_heatmap(load: Load, tmp_path: Path, retina: bytes) -> None:
    exif = Image.Exif()
    exif[0x010E] = "PATIENT-NAME"
    model, text = load(), base64_text(encode(fundus(), "JPEG", exif=exif))
    images = [text, retina, text[:-1] + "!", "PATIENT-NAME", {"name": "PATIENT-NAME"}, retina[:5000]]
    rows = _predict(model, images, {"explain": True})
    written = "".join(path.read_text() for path in tmp_path.rglob("*.jsonl"))
    assert "PATIENT" not in written
    for row in rows[:2]:
        assert row["heatmap_png"][1000:1040] not in written
    for content in (text, base64_text(retina)):
        assert not any(content[i : i + 24] in written for i in range(0, len(content) - 24, 24))
    assert all(len(json.dumps(record)) < 3000 for record in _records(tmp_path))


def test_only_the_canary_is_flagged_on_record(load: Load, tmp_path: Path, retina: bytes) -> None:
    model = load()
    assert _records(tmp_path) == []
    _predict(model, [retina, canary_photo(PACKAGE), None])
    assert [record["canary"] for record in _records(tmp_path)] == [False, True, False]


def test_strict_refuses_the_whole_request_and_says_which_rows_are_bad(load: Load, tmp_path: Path) -> None:
    model, good = load(), encode(fundus(), "JPEG")
    with pytest.raises(StrictRequestError) as refused:
        _predict(model, [good, None, good, b"PATIENT-NAME"], {"strict": True})
    message = refused.value.message
    assert message.startswith("2 of 4 rows are bad and `strict` was asked for. row 1: image_missing: ")
    assert "row 3: format_unsupported: " in message
    assert "PATIENT" not in message
    assert _records(tmp_path) == []
    assert _predict(model, [good, good], {"strict": True})[0]["error"] is None
    assert len(_records(tmp_path)) == 2


def test_strict_names_only_the_first_bad_rows_of_many(load: Load) -> None:
    with pytest.raises(StrictRequestError, match="40 of 40 rows are bad") as refused:
        _predict(load(), [None] * 40, {"strict": True})
    assert refused.value.message.count("image_missing") == 5


@pytest.mark.parametrize("params", [None, {}, {"explain": None, "strict": None}, {"explain": False}, {"unknown": 5}])
def test_params_left_out_or_null_mean_their_defaults(load: Load, params: dict[str, Any] | None) -> None:
    rows = _predict(load(), [None], params)
    assert list(rows[0]) == list(answer_types(CLASSES))


@pytest.mark.parametrize("images", [1, 3])
def test_explain_adds_a_heatmap_to_every_answer(load: Load, images: int) -> None:
    good = encode(fundus(), "JPEG")
    rows = _predict(load(), [good] * images + [None], {"explain": True})
    assert [list(row)[-1] for row in rows] == ["heatmap_png"] * (images + 1)
    assert [row["heatmap_png"] is None for row in rows] == [False] * images + [True]


@pytest.mark.parametrize(
    "params", [None, {"strict": True}, {"strict": False}, {"explain": True}, {"explain": True, "strict": True}]
)
def test_a_request_of_too_many_rows_is_refused_whole(load: Load, tmp_path: Path, params: dict[str, Any] | None) -> None:
    model, good = load(MAX_REQUEST_ROWS="2"), encode(fundus(), "JPEG")
    with pytest.raises(RequestError, match="too_many_rows: the request has 10,000 rows, the limit is 2, and none") as refused:
        _predict(model, [good, None] + [""] * 9_998, params, image_id=["PATIENT"] * 10_000)
    assert refused.value.get_http_status_code() == 400
    assert "PATIENT" not in refused.value.serialize_as_json()
    assert _records(tmp_path) == []
    assert len(_predict(model, [good, None], {"explain": True})) == 2


@pytest.mark.parametrize("table", [{}, {"picture": ["PATIENT"]}, {"Image": ["PATIENT"], "site": ["x"]}, {0: ["PATIENT"]}])
def test_a_table_without_images_is_refused_in_the_models_own_words(load: Load, tmp_path: Path, table: dict[Any, Any]) -> None:
    with pytest.raises(RequestError, match=r"has no column `image`\. Expected a table with") as refused:
        load().predict(None, pd.DataFrame(table))
    assert refused.value.get_http_status_code() == 400
    for word in ("dataframe_records", "instances", "b64", "datatype"):
        assert word in refused.value.message
    assert "PATIENT" not in refused.value.serialize_as_json()
    assert _records(tmp_path) == []


def test_names_are_kept_as_text_and_nulls_as_null(load: Load, tmp_path: Path) -> None:
    names: list[Any] = ["left", 7, None, float("nan"), pd.NA, True]
    rows = _predict(load(), [None] * 6, image_id=pd.Series(names, dtype=object), site=pd.Series(names, dtype=object))
    expected = ["left", "7", None, None, None, "True"]
    assert [row["image_id"] for row in rows] == expected
    assert [record["site"] for record in _records(tmp_path)] == expected


@pytest.mark.parametrize("odd", [[1, 2], [], {"a": 1}, np.array([1.0, 2.0])], ids=["list", "empty", "dict", "array"])
@pytest.mark.parametrize("column", ["image_id", "site"])
def test_a_name_that_is_no_text_never_fails_the_request(load: Load, column: str, odd: Any) -> None:
    good = encode(fundus(), "JPEG")
    rows = _predict(load(), [good, good], **{column: pd.Series([odd, "left"], dtype=object)})
    assert [row["error"] for row in rows] == [None, None]


def test_an_empty_request_gets_an_empty_answer(load: Load, tmp_path: Path) -> None:
    assert _predict(load(), []) == []
    assert _records(tmp_path) == []


def test_the_index_of_the_request_does_not_matter(load: Load) -> None:
    table = pd.DataFrame({"image": [None, b"x"]}, index=[7, 7])
    assert load().predict(None, table)["error_code"].tolist() == ["image_missing", "format_unsupported"]


def _block_log(tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "logs", ignore_errors=True)
    (tmp_path / "logs").touch()


def test_nothing_is_answered_while_a_required_log_cannot_be_written(load: Load, tmp_path: Path) -> None:
    model = load(INFERENCE_LOG_REQUIRED="true")
    _block_log(tmp_path)
    with pytest.raises(InferenceLogError, match="cannot be written") as refused:
        _predict(model, [None])
    assert refused.value.get_http_status_code() == 503
    (tmp_path / "logs").unlink()
    _predict(model, [None])
    assert [(record["sequence"], record["lost_records"]) for record in _records(tmp_path)] == [(0, 0)]


def test_answers_go_out_while_the_log_cannot_be_written_and_the_loss_is_on_record(load: Load, tmp_path: Path) -> None:
    model = load()
    _block_log(tmp_path)
    assert len(_predict(model, [None, None])) == 2
    (tmp_path / "logs").unlink()
    _predict(model, [None])
    assert [(record["sequence"], record["lost_records"]) for record in _records(tmp_path)] == [(2, 2)]


@pytest.mark.parametrize(("served", "version"), [(None, "unregistered"), ({VERSION_KEY: "bundled"}, "bundled")])
def test_a_model_from_no_registry_says_so(folder: Path, load: Load, served: Any, version: str, tmp_path: Path) -> None:
    Model(metadata=served).save(str(folder / "MLmodel"))
    assert Identity.read(folder) == Identity(None, version, None)
    assert _predict(load(), [None])[0]["model_version"] == version
    assert (tmp_path / "logs" / "eye-disease-classifier" / version).is_dir()


def test_a_model_from_a_registry_answers_under_its_name_and_version(folder: Path, load: Load, tmp_path: Path) -> None:
    (folder / "registered_model_meta").write_text(yaml.safe_dump({"model_name": "eyes", "model_version": 12}))
    assert Identity.read(folder) == Identity("eyes", "12", "run-1")
    assert _predict(load(), [None])[0]["model_version"] == "12"
    assert _records(tmp_path)[0]["model_name"] == "eyes"
    assert (tmp_path / "logs" / "eyes" / "12").is_dir()


def test_a_model_that_answers_its_canary_otherwise_does_not_load(folder: Path, load: Load) -> None:
    package = folder / "artifacts" / PACKAGE_ARTIFACT
    package.unlink()
    shutil.copytree(PACKAGE, package)
    expected = json.loads((package / CANARY_ANSWER).read_text())
    (package / CANARY_ANSWER).write_text(json.dumps(expected | {"confidence": 0.123}))
    with pytest.raises(ValueError, match=r"canary photo is wrong: confidence is 0\.\d+, expected 0\.123"):
        load()


def test_a_wrong_setting_stops_the_start_by_name(load: Load) -> None:
    with pytest.raises(SettingError, match="MAX_IMAGE_PIXELS='many' is not valid"):
        load(MAX_IMAGE_PIXELS="many")
