import io
import json
import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pydicom
import pytest
from mlflow.models import Model
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless, RLELossless

from model_code.classifier import Classifier
from model_code.decode import Photo, decode
from model_code.image_error import ImageError
from model_code.pyfunc_model import PACKAGE_ARTIFACT, EyeDiseaseModel
from model_code.schema import DICOM_FACTS
from model_code.settings import ServingSettings
from tests.support.decoding import decode_apart
from tests.support.dicom import OWN_FILES, PATIENT, compressed, dicom, dicom_jpeg, dicom_jpeg_2000
from tests.support.photos import PACKAGE, encode, fundus, many_scans, sixteen_bit

COLOUR = fundus(200).crop((0, 30, 200, 170))
GREY = COLOUR.convert("L")
SIXTEEN = np.asarray(sixteen_bit(GREY)).astype(np.uint16)
YBR = np.asarray(COLOUR.convert("YCbCr"))
PLAIN = dicom(COLOUR)


def _decode(data: bytes) -> Photo:
    return decode(data, 448, 50_000_000)


def _refusal(data: bytes) -> ImageError:
    with pytest.raises(ImageError) as refused:
        _decode(data)
    return refused.value


FILES = {
    "RGB": (PLAIN, COLOUR),
    "RGB implicit": (dicom(COLOUR, ImplicitVRLittleEndian), COLOUR),
    "RGB deflated": (dicom(COLOUR, DeflatedExplicitVRLittleEndian), COLOUR),
    "RGB by planes": (dicom(COLOUR, PlanarConfiguration=1, PixelData=np.moveaxis(np.asarray(COLOUR), 2, 0).tobytes()), COLOUR),
    "RGB RLE": (compressed(PLAIN, RLELossless), COLOUR),
    "RGB JPEG-LS": (compressed(PLAIN, JPEGLSLossless), COLOUR),
    "RGB JPEG 2000": (dicom_jpeg_2000(COLOUR), COLOUR),
    "RGB JPEG": (dicom_jpeg(encode(COLOUR, "JPEG", keep_rgb=True), PhotometricInterpretation="RGB"), COLOUR),
    "YBR": (dicom(YBR, PhotometricInterpretation="YBR_FULL"), COLOUR),
    "YBR RLE": (compressed(dicom(YBR, PhotometricInterpretation="YBR_FULL"), RLELossless), COLOUR),
    "YBR JPEG": (dicom_jpeg(encode(COLOUR, "JPEG")), COLOUR),
    "YBR JPEG progressive": (dicom_jpeg(encode(COLOUR, "JPEG", progressive=True)), COLOUR),
    "MONOCHROME2": (dicom(GREY), GREY),
    "MONOCHROME2 16": (dicom(SIXTEEN), GREY),
    "MONOCHROME2 12 in 16": (dicom(SIXTEEN >> 4, BitsStored=12, HighBit=11), GREY),
    "MONOCHROME2 10 in 16": (dicom(SIXTEEN >> 6, BitsStored=10, HighBit=9), GREY),
    "MONOCHROME2 16 RLE": (compressed(dicom(SIXTEEN), RLELossless), GREY),
    "MONOCHROME2 16 JPEG-LS": (compressed(dicom(SIXTEEN), JPEGLSLossless), GREY),
    "MONOCHROME2 JPEG": (dicom_jpeg(encode(GREY, "JPEG"), SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2"), GREY),
    "MONOCHROME2 16 JPEG 2000": (dicom_jpeg_2000(sixteen_bit(GREY)), GREY),
    "MONOCHROME1": (dicom(255 - np.asarray(GREY), PhotometricInterpretation="MONOCHROME1"), GREY),
    "MONOCHROME1 16": (dicom(65_535 - SIXTEEN, PhotometricInterpretation="MONOCHROME1"), GREY),
    "MONOCHROME1 JPEG": (
        dicom_jpeg(encode(GREY.point(lambda v: 255 - v), "JPEG"), SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME1"),
        GREY,
    ),
    "RGB 16": (dicom(np.asarray(COLOUR).astype(np.uint16) * 257), COLOUR),
}


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_dicom_gives_the_same_picture(name: str) -> None:
    data, expected = FILES[name]
    photo = _decode(data)
    difference = np.abs(np.asarray(photo.image, np.float32) - np.asarray(expected.convert("RGB"), np.float32)).mean()
    assert difference < 3
    assert (photo.format, photo.width, photo.height) == ("DICOM", 200, 140)


def test_a_dicom_is_answered_like_its_jpeg(retina: bytes) -> None:
    classifier = Classifier(PACKAGE, "7", ServingSettings.from_env({}))
    actual, expected = (classifier.classify(data).answer for data in (dicom_jpeg(retina), retina))
    compared = [name for name in expected if name.startswith("prob_") or name in {"decision", "ood_score", "gradable"}]
    assert {name: actual[name] for name in compared} == {name: expected[name] for name in compared}


def test_of_the_header_only_laterality_model_and_spacing_are_told() -> None:
    photo = _decode(dicom(COLOUR, ImageLaterality="L", ManufacturerModelName="Camera\n 9000 ", PixelSpacing=[0.011, 0.012]))
    assert photo.facts == {"laterality": "L", "device_model": "Camera 9000", "pixel_height_mm": 0.011, "pixel_width_mm": 0.012}
    assert set(photo.facts) == set(DICOM_FACTS)
    assert _decode(PLAIN).facts == dict.fromkeys(DICOM_FACTS)


def test_odd_facts_are_left_out() -> None:
    photo = _decode(dicom(COLOUR, Laterality="X", ManufacturerModelName="m" * 64, PixelSpacing=[0.0, 1.0]))
    assert photo.facts == {"laterality": None, "device_model": "m" * 64, "pixel_height_mm": None, "pixel_width_mm": None}


@pytest.mark.filterwarnings("ignore:Invalid value for VR:UserWarning")
def test_neither_records_nor_logs_hold_the_patient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INFERENCE_LOG_DIR", str(tmp_path / "logs"))
    folder = tmp_path / "model"
    (folder / "artifacts").mkdir(parents=True)
    (folder / "artifacts" / PACKAGE_ARTIFACT).symlink_to(PACKAGE)
    Model(run_id="run-1").save(str(folder / "MLmodel"))
    model = EyeDiseaseModel()
    model.load_context(SimpleNamespace(artifacts={PACKAGE_ARTIFACT: str(folder / "artifacts" / PACKAGE_ARTIFACT)}))
    good = dicom(COLOUR, ManufacturerModelName="Camera 9000", ImageLaterality="R")
    broken = [
        good[:-20_000],
        dicom(COLOUR, NumberOfFrames=2),
        dicom(COLOUR, PhotometricInterpretation=PATIENT[0]),
        dicom(COLOUR, BitsStored=3),
    ]
    caplog.clear()  # pydicom's words on the files that are made here
    with caplog.at_level(logging.DEBUG):
        answers = model.predict(None, pd.DataFrame({"image": pd.Series([good, *broken], dtype=object)}))
    assert answers["error_code"].notna().tolist() == [False, True, True, True, True]
    written = "".join(path.read_text() for path in (tmp_path / "logs").rglob("*.jsonl"))
    printed = "".join(capfd.readouterr())
    for text in PATIENT:
        for place in (written, printed, caplog.text, answers.to_json()):
            assert text not in place
    record = json.loads(written.splitlines()[0])
    assert (record["format"], record["laterality"], record["device_model"]) == ("DICOM", "R", "Camera 9000")


REFUSED = {
    "several frames": (dicom(COLOUR, NumberOfFrames=2), "multi_frame"),
    "several JPEG frames": (dicom_jpeg(encode(COLOUR, "JPEG"), NumberOfFrames=30), "multi_frame"),
    "signed": (dicom(SIXTEEN, PixelRepresentation=1), "mode_unsupported"),
    "palette": (dicom(GREY, PhotometricInterpretation="PALETTE COLOR"), "mode_unsupported"),
    "few bits, not told": (dicom(SIXTEEN >> 4), "mode_unsupported"),
    "too small": (dicom(GREY.resize((20, 20))), "image_too_small"),
    "too many pixels": (dicom(GREY, Rows=9_000, Columns=9_000), "image_too_many_pixels"),
    "too much memory": (dicom(COLOUR, Rows=6_000, Columns=6_000), "image_too_many_pixels"),
    "many scans": (
        dicom_jpeg(many_scans(64, 100), SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2"),
        "image_too_many_scans",
    ),
    "cut off": (PLAIN[: len(PLAIN) // 2], "image_corrupt"),
    "a JPEG that is cut off": (dicom_jpeg(encode(COLOUR, "JPEG")[:4_000], Rows=140, Columns=200), "image_corrupt"),
    "JPEG 2000 of another size": (dicom_jpeg_2000(COLOUR, Rows=64, Columns=64), "image_corrupt"),
    "no JPEG": (dicom_jpeg(encode(COLOUR, "JPEG")).replace(b"\xff\xd8\xff", b"none"), "image_corrupt"),
    "nothing but the mark": (bytes(128) + b"DICM", "format_unsupported"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_dicoms_are_refused_by_name(name: str) -> None:
    data, code = REFUSED[name]
    assert _refusal(data).code == code


OWN = {path.name: path for path in sorted(OWN_FILES.glob("*.dcm"))}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_pydicoms_own_files_are_read_as_pydicom_reads_them_or_refused() -> None:
    read = 0
    for name, path in OWN.items():
        try:
            photo = _decode(path.read_bytes())
        except ImageError as error:
            assert error.code not in {"internal_error", "decode_timeout"}, name
            continue
        dataset = pydicom.dcmread(path)
        expected = dataset.pixel_array.astype(np.float32) / (2**dataset.BitsStored - 1) * 255
        expected = expected[..., None].repeat(3, 2) if expected.ndim == 2 else expected
        if expected.shape[:2] == photo.image.size[::-1]:
            assert np.abs(expected - np.asarray(photo.image)).mean() < 1, name
            read += 1
    assert read >= 20


def test_a_dicom_without_pydicom_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from model_code.dicom import decode_dicom

    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(ImageError, match=r"pip install -r requirements-dicom\.txt") as refused:
        decode_dicom(PLAIN, 448, 50_000_000, float("inf"))
    assert refused.value.code == "format_unsupported"


def test_a_dicom_is_bounded_as_other_photos(tmp_path: Path) -> None:
    zeros = np.zeros((4_500, 4_500), np.uint8)
    deflated = io.BytesIO()
    dataset = pydicom.dcmread(io.BytesIO(dicom(COLOUR, DeflatedExplicitVRLittleEndian)))
    dataset.PixelData = bytes(600 * 2**20)
    dataset.save_as(deflated, enforce_file_format=True)
    photos = {
        "deflated-bomb": deflated.getvalue(),
        "grey": dicom(zeros),
        "jpeg-2000": dicom_jpeg_2000(Image.new("L", (4_500, 4_500))),
        "jpeg": dicom_jpeg(encode(Image.new("RGB", (7_000, 7_000)), "JPEG")),
    }
    results, written = decode_apart(tmp_path, photos, timeout_seconds=60)
    assert written == ""
    assert {name: round(result["grown"] / 2**20) for name, result in results.items() if result["grown"] > 256 * 2**20} == {}
    assert [name for name, result in results.items() if result["code"]] == ["deflated-bomb"]
