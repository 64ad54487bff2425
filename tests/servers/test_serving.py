"""Through a real `mlflow models serve` process: every payload form, the answer's columns, params, malformed requests."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from tests.support.servers import NAME, Served, read_records

CHANGES_EACH_TIME = {"prediction_id", "inference_time_ms"}
COLUMNS = [
    "prediction_id",
    "image_id",
    "predicted_class",
    "confidence",
    "prob_cataract",
    "prob_diabetic_retinopathy",
    "prob_glaucoma",
    "prob_normal",
    "decision",
    "low_confidence",
    "other_finding",
    "other_finding_score",
    "gradable",
    "out_of_distribution",
    "ood_score",
    "unfamiliar_camera",
    "inference_time_ms",
    "model_version",
    "error",
    "error_code",
]


def _payloads(photo: bytes) -> dict[str, tuple[bytes, str]]:
    text = base64.b64encode(photo).decode()
    row = {"image": text, "image_id": "left-eye", "site": "clinic-a"}
    table = pd.DataFrame([row])
    parquet = io.BytesIO()
    table.assign(image=[photo]).to_parquet(parquet)
    uri = {**row, "image": f"data:image/jpeg;base64,{text}"}
    as_json = "application/json"
    return {
        "dataframe_split": (json.dumps({"dataframe_split": table.to_dict("split")}).encode(), as_json),
        "dataframe_records": (json.dumps({"dataframe_records": [row]}).encode(), as_json),
        "inputs": (json.dumps({"inputs": {name: [value] for name, value in row.items()}}).encode(), as_json),
        "inputs_records": (json.dumps({"inputs": [row]}).encode(), as_json),
        "instances": (json.dumps({"instances": [row]}).encode(), as_json),
        "data_uri": (json.dumps({"instances": [uri]}).encode(), as_json),
        "csv": (table.to_csv(index=False).encode(), "text/csv"),
        "parquet": (parquet.getvalue(), "application/vnd.apache.parquet"),
    }


def _comparable(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name not in CHANGES_EACH_TIME}


def test_every_payload_form_gives_the_same_answer(served: Served, retina: bytes) -> None:
    answers = {}
    for form, (body, content_type) in _payloads(retina).items():
        status, answer = served.post(body, content_type)
        assert status == 200, (form, answer)
        answers[form] = _comparable(answer["predictions"][0])
    expected = answers["dataframe_split"]
    assert expected["image_id"] == "left-eye"
    assert {form: answer for form, answer in answers.items() if answer != expected} == {}


def test_the_answer_has_the_documented_columns_and_is_on_record(served: Served, retina: bytes) -> None:
    (answer,) = served.classify(retina)
    assert list(answer) == COLUMNS
    assert answer["error"] is None
    assert sum(answer[name] for name in COLUMNS if name.startswith("prob_")) == pytest.approx(1)
    assert answer["confidence"] == max(answer[name] for name in COLUMNS if name.startswith("prob_"))
    assert answer["model_version"] == "1"
    (record,) = [one for one in read_records(served.records) if one["prediction_id"] == answer["prediction_id"]]
    assert {name: record[name] for name in COLUMNS} == answer
    assert (record["width"], record["height"], record["format"], record["image_bytes"]) == (1411, 1411, "JPEG", len(retina))
    assert record["model_name"] == NAME
    assert record["model_source"] == "direct"


def test_explain_adds_a_heatmap(served: Served, retina: bytes) -> None:
    plain, explained = served.classify(retina)[0], served.classify(retina, explain=True)[0]
    picture = Image.open(io.BytesIO(base64.b64decode(explained.pop("heatmap_png"))))
    assert (picture.format, picture.size) == ("PNG", (352, 352))
    assert _comparable(plain) == _comparable(explained)


def test_strict_refuses_the_request_without_echoing_it(served: Served, retina: bytes) -> None:
    before = len(read_records(served.records))
    rows = [
        {"image": base64.b64encode(retina).decode(), "image_id": "patient-4711"},
        {"image": "secret-but-not-base64", "image_id": "patient-4712"},
    ]
    status, text = served.post(json.dumps({"dataframe_records": rows, "params": {"strict": True}}).encode())
    assert status == 400
    assert "row 1: base64_invalid" in text
    for leaked in ("patient", "secret", "Traceback", "File \\"):
        assert leaked not in text
    assert len(read_records(served.records)) == before


def test_strict_answers_good_requests(served: Served, retina: bytes) -> None:
    assert served.classify(retina, strict=True)[0]["error"] is None


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{not json", "application/json", 400),
        (b'{"dataframe_records": [{"picture": "x"}]}', "application/json", 400),
        (b'{"dataframe_records": []}', "application/json", 400),
        (b'{"rows": [{"image": "x"}]}', "application/json", 400),
        (b'{"dataframe_records": [{"image": "x"}], "params": {"explain": "yes"}}', "application/json", 400),
        (b"not a parquet file", "application/vnd.apache.parquet", 400),
        (b"\xff\xd8\xff", "image/jpeg", 415),
    ],
)
def test_malformed_requests_are_refused(served: Served, body: bytes, content_type: str, status: int) -> None:
    assert served.post(body, content_type)[0] == status


def test_a_request_without_rows_gets_an_empty_answer(served: Served) -> None:
    status, answer = served.post(b'{"dataframe_split": {"columns": ["image"], "data": []}}')
    assert (status, answer) == (200, {"predictions": []})


def test_the_workers_do_not_load_tensorflow(served: Served, retina: bytes) -> None:
    served.classify(retina)
    maps = {pid: Path(f"/proc/{pid}/maps").read_text() for pid in served.workers()}
    assert any("litert" in text.lower() for text in maps.values())
    assert [pid for pid, text in maps.items() if "/tensorflow/" in text] == []


def test_the_benchmarks_ask_a_served_model_as_they_ask_a_package(served: Served, retina: bytes) -> None:
    from benchmarks.ask import ask_all, of_package, of_url
    from tests.support.servers import PROJECT

    photos = [retina, (PROJECT / "samples" / "canary.jpg").read_bytes(), b"no photo"]
    asks = of_url(served.url), of_package(PROJECT / "models")
    given, expected = (ask_all(ask, [lambda photo=photo: photo for photo in photos]) for ask in asks)
    same = ["predicted_class", "decision", "error_code"]
    assert given[same].fillna("").to_numpy().tolist() == expected[same].fillna("").to_numpy().tolist()
    assert given["confidence"][:2].tolist() == pytest.approx(expected["confidence"][:2].tolist(), abs=1e-5)


def test_real_photos_are_answered_as_in_process(served: Served, real_photos: pd.DataFrame, tmp_path: Path) -> None:
    from model_code.classifier import Classifier
    from model_code.settings import ServingSettings
    from tests.support.servers import PROJECT

    rows = real_photos.groupby(["label", "source"]).head(5)
    photos = [path.read_bytes() for path in rows["file"]]
    local = Classifier(PROJECT / "models", "1", ServingSettings.from_env({}))
    expected = [local.classify(photo).answer for photo in photos]
    given = served.classify(*photos)
    assert [one["predicted_class"] for one in given] == [one["predicted_class"] for one in expected]
    assert [one["confidence"] for one in given] == pytest.approx([one["confidence"] for one in expected], abs=1e-5)
    correct = [one["predicted_class"] == label for one, label in zip(given, rows["label"], strict=True)]
    assert sum(correct) / len(correct) > 0.7
