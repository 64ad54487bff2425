"""`register.py` against a real tracking server: versions, stages with their aliases, a model of one's own, refusals."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import keras
import mlflow
import pytest

from lifecycle.registration import RegistrationError, register_package
from tests.servers import PROJECT, python, serve_model

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


def _promote(env: dict[str, str], version: str, stage: str) -> None:
    done = python("register.py", "promote", "--name", MODEL, "--version", version, "--stage", stage, env=env)
    assert done.returncode == 0, done.stderr


def _state(client: mlflow.MlflowClient, version: str) -> tuple[str, list[str]]:
    found = client.get_model_version(MODEL, version)
    aliases = client.get_registered_model(MODEL).aliases
    return found.current_stage, sorted(alias for alias, holder in aliases.items() if str(holder) == version)


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
    assert logged.metrics["validation_accuracy"] > 0.8
    assert logged.params["model.input_size"] == "224"


def test_stage_and_alias_move_together(own: dict[str, str], client: mlflow.MlflowClient) -> None:
    _promote(own, "1", "Staging")
    assert _state(client, "1") == ("Staging", ["staging"])
    _promote(own, "1", "Production")
    assert _state(client, "1") == ("Production", ["production"])

    assert python("register.py", "register", "--name", MODEL, "--stage", "Staging", env=own).returncode == 0
    assert _state(client, "2") == ("Staging", ["staging"])
    assert _state(client, "1") == ("Production", ["production"])

    _promote(own, "2", "Production")
    assert _state(client, "2") == ("Production", ["production"])
    assert _state(client, "1") == ("Archived", [])
    by_stage = mlflow.pyfunc.load_model(f"models:/{MODEL}/Production").metadata.model_uuid
    assert mlflow.pyfunc.load_model(f"models:/{MODEL}@production").metadata.model_uuid == by_stage

    listed = python("register.py", "list", "--name", MODEL, env=own).stdout.splitlines()
    assert [line.split()[:2] for line in listed] == [["2", "Production"], ["1", "Archived"]]
    assert "@production" in listed[0]
    assert "@" not in listed[1]

    back = python("register.py", "rollback", "--name", MODEL, "--reason", "misses cataracts", env=own)
    assert back.stdout.startswith(f"{MODEL} version 1 is in Production again, version 2 in Archived.\nNo gate was run."), (
        back.stderr
    )
    assert (_state(client, "1"), _state(client, "2")) == (("Production", ["production"]), ("Archived", []))
    _promote(own, "1", "Archived")
    assert _state(client, "1") == ("Archived", [])

    told = python("register.py", "history", "--name", MODEL, env=own)
    assert told.stderr == ""
    assert [line.split()[3:7] for line in told.stdout.splitlines()[1:]] == [
        ["promote", "1", "None", "Staging"],
        ["promote", "1", "Staging", "Production"],
        ["promote", "2", "None", "Staging"],
        ["promote", "2", "Staging", "Production"],
        ["rollback", "1", "Archived", "Production"],
        ["archive", "1", "Production", "Archived"],
    ]
    second_staged = told.stdout.splitlines()[3].split()[1]
    then = python("register.py", "history", "--name", MODEL, "--at", second_staged, env=own).stdout
    assert "Production: version 1 since" in then
    wrong = python("register.py", "history", "--name", MODEL, "--at", "yesterday", env=own)
    assert (wrong.returncode, "'yesterday' is no time" in wrong.stderr) == (1, True)


def test_wrong_promotions_are_explained(own: dict[str, str]) -> None:
    unknown = python("register.py", "promote", "--name", MODEL, "--version", "99", "--stage", "Staging", env=own)
    assert unknown.returncode == 1
    assert f"{MODEL} has no version 99" in unknown.stderr
    assert "Traceback" not in unknown.stderr
    wrong = python("register.py", "promote", "--name", MODEL, "--version", "1", "--stage", "Live", env=own)
    assert wrong.returncode == 2
    assert "Staging" in wrong.stderr


def test_listing_an_unknown_model_says_so(own: dict[str, str]) -> None:
    done = python("register.py", "list", "--name", "nothing", env=own)
    assert (done.returncode, done.stdout.strip()) == (0, "nothing has no versions in this registry.")


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
    options: list[str], explanation: str, own_network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import register

    monkeypatch.setattr("sys.argv", ["register.py", "register", "--name", "misfit", "--model", str(own_network), *options])
    with pytest.raises(SystemExit, match=explanation):
        register.main()


def test_a_model_without_class_names_is_refused(own: dict[str, str]) -> None:
    done = python("register.py", "register", "--model", "best_model.keras", env=own)
    assert done.returncode == 2
    assert "--model needs --classes" in done.stderr
