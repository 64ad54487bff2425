"""The commands of README and guides, run as they stand against what `./start_mlflow.sh` starts in a clean checkout."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.servers import PROJECT, end, environment, free_port, run, started

RUN_BY = {
    "./start_mlflow.sh": "the fixture `stack` of this module",
    "./run_tests.sh": "whoever runs these tests",
    "deploy/champion_challenger.sh": "test_champion_challenger.py",
    "python drift_job.py compare": "test_champion_challenger.py: the_comparison_is_in_mlflow",
    "mlflow run . --env-manager local": "test_projects.py: main_registers_promotes_and_scores",
    "mlflow run . -e drift": "test_drift_end_to_end.py",
    "mlflow run . -e promote -P version=3 -P stage=Production --env-manager local": "test_story.py",
    "python samples/score_with_spark.py": "test_ways_to_serve.py: spark_scores_a_folder_of_photos",
    "python train.py --data photos": "test_training.py: the_command_trains, a_trained_package_registers",
    "mlflow run . -e retrain": "test_story.py",
    "python register.py validate --version 3 --data photos": "test_gate.py: a_version_as_good_as_production_passes",
    "python register.py register --name my-model": "test_registry.py: a_model_of_ones_own",
}
"""Start of a command that another test runs -> which."""
UP = "Ctrl-C stops everything."
DOCUMENTS = ["README.md", *(f"docs/{name}.md" for name in ("SERVING", "TRAINING", "MONITORING", "GUIA.pt-BR", "FIRST_HOUR"))]


@dataclass
class Stack:
    """A checkout in which `./start_mlflow.sh` runs."""

    checkout: Path
    process: subprocess.Popen[bytes]
    output: Path
    mlflow_port: int
    serve_port: int

    def environment(self) -> dict[str, str]:
        """Of a second terminal in which `source .venv/bin/activate` was said, and nothing exported."""
        plain = environment()
        for name in ("SETTINGS_FILE", "GATE_ENV_MANAGER"):
            del plain[name]
        return plain | {"PATH": f"{self.checkout / '.venv' / 'bin'}{os.pathsep}{plain['PATH']}"}


def _clean_checkout(folder: Path) -> Path:
    listed = run("git", "ls-files", "-co", "--exclude-standard", env=environment()).stdout.splitlines()
    for name in listed:
        if (PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, folder / name)
    return folder


def _start(
    checkout: Path, mlflow_port: int, serve_port: int, output: Path, *command: str, **env: str
) -> subprocess.Popen[bytes]:
    """command: `./start_mlflow.sh`, unless another is given."""
    env = environment(MLFLOW_PORT=str(mlflow_port), SERVE_PORT=str(serve_port), **env)
    with output.open("wb") as sink:
        return subprocess.Popen(
            command or ["./start_mlflow.sh"],
            cwd=checkout,
            env=env,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _wait_for(text: str, process: subprocess.Popen[bytes], output: Path, seconds: int = 400) -> None:
    deadline = time.monotonic() + seconds
    while text not in output.read_text():
        assert process.poll() is None, output.read_text()
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(0.5)


def _left_running(checkout: Path) -> list[str]:
    """Command lines of processes that work in a checkout."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == checkout and process.name != str(os.getpid()):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it has ended since, or is another user's
            continue
    return found


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    checkout = _clean_checkout(tmp_path_factory.mktemp("checkout"))
    output = tmp_path_factory.mktemp("output") / "start.log"
    mlflow_port, serve_port = free_port(), free_port()
    (checkout / ".venv" / "bin").mkdir(parents=True)  # of a Python that has gone
    (checkout / ".venv" / "pyvenv.cfg").write_text("home = /nowhere\n")
    (checkout / ".venv" / "bin" / "python").symlink_to("/nowhere/python3.11")
    process = _start(checkout, mlflow_port, serve_port, output, PIP_USER="1")
    try:
        _wait_for(UP, process, output)
        yield Stack(checkout, process, output, mlflow_port, serve_port)
    finally:
        end(process)


def _blocks(document: str, language: str) -> list[str]:
    text = (PROJECT / document).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def _adapted(block: str, stack: Stack) -> str:
    return block.replace("127.0.0.1:8080", f"127.0.0.1:{stack.serve_port}").replace(":5000", f":{stack.mlflow_port}")


def test_the_first_start_shows_an_answer_and_the_urls(stack: Stack) -> None:
    said = stack.output.read_text()
    assert ".venv cannot be used: it has no Python, or one that has gone. It is made anew." in said
    assert "Serving eye-disease-classifier version 1 (registry)" in said
    assert '"model_version": "1"' in said
    assert f"http://127.0.0.1:{stack.mlflow_port}" in said
    assert "eye-disease-classifier version 1: waiting. 1 of the 50 predictions that a window needs." in said
    assert not list((stack.checkout / ".venv").glob("lib/*/site-packages/tensorflow"))


def test_a_second_terminal_finds_the_stack(stack: Stack, tmp_path: Path) -> None:
    """Wherever it stands, and nothing is left outside the stack's own folder."""
    done = run("eye-disease", "drift", "-v", env=stack.environment(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    local = stack.checkout / ".mlflow-local"
    assert (
        f"tracking server   http://127.0.0.1:{stack.mlflow_port}  (MLFLOW_TRACKING_URI, from {local}/settings)" in done.stderr
    )
    assert f"records           {local}/inference_logs" in done.stderr
    assert f"monitoring state  {local}/monitoring" in done.stderr
    assert "version 1: waiting" in done.stdout
    assert list(tmp_path.iterdir()) == []
    listed = run("eye-disease", "list", env=stack.environment(), cwd=tmp_path).stdout.splitlines()
    assert listed[0].split() == ["version", "stage", "aliases", "registered", "runtime", "run"]
    assert listed[1].split()[:3] == ["1", "Production", "@production"]
    shown = run("bash", "-c", 'eval "$(eye-disease env)"; env', env=stack.environment(), cwd=tmp_path).stdout.splitlines()
    assert f"MONITORING_DIR={local}/monitoring" in shown


def test_the_environment_wins(stack: Stack, tmp_path: Path) -> None:
    own = {"INFERENCE_LOG_DIR": str(tmp_path / "log"), "MONITORING_DIR": str(tmp_path / "state")}
    done = run("eye-disease", "drift", env=stack.environment() | own, cwd=tmp_path)
    assert f"No records yet in {tmp_path / 'log'} (INFERENCE_LOG_DIR)." in done.stdout


def test_shell_commands(stack: Stack, tmp_path: Path) -> None:
    """Each once, where several documents show it."""
    for block in dict.fromkeys(block for document in DOCUMENTS for block in _blocks(document, "bash")):
        if block.strip().removeprefix("eye-disease env ").startswith(tuple(RUN_BY)):
            continue
        server = re.search(r"serve.* (?:-p|--port) (\d+)", block)
        if server is None:
            done = run("bash", "-euo", "pipefail", "-c", _adapted(block, stack), env=stack.environment(), cwd=stack.checkout)
            assert done.returncode == 0, (block, done.stdout, done.stderr)
            assert "invocations" not in block or '"error": null' in done.stdout
            continue
        port = free_port()
        command = ["bash", "-c", "exec " + block.replace(server[1], str(port))]
        env = stack.environment() | {"MLFLOW_ENV_ROOT": str(tmp_path / "envs"), "MODEL_CACHE_DIR": str(tmp_path / "cache")}
        with started(command, f"http://127.0.0.1:{port}", "/ping", tmp_path / str(port), env, cwd=stack.checkout) as served:
            (answer,) = served.classify((PROJECT / "samples" / "retina.jpg").read_bytes())
        assert answer["error"] is None
        assert answer["model_version"] != "bundled"


def test_python_examples(stack: Stack) -> None:
    blocks = _blocks("README.md", "python")
    assert len(blocks) == 2
    for block in blocks:
        done = run("python", "-c", _adapted(block, stack), env=stack.environment(), cwd=stack.checkout)
        assert done.returncode == 0, (block, done.stderr)
        assert "normal" in done.stdout
        assert "review" in done.stdout


def test_it_is_short_and_its_links_lead_somewhere() -> None:
    assert len((PROJECT / "README.md").read_text().splitlines()) < 200
    for document in [*PROJECT.glob("*.md"), *(PROJECT / "docs").glob("*.md")]:
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", document.read_text()):
            linked = (document.parent / target) if target else document
            assert linked.exists(), (document.name, target)
            titles = re.findall(r"^#+ (.*)$", linked.read_text(), flags=re.MULTILINE) if anchor else []
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert not anchor or anchor in anchors, (document.name, target, anchor)


def test_a_taken_port_is_named_and_nothing_is_started(stack: Stack, tmp_path: Path) -> None:
    process = _start(stack.checkout, free_port(), stack.serve_port, tmp_path / "log")
    assert process.wait(timeout=60) == 1
    said = (tmp_path / "log").read_text()
    assert f"port {stack.serve_port} is taken" in said
    assert "SERVE_PORT=<port>" in said


def test_a_missing_python_is_named(tmp_path: Path) -> None:
    checkout = _clean_checkout(tmp_path)
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "dirname", "cat", "env"):
        (tools / name).symlink_to(str(shutil.which(name)))
    done = run("./start_mlflow.sh", env={"PATH": str(tools)}, cwd=checkout)
    assert done.returncode == 1
    assert "Python 3.11, 3.12 or 3.13 was not found" in done.stderr


def test_ctrl_c_stops_everything(stack: Stack) -> None:
    os.killpg(stack.process.pid, signal.SIGINT)
    assert stack.process.wait(timeout=60) == 130
    assert stack.output.read_text().rstrip().endswith("Stopped.")
    assert _left_running(stack.checkout) == []
    assert not (stack.checkout / "monitoring_state").exists()
    assert not (stack.checkout / "mlflow.db").exists()


def test_a_dead_child_stops_the_rest_and_is_named(stack: Stack, tmp_path: Path) -> None:
    """After the test above; the second start finds its environment, registry and copy of the model.

    It is made by `sh`, through a link, in an environment that leads to other servers.
    """
    output, link = tmp_path / "again.log", tmp_path / "eye"
    link.symlink_to(stack.checkout / "start_mlflow.sh")
    dead = "http://127.0.0.1:9"
    foreign = {
        "MLFLOW_REGISTRY_URI": dead,
        "MLFLOW_TRACKING_URI": dead,
        "MLFLOW_TRACKING_TOKEN": "a-secret",
        "http_proxy": dead,
    }
    foreign |= {"MLFLOW_EXPERIMENT_ID": "4711", "MLFLOW_REGISTRY_STORE_URI": "sqlite:///nowhere.db", "HTTP_PROXY": dead}
    process = _start(stack.checkout, stack.mlflow_port, stack.serve_port, output, "sh", str(link), **foreign)
    try:
        _wait_for(UP, process, output)
        assert "Ignored, since this start uses the tracking server that it starts itself: " in output.read_text()
        assert "a-secret" not in output.read_text()
        assert "Serving eye-disease-classifier version 1 (registry)" in output.read_text()
        assert "Installing" not in output.read_text()
        assert "The registry is empty" not in output.read_text()
        run("pkill", "-KILL", "-f", f"uvicorn.*--port {stack.serve_port} ", env=environment())
        assert process.wait(timeout=60) == 1
    finally:
        end(process)
    assert "the served model has ended" in output.read_text()
    assert _left_running(stack.checkout) == []
