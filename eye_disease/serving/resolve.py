"""Which model folder to serve: the registry's version, else its last good copy, else the bundled model."""

import hashlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mlflow.exceptions import MlflowException

import model_code
from eye_disease.common.errors import EyeDiseaseError, UserError
from eye_disease.common.model_process import CanaryError, ModelProcessError, require_canary
from eye_disease.common.paths import BUNDLED_PACKAGE
from eye_disease.registry.mlflow_model import save_package
from eye_disease.registry.versions import FetchedVersion, VersionError, VersionSummary, in_stage
from eye_disease.serving.cache import ModelCache
from eye_disease.serving.settings import RegistrySettings
from model_code.identity import BUNDLED_VERSION

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")
_REFUSED = (VersionError, CanaryError, ModelProcessError)
"""Errors of a version that the registry holds but that must not be served."""
_UNREACHABLE = (EyeDiseaseError, MlflowException, OSError)
"""Errors between here and the registry; a photo must still be answered."""


class RefusedVersionError(UserError):
    """The registry answers, and the version that it holds in the stage cannot be served."""


@dataclass(frozen=True)
class Resolved:
    """A model folder that can be served without any registry."""

    folder: Path
    source: str
    """`registry`, `cache` or `bundled`; kept in every record."""
    version: str


def resolve(name: str, stage: str, settings: RegistrySettings, fallback: bool = False) -> Resolved:
    """Find the model to serve. Says loudly when it is not the one that the registry holds in the stage:

    - the registry is disabled, does not answer or does not deliver within `timeout_seconds`: the last good copy of that
      stage, else the bundled model;
    - it answers that no version is in that stage: the bundled model;
    - the version there is damaged or does not answer its canary photo as it should: RefusedVersionError; with `fallback`,
      the last good copy, else the bundled model.
    """
    cache = ModelCache(settings.cache_dir / name)
    if not settings.enabled:
        return _fall_back(cache, stage, settings, "ENABLE_MODEL_REGISTRY is false")
    try:
        return _from_registry(name, stage, settings, cache)
    except _REFUSED as error:
        why = f"the registry's {stage} version of {name} is refused: {error}"
        if not fallback:
            raise RefusedVersionError(
                f"{why[0].upper()}{why[1:]} Nothing is served in its place: roll back or promote another version, or allow the "
                "last good copy or the bundled model with --fallback."
            ) from error
    except _UNREACHABLE as error:
        first_line = (str(error).strip().splitlines() or [""])[0][:300]
        why = f"the registry gives no {stage} version of {name}: {type(error).__name__}: {first_line}"
    return _fall_back(cache, stage, settings, why)


def _from_registry(name: str, stage: str, settings: RegistrySettings, cache: ModelCache) -> Resolved:
    deadline = time.monotonic() + settings.timeout_seconds
    version = _in_time(lambda: in_stage(name, stage), deadline, settings)
    if version is None:
        _logger.warning("NOT SERVING FROM THE REGISTRY: no version of %s is in %s. Serving the bundled model.", name, stage)
        return Resolved(bundled_model(settings.cache_dir), "bundled", BUNDLED_VERSION)
    folder = cache.find(_key(version)) or _download(name, version, deadline, settings, cache)
    cache.remember(stage, _key(version), version.version)
    return Resolved(folder, "registry", version.version)


def _download(name: str, version: VersionSummary, deadline: float, settings: RegistrySettings, cache: ModelCache) -> Path:
    """Download, check, then keep. How long the check takes is no matter of the registry's."""
    with cache.incoming() as folder:
        fetched = _in_time(lambda: FetchedVersion.fetch(name, version.version, folder), deadline, settings)
        require_canary(fetched.folder)
        return cache.add(_key(version), fetched.folder)


def _key(version: VersionSummary) -> str:
    """The run tells apart versions of the same number from two registries."""
    return f"{version.version}-{(version.run_id or 'no-run')[:12]}"


def _fall_back(cache: ModelCache, stage: str, settings: RegistrySettings, why: str) -> Resolved:
    if copy := cache.last_good(stage):
        _logger.warning("NOT SERVING FROM THE REGISTRY: %s. Serving the last good copy, version %s.", why, copy.version)
        return Resolved(copy.folder, "cache", copy.version)
    _logger.warning("NOT SERVING FROM THE REGISTRY: %s. Serving the bundled model.", why)
    return Resolved(bundled_model(settings.cache_dir), "bundled", BUNDLED_VERSION)


def bundled_model(cache_dir: Path) -> Path:
    """The bundled package as an MLflow model folder in the cache; made anew when its files or the code have changed."""
    digest = hashlib.sha256()
    code = Path(model_code.__file__).parent
    for path in sorted([*filter(Path.is_file, BUNDLED_PACKAGE.iterdir()), *code.rglob("*.py")]):
        digest.update(path.name.encode() + path.read_bytes())
    cache, key = ModelCache(cache_dir / BUNDLED_VERSION), digest.hexdigest()[:16]
    if folder := cache.find(key):
        return folder
    with cache.incoming() as incoming:
        save_package(BUNDLED_PACKAGE, incoming / "model", BUNDLED_VERSION)
        return cache.add(key, incoming / "model")


def _in_time(work: Callable[[], _T], deadline: float, settings: RegistrySettings) -> _T:
    """Run `work` until `deadline` (time.monotonic) at most. Raises TimeoutError, or what `work` raises."""
    done: list[_T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:  # handed to the waiting thread, which raises it
            failed.append(error)

    # A daemon: a hanging connection must not keep the process alive.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(max(0.0, deadline - time.monotonic()))
    if failed:
        raise failed[0]
    if not done:
        raise TimeoutError(f"no answer within REGISTRY_TIMEOUT_SECONDS={settings.timeout_seconds}")
    return done[0]
