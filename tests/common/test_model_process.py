"""A model is asked in a process of its own: whatever it does there, the asking process gets an answer or a sentence."""

from pathlib import Path

import pytest

from eye_disease.common.model_process import ModelProcessError, ask, environment, require_canary

pytestmark = pytest.mark.process

MLMODEL = "flavors:\n  python_function:\n    loader_module: own_loader\n    code: code\n    python_version: 3.11.7\n"
NOISY = """
import os, sys

class Model:
    def predict(self, table, params=None):
        print("a library greets")
        os.system("echo and so does what it starts")
        assert "eye_disease" not in sys.modules
        table["answer"] = len(table["image"].iloc[0])
        return table[["answer"]]

def _load_pyfunc(path):
    return Model()
"""


def _model(folder: Path, loader: str) -> Path:
    (folder / "code").mkdir()
    (folder / "MLmodel").write_text(MLMODEL)
    (folder / "code" / "own_loader.py").write_text(loader)
    return folder


def test_what_a_model_prints_is_no_part_of_its_answer(tmp_path: Path) -> None:
    assert ask(_model(tmp_path, NOISY), b"12345") == {"answer": 5}


def test_a_model_that_ends_its_process_is_told_apart_from_one_that_fails(tmp_path: Path) -> None:
    dies = "import os, sys\nprint('out of memory', file=sys.stderr, flush=True)\nos._exit(3)\n"
    with pytest.raises(ModelProcessError, match=r"process ended with status 3: .*out of memory"):
        ask(_model(tmp_path, dies), b"")


def test_a_folder_that_is_no_model_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelProcessError, match=r"cannot be loaded, or fails: .*MLmodel") as caught:
        require_canary(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_model_that_does_not_answer_in_time(tmp_path: Path) -> None:
    with pytest.raises(ModelProcessError, match=r"gave no answer within 0\.01 s"):
        ask(tmp_path, b"", timeout_seconds=0.01)


def test_settings_of_this_process_change_no_answer_and_no_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left_out = ("MAX_REQUEST_ROWS", "INFERENCE_LOG_REQUIRED", "MODEL_SOURCE", "SERVING_MODEL_CONFIG", "MLFLOW_RUN_ID")
    for name in left_out:
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("INFERENCE_LOG_DIR", "/records")
    monkeypatch.setenv("INFERENCE_THREADS", "1")
    env = environment(tmp_path)
    assert env["INFERENCE_LOG_DIR"] == str(tmp_path)
    assert env["INFERENCE_THREADS"] == "1"
    assert not env.keys() & {
        "MAX_REQUEST_ROWS",
        "INFERENCE_LOG_REQUIRED",
        "MODEL_SOURCE",
        "SERVING_MODEL_CONFIG",
        "MLFLOW_RUN_ID",
    }
