"""Training on tiny sets: it learns, resumes, writes packages that answer; what cannot be trained on is refused."""

import platform
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import keras
import mlflow
import numpy as np
import pytest
from PIL import Image

from eye_disease.evaluation.breakdown import Breakdown
from eye_disease.evaluation.within_source import POOLED
from eye_disease.training import run as training_run
from eye_disease.training.dataset import AugmentedPhotos
from eye_disease.training.loop import LAST, Schedule, read_history
from eye_disease.training.malloc import keep_freed_memory
from eye_disease.training.package import Finished
from eye_disease.training.run import Training, run
from eye_disease.training.split import of_folder
from model_code.canary import canary_photo, differences, expected_answer
from model_code.classifier import Classifier
from model_code.package import LITERT_FILE, ModelFacts, keras_file
from model_code.runtime import LiteRTRuntime
from model_code.settings import ServingSettings
from tests.support.photos import SAMPLES, encode, fundus
from tests.support.servers import PROJECT, Served, environment, python

SIZE = 64


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small convolutional network without a head."""
    keras.utils.set_random_seed(7)
    image = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Rescaling(1 / 255)(image)
    for width, stride in ((8, 2), (16, 2), (32, 4)):
        x = keras.layers.Conv2D(width, 3 if stride == 2 else 5, strides=stride, padding="same", use_bias=False)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.8)(x))
    path = tmp_path_factory.mktemp("base") / "base.keras"
    keras.Model(image, x).save(path)
    return str(path)


def _photo(seed: int, striped: bool) -> bytes:
    photo = np.asarray(fundus(150, seed=seed), np.float32)
    if striped:
        photo = photo * (1 + 0.6 * np.sign(np.sin(np.arange(150) / 2.5 + seed)))[:, None, None]
    return encode(Image.fromarray(photo.clip(0, 255).astype(np.uint8)), "PNG")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen photos of two classes, a folder a class."""
    photos = tmp_path_factory.mktemp("photos")
    for seed in range(16):
        folder = photos / ("striped" if seed % 2 else "smooth")
        folder.mkdir(exist_ok=True)
        (folder / f"{seed}.png").write_bytes(_photo(seed + 1, striped=seed % 2 == 1))
    return photos


@pytest.fixture(scope="module")
def untracked() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENABLE_MLFLOW_TRACKING", "false")
        yield


@pytest.fixture(scope="module")
def trained(photos: Path, base: str, tmp_path_factory: pytest.TempPathFactory, untracked: None) -> tuple[Training, Finished]:
    training = _training(photos, base, tmp_path_factory.mktemp("trained"), epochs=12)
    return training, run(training)


def _training(photos: Path, base: str, folder: Path, epochs: int) -> Training:
    return Training(
        rows=of_folder(photos),
        folder=photos,
        base=base,
        work=folder / "work",
        output=folder / "package",
        canary=SAMPLES / "canary.jpg",
        size=SIZE,
        validation_share=0.5,
        schedule=Schedule(epochs=epochs, batch=4, learning_rate=1e-2, average=0.8, patience=epochs + 1),
    )


def test_sixteen_photos_are_learned_and_the_package_answers(trained: tuple[Training, Finished]) -> None:
    training, finished = trained
    assert finished.figures.accuracy.value == 1
    classifier = Classifier(training.output, "1", ServingSettings.from_env({}))
    answers = {path: classifier.classify(path.read_bytes()).answer for path in training.folder.glob("*/*.png")}
    assert all(answer["predicted_class"] == path.parent.name for path, answer in answers.items())
    assert all(answer["ood_score"] is not None and answer["gradable"] is not None for answer in answers.values())
    canary = classifier.classify(canary_photo(training.output)).answer
    assert differences(canary, expected_answer(training.output)) == []
    kept = Breakdown.from_dict(ModelFacts.load(training.output).provenance)
    assert kept is not None
    pooled = kept.within.sources[POOLED]
    assert (pooled.accuracy.value, pooled.accuracy.n) == (1, finished.figures.accuracy.n)
    assert pooled.reported is not None, "the decisions are known"
    assert kept.groups is None, "neither age nor sex is"


def test_the_best_epoch_is_kept_not_the_last(trained: tuple[Training, Finished]) -> None:
    training, finished = trained
    history = read_history(training.work)
    assert len(history) == 12
    best = max(history, key=lambda epoch: epoch.score)
    assert best.score > history[0].score
    assert finished.figures.macro_f1 == pytest.approx(best.macro_f1, abs=1e-6)


@pytest.mark.usefixtures("untracked")
def test_a_broken_off_training_goes_on_where_it_was(
    photos: Path, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    training, seen = _training(photos, base, tmp_path, epochs=4), []

    class Recorder(AugmentedPhotos):
        def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
            seen.append((self._epoch, index))
            return super().__getitem__(index)

    def break_off(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training_run, "AugmentedPhotos", Recorder)
    with monkeypatch.context() as patch:
        patch.setattr(
            "eye_disease.training.loop._Keeper.on_epoch_begin", lambda keeper, epoch, logs=None: epoch < 2 or break_off()
        )
        patch.setattr("eye_disease.training.loop._Keeper._start", 0.0, raising=False)
        with pytest.raises(KeyboardInterrupt):
            run(training)
    before = read_history(training.work)
    assert len(before) == 2
    seen.clear()
    run(training)
    history = read_history(training.work)
    assert history[:2] == before
    assert [epoch.epoch for epoch in history] == [0, 1, 2, 3]
    assert {epoch for epoch, _ in seen} <= {2, 3, 4}
    assert "Going on after epoch 2" in capsys.readouterr().out


def test_other_options_do_not_go_on_with_a_training(trained: tuple[Training, Finished]) -> None:
    training, _ = trained
    with pytest.raises(ValueError, match=r"other options \(batch: 4 -> 8\).*--work"):
        run(replace(training, schedule=replace(training.schedule, batch=8)))


def test_the_package_holds_the_network_without_its_optimizer(trained: tuple[Training, Finished]) -> None:
    training, _ = trained
    packaged, newest = keras_file(training.output), training.work / LAST
    assert keras.models.load_model(newest).optimizer.iterations > 0
    assert not keras.models.load_model(packaged).compiled
    assert 2 * packaged.stat().st_size < newest.stat().st_size


@pytest.mark.usefixtures("untracked")
def test_a_trained_network_teaches_another(trained: tuple[Training, Finished], base: str, tmp_path: Path) -> None:
    training, _ = trained
    alone = _training(training.folder, base, tmp_path / "alone", epochs=1)
    taught = replace(alone, work=tmp_path / "work", teachers=(str(keras_file(training.output)),))
    run(alone)
    run(taught)
    (told,) = read_history(taught.work)
    assert told.training_loss != pytest.approx(read_history(alone.work)[0].training_loss, rel=1e-3)
    run(taught)
    assert read_history(taught.work) == [told], "the same teachers go on with the same training"
    with pytest.raises(ValueError, match=r"other options \(teachers: .* -> \[\]"):
        run(replace(taught, teachers=()))


@pytest.mark.usefixtures("untracked")
def test_photos_of_another_finding_train_an_output_of_the_package(photos: Path, base: str, tmp_path: Path) -> None:
    training = _training(photos, base, tmp_path, epochs=2)
    rows = training.rows.assign(split=["train", "val"] * 8)
    more = rows.iloc[:4].assign(label=["other", "other", "not_smooth", "unsure"])
    rows = rows.iloc[4:]
    finished = run(
        replace(training, rows=rows, more=more, fold=True, blend=base, schedule=replace(training.schedule, optimizer="lamb"))
    )
    assert np.isfinite(read_history(training.work)[-1].other_auroc)
    assert finished.facts.classes == ("smooth", "striped"), "the other labels are no classes"
    assert len(finished.probabilities) == 6
    with LiteRTRuntime(training.output / LITERT_FILE, threads=1).session() as infer:
        outputs = infer(np.zeros((1, SIZE, SIZE, 3), np.float32))
    assert outputs["other_finding"].shape == ()
    with pytest.raises(ValueError, match=r"other options .*more: 4 -> 3"):
        run(replace(training, rows=rows, more=more.iloc[:3], fold=True))


def test_without_epochs_the_base_is_packaged_as_it_is(photos: Path, trained: tuple[Training, Finished], tmp_path: Path) -> None:
    training, finished = trained
    again = run(_training(photos, str(keras_file(training.output)), tmp_path, epochs=0))
    assert again.probabilities == pytest.approx(finished.probabilities, abs=1e-4)
    assert read_history(tmp_path / "work") == []


def test_the_command_trains_and_mlflow_holds_the_run(photos: Path, base: str, tmp_path: Path, tracking: Served) -> None:
    given = {"data": photos, "base": base, "image_size": SIZE, "epochs": 2, "work": tmp_path / "work", "batch": 4}
    given |= {"output": tmp_path / "package", "validation-share": 0.5}
    parameters = [part for name, value in given.items() for part in ("-P", f"{name}={value}")]
    command = ["-m", "mlflow", "run", str(PROJECT), "-e", "train", "--env-manager", "local", "--experiment-name", "trained"]
    env = environment(MLFLOW_TRACKING_URI=tracking.url, TF_CPP_MIN_LOG_LEVEL="3")
    done = python(*command, *parameters, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "epoch 2/2" in done.stdout
    assert "min left" in done.stdout
    assert f"Register it: python register.py register --package {tmp_path / 'package'}" in done.stdout
    assert ModelFacts.load(tmp_path / "package").classes == ("smooth", "striped")

    client = mlflow.MlflowClient(tracking.url)
    (kept,) = client.search_runs([client.get_experiment_by_name("trained").experiment_id])
    assert kept.info.status == "FINISHED"
    assert kept.data.params["train.epochs"] == "2"
    wanted = {"validation_accuracy", "validation_recall_striped", "validation_accuracy_source_unknown", "training_loss"}
    assert wanted | {"validation_reported", "validation_reported_source_unknown"} <= set(kept.data.metrics)
    assert len(client.get_metric_history(kept.info.run_id, "validation_loss")) == 2
    listed = {Path(item.path).name for item in client.list_artifacts(kept.info.run_id, "training")}
    plots = {"confusion.png", "reliability.png", "roc.png", "losses.png", "worst_mistakes.png", "within_source.png"}
    assert plots | {"manifest.csv", "duplicates.csv", "accuracy_by_source.json"} <= listed


def test_a_quantized_package_registers_and_training_goes_on_from_the_version(
    trained: tuple[Training, Finished], tmp_path: Path, tracking: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, finished = trained
    quantized = replace(_training(training.folder, str(keras_file(training.output)), tmp_path / "a", epochs=0), quantize=True)
    assert run(quantized).probabilities == pytest.approx(finished.probabilities, abs=0.1)
    env = environment(MLFLOW_TRACKING_URI=tracking.url, TF_CPP_MIN_LOG_LEVEL="3")
    done = python("register.py", "register", "--name", "tiny", "--package", str(quantized.output), env=env)
    assert done.returncode == 0, done.stderr
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.url)
    again = run(replace(_training(training.folder, "models:/tiny/1", tmp_path / "b", epochs=0), size=32))
    assert again.facts.recipe == finished.facts.recipe
    assert again.facts.classes == ("smooth", "striped")
    assert again.facts.quantized, "as the version that it goes on from"
    assert again.probabilities == pytest.approx(finished.probabilities, abs=0.1)


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        (["--data", "absent"], "absent is not a folder"),
        (["--manifest", "absent.csv"], "absent.csv is not a file"),
        (["--base", "EfficientNetX9"], "expected a .keras file, models:/NAME/VERSION or one of"),
        (["--base", "absent.keras"], "absent.keras is not a Keras model file"),
        (["--optimizer", "sgd"], "optimizer='sgd' is not known. Expected one of adamw, lamb"),
    ],
)
@pytest.mark.usefixtures("untracked")
def test_what_cannot_be_trained_is_said_in_a_line(
    option: list[str], problem: str, photos: Path, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eye_disease.cli import train

    source = [] if option[0] in {"--data", "--manifest"} else ["--data", str(photos)]
    given = ["train.py", "--base", base, "--image-size", str(SIZE), "--work", str(tmp_path / "work"), *source, *option]
    monkeypatch.setattr("sys.argv", given)
    with pytest.raises(SystemExit, match=problem):
        train.main()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have rules of their own")
def test_glibc_takes_the_order_to_keep_freed_memory() -> None:
    assert keep_freed_memory()
