"""Training on tiny sets: it learns, resumes, writes packages that answer; what cannot be trained on is refused."""

import platform
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import keras
import mlflow
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image

from eye_disease.training import run as training_run
from eye_disease.training.augment import augment
from eye_disease.training.dataset import MAX_REPEATS, AugmentedPhotos, class_weights, mixed_up
from eye_disease.training.loop import LAST, Schedule, read_history
from eye_disease.training.malloc import keep_freed_memory
from eye_disease.training.network import build, scaling_of
from eye_disease.training.package import Finished
from eye_disease.training.photos import Photos
from eye_disease.training.run import Training, run
from eye_disease.training.split import of_folder
from model_code.canary import canary_photo, differences, expected_answer
from model_code.classifier import Classifier
from model_code.package import ModelFacts, keras_file
from model_code.preprocessing import Recipe, field_of_view
from model_code.settings import ServingSettings
from tests.support.photos import PACKAGE, SAMPLES, encode, fundus
from tests.support.servers import PROJECT, Served, environment, python

SIZE = 64


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small convolutional network without a head."""
    keras.utils.set_random_seed(7)
    image = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Rescaling(1 / 255)(image)
    for width in (8, 16, 32):
        x = keras.layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False)(x)
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
    assert {"validation_accuracy", "validation_recall_striped", "training_loss"} <= set(kept.data.metrics)
    assert len(client.get_metric_history(kept.info.run_id, "validation_loss")) == 2
    listed = {Path(item.path).name for item in client.list_artifacts(kept.info.run_id, "training")}
    plots = {"confusion.png", "reliability.png", "roc.png", "losses.png", "worst_mistakes.png"}
    assert plots | {"manifest.csv", "duplicates.csv", "accuracy_by_source.json"} <= listed


def test_a_trained_package_registers_and_training_goes_on_from_the_version(
    trained: tuple[Training, Finished], tmp_path: Path, tracking: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, finished = trained
    env = environment(MLFLOW_TRACKING_URI=tracking.url, TF_CPP_MIN_LOG_LEVEL="3")
    done = python("register.py", "register", "--name", "tiny", "--package", str(training.output), env=env)
    assert done.returncode == 0, done.stderr
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.url)
    again = run(replace(_training(training.folder, "models:/tiny/1", tmp_path, epochs=0), size=32))
    assert again.facts.recipe == finished.facts.recipe
    assert again.facts.classes == ("smooth", "striped")
    assert again.probabilities == pytest.approx(finished.probabilities, abs=1e-4)


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        (["--data", "absent"], "absent is not a folder"),
        (["--manifest", "absent.csv"], "absent.csv is not a file"),
        (["--base", "EfficientNetX9"], "expected a .keras file, models:/NAME/VERSION or one of"),
        (["--base", "absent.keras"], "absent.keras is not a Keras model file"),
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


def _dataset(labels: list[str], squares: np.ndarray | None = None, **options: float) -> AugmentedPhotos:
    held = np.zeros((len(labels), 32, 32, 3), np.uint8) if squares is None else squares
    classes = tuple(sorted(set(labels)))
    return AugmentedPhotos(Photos(pd.DataFrame({"label": labels}), held, classes, Recipe(32)), batch=4, seed=1, **options)


def test_rare_classes_are_repeated_and_weighed() -> None:
    dataset = _dataset(["common"] * 12 + ["rare"] * 3)
    batches = [dataset[i] for i in range(len(dataset))]
    shown = np.concatenate([labels for _, labels, _ in batches]).sum(axis=0)
    assert shown.tolist() == [12, 3 * MAX_REPEATS]
    weights = np.concatenate([weights for *_, weights in batches])
    assert weights.mean() == pytest.approx(1, abs=1e-5)
    assert weights.max() / weights.min() == pytest.approx(np.sqrt(12 / 6), rel=1e-5)
    assert class_weights(np.array([100, 100])).tolist() == [1, 1]


def test_an_epoch_is_the_same_after_resuming() -> None:
    squares = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)
    labels = ["a"] * 5 + ["b"] * 4
    whole, resumed = _dataset(labels, squares), _dataset(labels, squares, epoch=1)
    first = whole[0][0]
    whole.on_epoch_end()
    for i in range(len(whole)):
        assert all((ours == theirs).all() for ours, theirs in zip(whole[i], resumed[i], strict=True))
    assert (whole[0][0] != first).any()


def test_mixed_photos_carry_both_answers_by_their_shares() -> None:
    colours = np.float32([0, 60, 120, 180, 240])
    views = np.ones((5, 4, 4, 3), np.float32) * colours[:, None, None, None]
    mixed, answers, weights = mixed_up((views, np.eye(5, dtype=np.float32), colours), 0.4, np.random.default_rng(3))
    assert mixed.shape == views.shape
    assert answers.sum(axis=1) == pytest.approx(1)
    assert answers.argmax(axis=1).tolist() == [0, 1, 2, 3, 4]
    assert mixed[:, 2, 2, 1] == pytest.approx(answers @ colours, abs=1e-3)
    assert weights == pytest.approx(answers @ colours, abs=1e-3)
    assert 0.5 <= np.diag(answers).min() < 0.95


def test_mixup_leaves_augmentation_and_order_as_they_are() -> None:
    squares = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), np.uint8)
    plain, mixing = _dataset(["a"] * 8 + ["b"], squares), _dataset(["a"] * 8 + ["b"], squares, mixup=0.4)
    assert not np.array_equal(plain[0][0], mixing[0][0])
    assert np.array_equal(plain[0][1].argmax(axis=1), mixing[0][1].argmax(axis=1))
    assert np.array_equal(mixing[0][0], mixing[0][0])


def test_the_last_epochs_are_gentle_and_mix_nothing() -> None:
    squares = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), np.uint8)
    labels = ["a"] * 5 + ["b"] * 4
    assert Schedule(epochs=10, gentle=0.3).gentle_from == 7
    for gentle_from, mixed in ((1, False), (2, True)):
        dataset = _dataset(labels, squares, mixup=0.4, gentle_from=gentle_from, epoch=1)
        answers = np.concatenate([dataset[i][1] for i in range(len(dataset))])
        assert (len(np.unique(answers)) > 2) is mixed


def test_augmented_views_stay_in_range_and_in_the_field_of_view() -> None:
    squares = np.random.default_rng(0).integers(0, 256, (32, 64, 64, 3), dtype=np.uint8)
    views = augment(tf.constant(squares), tf.random.Generator.from_seed(1)).numpy()
    assert views.shape == (32, 64, 64, 3)
    assert np.isfinite(views).all()
    assert -1 < views.min() <= views.max() < 256
    assert not views[:, field_of_view(64) == 0].any()
    cut = (views[:, 0:4, 28:36].max(axis=(1, 2, 3)) == 0).mean()
    assert 0.1 < cut < 0.9, "the frame is cut for some photos, not for all"


def test_augmentation_makes_the_colours_of_two_cameras_overlap() -> None:
    """Which of two tints a photo had is hard to tell once it is made to look as if by another camera."""
    red, blue = (np.tile(np.uint8(colour), (64, 64, 64, 1)) for colour in ((180, 90, 60), (120, 90, 120)))
    texture = np.random.default_rng(0).integers(-20, 20, (128, 64, 64, 1))
    squares = (np.concatenate([red, blue]) + texture).clip(0, 255).astype(np.uint8)
    order = np.random.default_rng(1).permutation(128)
    views = augment(tf.constant(squares[order]), tf.random.Generator.from_seed(1), strange=0.5).numpy()
    middle = views[:, 20:44, 20:44].mean(axis=(1, 2))
    tint = middle[:, 0] - middle[:, 2]
    was_red = order < 64
    threshold = np.median(tint)
    assert (tint[was_red] < threshold).mean() > 0.12
    assert (tint[~was_red] > threshold).mean() > 0.12


def test_a_head_is_kept_where_it_fits_and_new_where_not(base: str, tmp_path: Path) -> None:
    assert build(base, classes=3, size=SIZE, frozen=0.0).output.shape == (None, 3)
    bundled = str(keras_file(PACKAGE))
    kept = build(bundled, classes=4, size=224, frozen=0.3)
    assert kept.layers[-1].get_weights()[0] == pytest.approx(keras.models.load_model(bundled).layers[-1].get_weights()[0])
    assert not any(layer.trainable for layer in kept.layers[: int(0.3 * len(kept.layers))])
    assert kept.layers[-1].trainable
    assert build(bundled, classes=5, size=224, frozen=0.0).output.shape == (None, 5)


def test_a_base_of_another_size_keeps_its_weights(tmp_path: Path) -> None:
    image = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.ReLU(name="map")(keras.layers.Conv2D(4, 3, strides=2)(image))
    head = keras.layers.Dense(3, name="head")(keras.layers.GlobalAveragePooling2D()(x))
    fixed = keras.Model(image, head)
    fixed.save(tmp_path / "fixed.keras")
    larger = build(str(tmp_path / "fixed.keras"), 3, SIZE + 16, 0.0)
    assert larger.input_shape == (None, SIZE + 16, SIZE + 16, 3)
    flat = np.full((1, SIZE, SIZE, 3), 7, np.float32)
    expected = fixed.predict_on_batch(flat)
    assert larger.predict_on_batch(np.full((1, SIZE + 16, SIZE + 16, 3), 7, np.float32)) == pytest.approx(expected, abs=1e-4)


def test_a_base_without_a_feature_map_is_refused(tmp_path: Path) -> None:
    image = keras.Input((8, 8, 3))
    keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(image))).save(tmp_path / "flat.keras")
    with pytest.raises(ValueError, match="no feature map under a mean pooling"):
        build(str(tmp_path / "flat.keras"), classes=2, size=8, frozen=0.0)


@pytest.mark.parametrize(
    ("name", "scaling"),
    [("EfficientNetB0", "none"), ("InceptionV3", "tf"), ("ResNet50", "caffe"), ("DenseNet121", "torch")],
)
def test_the_scaling_of_a_keras_application_is_found(name: str, scaling: str) -> None:
    assert scaling_of(name) == scaling


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have rules of their own")
def test_glibc_takes_the_order_to_keep_freed_memory() -> None:
    assert keep_freed_memory()
