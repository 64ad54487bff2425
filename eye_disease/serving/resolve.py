"""Which model folder to serve: the registry's version, else its last good copy, else the bundled model."""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow import MlflowClient

import model_code
from eye_disease.common.paths import BUNDLED_PACKAGE
from eye_disease.registry.canary_check import RegistrationError, require_canary
from eye_disease.registry.mlflow_model import save_package
from eye_disease.serving.settings import RegistrySettings
from model_code.identity import BUNDLED_VERSION

_logger = logging.getLogger(__name__)
_LAST_GOOD = "last_good.json"
_INCOMING = "incoming-"
_ABANDONED_AFTER_SECONDS = 3600


@dataclass(frozen=True)
class Resolved:
    """A model folder that can be served without any registry."""

    folder: Path
    source: str
    """`registry`, `cache` or `bundled`; kept in every record."""
    version: str


def resolve(name: str, stage: str, settings: RegistrySettings) -> Resolved:
    """Find the model to serve, within `timeout_seconds` for the registry. Says loudly when it is not the registry's.

    A version is served once it has answered its canary photo; that copy is then the last good one.
    """
    if not settings.enabled:
        return _fall_back(name, settings, "ENABLE_MODEL_REGISTRY is false")
    try:
        return _in_time(lambda: _from_registry(name, stage, settings), settings.timeout_seconds)
    except Exception as error:  # whatever the registry does, a photo must still be answered
        first_line = (str(error).strip().splitlines() or [""])[0][:300]
        return _fall_back(
            name, settings, f"the registry gives no {stage} version of {name}: {type(error).__name__}: {first_line}"
        )


def _from_registry(name: str, stage: str, settings: RegistrySettings) -> Resolved:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*get_latest_versions.*", category=FutureWarning)
        found = MlflowClient().get_latest_versions(name, [stage])
    if not found:
        raise RegistrationError(f"no version of {name} is in {stage}")
    version = str(found[0].version)
    # The run tells apart versions of the same number from two registries.
    folder = settings.cache_dir / name / f"{version}-{(found[0].run_id or 'no-run')[:12]}"
    if not folder.is_dir():
        _download(f"models:/{name}/{version}", folder)
    pointer = settings.cache_dir / name / _LAST_GOOD
    _replace_text(pointer, json.dumps({"folder": folder.name, "version": version}))
    return Resolved(folder, "registry", version)


def _download(uri: str, folder: Path) -> None:
    """Download, check, then move into place: a folder in the cache is always whole and good."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder.parent)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=_INCOMING) as temporary:
        local = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(Path(temporary) / "model")))
        require_canary(local)
        _move_into_place(local, folder)


def _fall_back(name: str, settings: RegistrySettings, reason: str) -> Resolved:
    pointer = settings.cache_dir / name / _LAST_GOOD
    if pointer.is_file():
        stored = json.loads(pointer.read_text())
        folder = pointer.parent / stored["folder"]
        if folder.is_dir():
            _logger.warning(
                "NOT SERVING FROM THE REGISTRY: %s. Serving the last good copy, version %s.", reason, stored["version"]
            )
            return Resolved(folder, "cache", stored["version"])
    _logger.warning("NOT SERVING FROM THE REGISTRY: %s. Serving the bundled model.", reason)
    return Resolved(bundled_model(settings.cache_dir), "bundled", BUNDLED_VERSION)


def bundled_model(cache_dir: Path) -> Path:
    """The bundled package as an MLflow model folder in the cache; made anew when its files or the code have changed."""
    digest = hashlib.sha256()
    code = Path(model_code.__file__).parent
    for path in sorted([*BUNDLED_PACKAGE.iterdir(), *code.glob("*.py")]):
        digest.update(path.name.encode() + path.read_bytes())
    folder = cache_dir / BUNDLED_VERSION / digest.hexdigest()[:16]
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=_INCOMING) as temporary:
            save_package(BUNDLED_PACKAGE, Path(temporary) / "model", BUNDLED_VERSION)
            _move_into_place(Path(temporary) / "model", folder)
    return folder


def _in_time(work: Callable[[], Resolved], seconds: int) -> Resolved:
    """Run `work`, at most `seconds`. Raises TimeoutError, or what `work` raises."""
    done: list[Resolved | BaseException] = []

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:  # handed to the waiting thread, which raises it
            done.append(error)

    # A daemon: a hanging connection must not keep the process alive.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not done:
        raise TimeoutError(f"no answer within REGISTRY_TIMEOUT_SECONDS={seconds}")
    if isinstance(done[0], BaseException):
        raise done[0]
    return done[0]


def _remove_abandoned(folder: Path) -> None:
    """Remove downloads that a start which ran out of time has left behind."""
    for path in folder.glob(f"{_INCOMING}*"):
        if time.time() - path.stat().st_mtime > _ABANDONED_AFTER_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


def _move_into_place(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except OSError:
        if not target.is_dir():  # otherwise another process was first with the same content
            raise
        shutil.rmtree(source)


def _replace_text(path: Path, text: str) -> None:
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)
