"""`register.py` against a real tracking server: versions, stages with their aliases, a model of one's own, refusals."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import mlflow
import pytest

from eye_disease.cli import register
from eye_disease.common.paths import BUNDLED_PACKAGE
from eye_disease.registry.register import RegistrationError, register_package
from tests.support.servers import PROJECT, python, serve_model
from tests.support.versions import passes_fetched

MODEL = "a-model-of-this-module"


@pytest.fixture(scope="module")
def own(registry: dict[str, str]) -> dict[str, str]:
    """Environment of a client of the tracking server, with the bundled model as version 1 of MODEL."""
    assert python("register.py", "register", "--name", MODEL, env=registry).returncode == 0
    return registry


@pytest.fixture
def client(own: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[mlflow.MlflowClient]:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", own["MLFLOW_TRACKING_URI"])
    mlflow.set_tracking_uri(own["MLFLOW_TRACKING_URI"])
    yield mlflow.MlflowClient()
    mlflow.set_tracking_uri(None)


Command = Callable[..., tuple[str, str]]


@pytest.fixture
def command(client: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`register.py` in this process; the gate, which has tests of its own, finds nothing wrong."""
    monkeypatch.setattr("eye_disease.registry.gate.gate.validate_fetched", passes_fetched)

    def run(name: str, *arguments: str, model: str = MODEL) -> tuple[str, str]:
        """(printed, printed to stderr)"""
        monkeypatch.setattr("sys.argv", ["register.py", name, "--name", model, *arguments])
        capsys.readouterr()
        register.main()
        return capsys.readouterr()

    return run


def _state(client: mlflow.MlflowClient, version: str) -> tuple[str, list[str]]:
    details = client.get_model_version(MODEL, version)
    aliases = client.get_registered_model(MODEL).aliases
    return details.current_stage, sorted(alias for alias, holder in aliases.items() if str(holder) == version)


def test_a_registered_version_holds_all_that_was_promised(own: dict[str, str], client: mlflow.MlflowClient) -> None:
    assert _state(client, "1") == ("None", [])
    version = client.get_model_version(MODEL, "1")
    model = mlflow.models.get_model_info(f"models:/{MODEL}/1")
    assert [column.name for column in model.signature.inputs] == ["image", "image_id", "site"]
    assert {param.name: param.default for param in model.signature.params} == {"explain": False, "strict": False}
    assert model.metadata["classes"] == ["cataract", "diabetic_retinopathy", "glaucoma", "normal"]
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{MODEL}/1"))
    requirements = (folder / "requirements.txt").read_text().split()
    assert all("==" in line for line in requirements)
    assert not any(line.startswith(("tensorflow", "keras")) for line in requirements)
    package = {path.name for path in (folder / "artifacts" / "package").iterdir()}
    assert {"classifier.tflite", "classifier.keras", "model.json", "statistics.npz", "canary.jpg", "canary.json"} <= package
    assert "reference_profile.json" in package
    assert (folder / "input_example.json").is_file()
    assert not list(folder.rglob("*.pkl"))
    logged = client.get_run(version.run_id).data
    provenance = json.loads((BUNDLED_PACKAGE / "model.json").read_text())["provenance"]
    assert logged.metrics["validation_accuracy"] == pytest.approx(provenance["validation"]["accuracy"]["value"])
    assert logged.params["model.input_size"] == "352"


def test_stage_and_alias_move_together(command: Command, client: mlflow.MlflowClient) -> None:
    def promote(version: str, stage: str) -> None:
        command("promote", "--version", version, "--stage", stage)

    promote("1", "Staging")
    assert _state(client, "1") == ("Staging", ["staging"])
    promote("1", "Production")
    assert _state(client, "1") == ("Production", ["production"])

    command("register", "--stage", "Staging")
    assert _state(client, "2") == ("Staging", ["staging"])
    assert _state(client, "1") == ("Production", ["production"])

    promote("2", "Production")
    assert _state(client, "2") == ("Production", ["production"])
    assert _state(client, "1") == ("Archived", [])
    by_stage = mlflow.pyfunc.load_model(f"models:/{MODEL}/Production").metadata.model_uuid
    assert mlflow.pyfunc.load_model(f"models:/{MODEL}@production").metadata.model_uuid == by_stage

    header, *listed = command("list")[0].splitlines()
    assert header.split()[:2] == ["version", "stage"]
    assert [line.split()[:2] for line in listed] == [["2", "Production"], ["1", "Archived"]]
    assert "@production" in listed[0]
    assert "@" not in listed[1]

    output, _ = command("rollback", "--reason", "misses cataracts")
    assert output.startswith(f"{MODEL} version 1 is in Production again, version 2 in Archived.\nNo gate was run.")
    assert (_state(client, "1"), _state(client, "2")) == (("Production", ["production"]), ("Archived", []))
    promote("1", "Archived")
    assert _state(client, "1") == ("Archived", [])

    output, notes = command("history")
    assert notes == ""
    assert [line.split()[3:7] for line in output.splitlines()[1:]] == [
        ["promote", "1", "None", "Staging"],
        ["promote", "1", "Staging", "Production"],
        ["promote", "2", "None", "Staging"],
        ["promote", "2", "Staging", "Production"],
        ["rollback", "1", "Archived", "Production"],
        ["archive", "1", "Production", "Archived"],
    ]
    second_staged = output.splitlines()[3].split()[1]
    assert "Production: version 1 since" in command("history", "--at", second_staged)[0]
    with pytest.raises(SystemExit, match="'yesterday' is no time"):
        command("history", "--at", "yesterday")


def test_wrong_promotions_are_explained(own: dict[str, str], command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    unknown = python("register.py", "promote", "--name", MODEL, "--version", "99", "--stage", "Staging", env=own)
    assert unknown.returncode == 1
    assert f"{MODEL} has no version 99" in unknown.stderr
    assert "Traceback" not in unknown.stderr
    with pytest.raises(SystemExit) as caught:
        command("promote", "--version", "1", "--stage", "Live")
    assert caught.value.code == 2
    assert "Staging" in capsys.readouterr().err


def test_listing_an_unknown_model_says_so(command: Command) -> None:
    assert command("list", model="nothing") == ("nothing has no versions in this registry.\n", "")


@pytest.fixture
def copied_package(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PROJECT / "models", tmp_path / "models"))


def test_a_litert_file_that_was_not_compared_is_refused(copied_package: Path, client: mlflow.MlflowClient) -> None:
    with (copied_package / "classifier.tflite").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(RegistrationError, match="is not the file that was compared with its Keras source"):
        register_package(copied_package, "tampered")
    assert client.search_model_versions("name = 'tampered'") == []


def test_a_wrong_canary_answer_is_refused(copied_package: Path, client: mlflow.MlflowClient) -> None:
    answer = copied_package / "canary.json"
    answer.write_text(json.dumps(json.loads(answer.read_text()) | {"confidence": 0.5}))
    with pytest.raises(RegistrationError, match=r"canary photo is wrong: confidence is 0\.\d+, expected 0\.5"):
        register_package(copied_package, "wrong-canary")
    assert client.search_model_versions("name = 'wrong-canary'") == []


@pytest.fixture(scope="module")
def own_network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small classifier of three classes that ends in a softmax."""
    keras.utils.set_random_seed(7)
    photo = keras.Input((96, 96, 3))
    branches = [keras.layers.Conv2D(8, size, strides=2, padding="same", activation="relu")(photo) for size in (1, 3, 5)]
    mixed = keras.layers.BatchNormalization()(keras.layers.Concatenate()(branches))
    pooled = keras.layers.Dropout(0.2)(keras.layers.GlobalAveragePooling2D()(mixed))
    path = tmp_path_factory.mktemp("own") / "best_model.keras"
    keras.Model(photo, keras.layers.Dense(3, activation="softmax")(pooled)).save(path)
    return path


def test_a_model_of_ones_own_is_registered_and_served(
    own: dict[str, str], own_network: Path, tmp_path: Path, retina: bytes
) -> None:
    name = "my-model"
    options = ["--model", str(own_network), "--classes", "drusen,myopia,healthy", "--image-size", "96", "--preprocessing", "tf"]
    done = python("register.py", "register", "--name", name, *options, "--stage", "Staging", env=own)
    assert done.returncode == 0, done.stderr
    assert f"Registered {name} version 1" in done.stdout
    with serve_model(f"models:/{name}@staging", tmp_path / "served", own) as server:
        (answer,) = server.classify(retina, explain=True)
    assert answer["error"] is None
    assert {column for column in answer if column.startswith("prob_")} == {"prob_drusen", "prob_myopia", "prob_healthy"}
    assert answer["predicted_class"] in {"drusen", "myopia", "healthy"}
    assert (answer["gradable"], answer["out_of_distribution"], answer["ood_score"]) == (None, None, None)
    assert answer["heatmap_png"]


@pytest.mark.parametrize(
    ("options", "explanation"),
    [
        (["--image-size", "96", "--classes", "a,b"], r"Expected \(2,\), one for each of \['a', 'b'\]"),
        (["--classes", "a,b", "--model", "nowhere.keras"], "nowhere.keras is not a Keras model file"),
    ],
)
def test_a_model_that_does_not_fit_is_explained(
    options: list[str], explanation: str, own_network: Path, command: Command
) -> None:
    with pytest.raises(SystemExit, match=explanation):
        command("register", "--model", str(own_network), *options, model="misfit")


def test_a_model_without_class_names_is_refused(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command("register", "--model", "best_model.keras")
    assert caught.value.code == 2
    assert "--model needs --classes" in capsys.readouterr().err
