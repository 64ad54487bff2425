"""Retraining as a whole: a tiny network on the real registry, with gates of the test's own."""

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from PIL import Image

from eye_disease.common.errors import BusyError, TrackingUnavailableError
from eye_disease.common.lock import only_run
from eye_disease.evaluation.figures import measure
from eye_disease.monitoring.action_rules import Request
from eye_disease.monitoring.actions import Actions, commands
from eye_disease.records.ingest import ingest
from eye_disease.records.labels import LabelBook
from eye_disease.records.storage import Storage
from eye_disease.records.store import RecordStore
from eye_disease.registry.gate.gate import GateError
from eye_disease.registry.promotion import promote, rollback
from eye_disease.registry.register import register_package
from eye_disease.registry.versions import VersionError, read_registry, resolve_version, version_in_production
from eye_disease.retraining import run as retraining
from eye_disease.retraining.labelled_photos import labels_used_until
from eye_disease.retraining.run import Retraining, RetrainSettings, TooFewLabelsError, retrain
from eye_disease.training import tracking as tracking_of_training
from eye_disease.training.loop import Schedule, read_history
from eye_disease.training.package import Finished
from eye_disease.training.photos import Photos
from eye_disease.training.run import Training
from eye_disease.training.run import run as train
from eye_disease.training.split import of_folder
from model_code.package import ModelFacts
from model_code.preprocessing import Recipe
from tests.support.logs import append, prediction_id, record
from tests.support.photos import SAMPLES, encode, fundus
from tests.support.servers import Served
from tests.support.versions import passed, passes, refuses

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")
TINY, CLASSES, SIZE = "tiny-retrained", ("smooth", "striped"), 64
SCHEDULE = Schedule(epochs=2, batch=8, learning_rate=1e-3, average=0.8, patience=3)


def _photo(seed: int) -> bytes:
    """Striped if the seed is odd."""
    photo = np.asarray(fundus(150, seed=seed), np.float32)
    if seed % 2:
        photo = photo * (1 + 0.6 * np.sign(np.sin(np.arange(150) / 2.5 + seed)))[:, None, None]
    return encode(Image.fromarray(photo.clip(0, 255).astype(np.uint8)), "PNG")


@dataclass
class Clinic:
    """A registered tiny network in Production, the photos it learned from, and a log of answered photos."""

    folder: Path

    @property
    def request(self) -> Retraining:
        return Retraining(
            manifest=self.folder / "manifest.csv",
            photos=self.folder / "original",
            feedback_photos=self.folder / "clinic",
            inference_log=str(self.folder / "log"),
            work=self.folder / "work",
            canary=SAMPLES / "canary.jpg",
            base=f"models:/{TINY}/Production",
            why="photos are dark",
            schedule=SCHEDULE,
        )

    def answered_and_labelled(self, seeds: range, at: datetime) -> None:
        """Photos with names that must go nowhere, records of them, and labels."""
        (self.folder / "clinic").mkdir(exist_ok=True)
        records = []
        for seed in seeds:
            (self.folder / "clinic" / f"Maria-{seed}.png").write_bytes(data := _photo(seed))
            digest = hashlib.sha256(data).hexdigest()
            made = record(seed, at, f"p{seeds[0]}", CLASSES, image_sha256=digest, prediction_id=prediction_id(at))
            records.append(made | {"model_name": TINY})
        append(self.folder / "log" / TINY / "1", *records)
        storage = Storage(str(self.folder / "log"))
        ingest(RecordStore(storage, TINY, "1"), at + timedelta(hours=2))
        book = LabelBook(storage, TINY)
        for answer, seed in zip(records, seeds, strict=True):
            book.add(answer["prediction_id"], CLASSES[seed % 2], "grader-1", at)

    def retrain(self, gate: Any = passes, settings: RetrainSettings | None = None, **changes: Any) -> Any:
        settings = settings or RetrainSettings(min_labels=8)
        return retrain(replace(self.request, **changes), settings, self.lines.append, gate)

    def __post_init__(self) -> None:
        self.lines: list[str] = []


@pytest.fixture(scope="module")
def trained(tracking: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with `original/` and its manifest; the network that learned from it is version 1, in Production."""
    folder = tmp_path_factory.mktemp("first")
    for seed in range(1, 17):
        kind = folder / "original" / CLASSES[seed % 2]
        kind.mkdir(parents=True, exist_ok=True)
        (kind / f"{seed}.png").write_bytes(_photo(seed))
    rows = of_folder(folder / "original").assign(split=["train", "val"] * 8, source="first")
    rows.to_csv(folder / "manifest.csv", index=False)
    keras.utils.set_random_seed(7)
    image = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Rescaling(1 / 255)(image)
    for width in (8, 16):
        x = keras.layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.8)(x))
    keras.Model(image, x).save(folder / "base.keras")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", tracking.url)
        patch.setenv("MLFLOW_EXPERIMENT_ID", "")  # MLflow sets it for the whole process
        patch.delenv("MLFLOW_EXPERIMENT_ID")
        patch.setenv("ENABLE_MLFLOW_TRACKING", "false")
        train(
            Training(
                rows=rows,
                folder=folder / "original",
                base=str(folder / "base.keras"),
                work=folder / "first-work",
                output=folder / "package",
                canary=SAMPLES / "canary.jpg",
                size=SIZE,
                schedule=SCHEDULE,
            )
        )
        register_package(folder / "package", TINY)
        promote(TINY, "1", "Production", judged=passed(TINY, "1"))
        yield folder


@pytest.fixture
def clinic(trained: Path, tmp_path: Path) -> Iterator[Clinic]:
    """Twelve labelled photos; afterwards version 1 is the only one again."""
    for name in ("original", "manifest.csv"):
        (tmp_path / name).symlink_to(trained / name)
    made = Clinic(tmp_path)
    made.answered_and_labelled(range(101, 113), datetime(2026, 3, 1, 12, tzinfo=UTC))
    yield made
    if version_in_production(TINY, 5) != "1":
        rollback(TINY, "the test is over")
    for version in read_registry(MlflowClient(), TINY).stages:
        if version != "1":
            MlflowClient().delete_model_version(TINY, version)


@pytest.fixture
def quick(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The candidate is the first network again, and not loaded in a process of its own: other tests here do both for real."""
    monkeypatch.setattr(retraining, "train", lambda training: shutil.copytree(trained / "package", training.output))
    monkeypatch.setattr("eye_disease.registry.register.require_canary", lambda *arguments: None)


def _tags(version: str) -> dict[str, str]:
    return MlflowClient().get_model_version(TINY, version).tags


def test_a_candidate_is_made_and_waits_in_staging_for_a_person(clinic: Clinic) -> None:
    seen: list[tuple[str, str, pd.DataFrame]] = []

    def gate(name: str, version: str, labelled: Path, settings: Any) -> Any:
        assert read_registry(MlflowClient(), TINY).holder("Staging") == version
        assert settings.photos is None
        assert all((labelled.parent / path).is_file() for path in pd.read_csv(labelled)["path"])
        seen.append((name, version, pd.read_csv(labelled)))
        return passes(name, version, labelled, settings)

    done = clinic.retrain(gate)
    ((name, version, rows),) = seen
    assert (done.name, done.version, done.stage, done.passed, name) == (TINY, version, "Staging", True, TINY)
    assert version_in_production(TINY, 5) == "1"
    tags = _tags(version)
    assert {key: tags[key] for key in ("retrained_from", "retrained_why", "feedback_labels", "feedback_until")} == {
        "retrained_from": "1",
        "retrained_why": "photos are dark",
        "feedback_labels": "12",
        "feedback_until": "2026-03-01T12:00:00+00:00",
    }
    validation = rows[rows["split"] == "val"]
    assert (validation["source"] == "first").sum() == 8, "the validation photos of the first training, all of them"
    held_out = (validation["source"] == "feedback").sum()
    assert 0 < held_out < 12
    assert (rows["source"] == "feedback").sum() == 12
    folder = clinic.folder / "work" / "0001"
    assert (
        ModelFacts.load(folder / "package")
        .provenance["description"]
        .startswith(
            f"Retrained from version 1 with 12 photos labelled after they were answered ({held_out} of them held out) and 16"
        )
    )
    assert len(read_history(folder / "training")) == 2
    assert not any("Maria" in path.read_text() for path in folder.rglob("*.csv")), "names of the clinic's files stay there"
    assert not (folder / "training" / "squares.npy").exists()


@pytest.mark.usefixtures("quick")
def test_a_refused_candidate_stays_in_staging_and_its_labels_are_used(clinic: Clinic) -> None:
    done = clinic.retrain(refuses, RetrainSettings(min_labels=8, promote=True))
    assert (done.stage, done.passed, done.reasons) == ("Staging", False, ("recall of glaucoma is 0.41", "answers are late"))
    assert read_registry(MlflowClient(), TINY).stages[done.version] == "Staging"
    assert version_in_production(TINY, 5) == "1"
    assert labels_used_until(TINY) == datetime(2026, 3, 1, 12, tzinfo=UTC)
    with pytest.raises(TooFewLabelsError, match=r"0 new labelled photos, and RETRAIN_MIN_LABELS=8 are needed"):
        clinic.retrain()
    clinic.answered_and_labelled(range(201, 205), datetime(2026, 3, 2, 12, tzinfo=UTC))
    with pytest.raises(TooFewLabelsError, match="4 new labelled photos"):
        clinic.retrain()
    assert clinic.lines[-1].startswith("16 labelled photos found, 4 of them new.")
    assert len(read_registry(MlflowClient(), TINY).stages) == 2, "nothing was made"


@pytest.mark.usefixtures("quick")
def test_a_setting_promotes_what_has_passed(clinic: Clinic) -> None:
    done = clinic.retrain(passes, RetrainSettings(min_labels=8, promote=True))
    assert (done.stage, version_in_production(TINY, 5)) == ("Production", done.version)


@pytest.mark.usefixtures("quick")
def test_the_drift_job_rolls_what_was_promoted_back_by_the_real_command(clinic: Clinic, tmp_path: Path) -> None:
    done = clinic.retrain(passes, RetrainSettings(min_labels=8, promote=True))
    actions = Actions(tmp_path / "actions", commands((), True), partial(version_in_production, timeout_seconds=5))
    actions.ask(Request("rollback", TINY, done.version, 7, "The answer to the canary photo is wrong."))
    (report,) = actions.advance(lambda model, version: True)
    assert report.state == "done", report.sentence
    assert f"{TINY} version 1 is in Production again, version {done.version} in Archived. No gate was run." in report.sentence
    assert version_in_production(TINY, 5) == "1"
    assert "The answer to the canary photo is wrong." in _tags(done.version)["rolled_back"]


def test_too_few_labels_say_what_was_left_out(clinic: Clinic) -> None:
    (clinic.folder / "clinic" / "Maria-101.png").unlink()
    book = LabelBook(Storage(clinic.request.inference_log), TINY)
    (disputed, *_) = book.read().current
    book.add(disputed, CLASSES[0], "grader-2", datetime.now(UTC))
    book.add(disputed, CLASSES[1], "grader-3", datetime.now(UTC))
    with pytest.raises(TooFewLabelsError) as caught:
        clinic.retrain(settings=RetrainSettings(min_labels=50))
    message = str(caught.value)
    assert "RETRAIN_MIN_LABELS=50 are needed" in message
    assert "1 labels that people contradict each other on" in message
    assert not list((clinic.folder / "work").glob("0*"))


def test_the_same_command_goes_on_after_the_training_broke_off(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_off(keeper: Any, epoch: int, logs: Any = None) -> None:
        keeper._start = 0.0
        if epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("eye_disease.training.loop._Keeper.on_epoch_begin", break_off)
        with pytest.raises(KeyboardInterrupt):
            clinic.retrain()
    clinic.answered_and_labelled(range(201, 205), datetime(2026, 3, 2, 12, tzinfo=UTC))
    done = clinic.retrain()
    assert any(line.startswith("Resuming") for line in clinic.lines)
    assert _tags(done.version)["feedback_labels"] == "12", "labels that came meanwhile wait for the next retraining"
    assert [path.name for path in (clinic.folder / "work").glob("0*")] == ["0001"]
    assert len(read_registry(MlflowClient(), TINY).stages) == 2


@pytest.mark.usefixtures("quick")
def test_a_version_that_is_registered_is_not_registered_again(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(*arguments: Any) -> None:
        raise GateError("no photos")

    with pytest.raises(GateError):
        clinic.retrain(cannot)
    (version,) = set(read_registry(MlflowClient(), TINY).stages) - {"1"}
    assert read_registry(MlflowClient(), TINY).stages[version] == "Staging"
    monkeypatch.setattr(retraining, "train", cannot)
    assert clinic.retrain().version == version


@pytest.mark.usefixtures("quick")
def test_one_that_starts_from_what_is_not_in_production_any_more_is_given_up(clinic: Clinic) -> None:
    def cannot(*arguments: Any) -> None:
        raise GateError("no photos")

    with pytest.raises(GateError):
        clinic.retrain(cannot)
    (version,) = set(read_registry(MlflowClient(), TINY).stages) - {"1"}
    promote(TINY, version, "Production", judged=passed(TINY, version))
    with pytest.raises(TooFewLabelsError):
        clinic.retrain()
    assert any("Abandoned" in line for line in clinic.lines)


def test_the_sheet_of_mistakes_in_mlflow_shows_no_photo_of_the_feedback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(tracking_of_training, "contact_sheet", lambda views, captions, path: shown.extend(captions))
    rows = pd.DataFrame({"path": list("abcd"), "label": CLASSES[0], "source": ["first", "feedback"] * 2, "split": "val"})
    photos = Photos(rows, np.zeros((4, 32, 32, 3), np.uint8), CLASSES, Recipe(32))
    probabilities = np.array([[0.4, 0.6], [0.1, 0.9], [0.3, 0.7], [0.6, 0.4]])
    figures = measure(probabilities, photos.labels, CLASSES, photos.sources)
    facts = ModelFacts(TINY, CLASSES, Recipe(32))
    for name in ("plot_confusion", "plot_reliability", "plot_roc"):
        monkeypatch.setattr(tracking_of_training, name, lambda *arguments: None)
    tracking_of_training.draw(Finished(facts, figures, probabilities), [], photos, tmp_path)
    assert [caption.split()[1] for caption in shown] == ["0.70", "0.60"]


def test_two_at_once(clinic: Clinic) -> None:
    with only_run(clinic.request.work), pytest.raises(BusyError):
        clinic.retrain()


def test_the_base_is_a_number_of_the_registry(clinic: Clinic) -> None:
    for uri in (f"models:/{TINY}/Production", f"models:/{TINY}@production", f"models:/{TINY}/1"):
        assert resolve_version(uri) == (TINY, "1")
    for uri, message in {
        "base.keras": "Expected models:/NAME/Production",
        f"models:/{TINY}/Staging": "has no version in Staging",
        f"models:/{TINY}/99": "has no version 99",
        f"models:/{TINY}@nobody": "nobody",
    }.items():
        with pytest.raises(VersionError, match=message):
            resolve_version(uri)


def test_the_version_in_production_is_the_registrys(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    client = MlflowClient()
    assert version_in_production("no-such-model", 5) is None
    assert version_in_production(TINY, 5) == "1"
    client.delete_registered_model_alias(TINY, "production")
    assert version_in_production(TINY, 5) == "1", "by its stage"
    client.set_registered_model_alias(TINY, "production", "1")
    with monkeypatch.context() as patch, pytest.raises(TrackingUnavailableError):
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        version_in_production(TINY, 1)
