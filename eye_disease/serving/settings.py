"""Typed settings of registering and starting a server."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from model_code.settings import read_bool, read_folder, read_int


@dataclass(frozen=True)
class RegistrySettings:
    """What `serve.py` reads from its environment."""

    enabled: bool
    """ENABLE_MODEL_REGISTRY: ask the registry which version to serve."""
    timeout_seconds: int
    """REGISTRY_TIMEOUT_SECONDS: how long the registry may take to name and deliver a version."""
    cache_dir: Path
    """MODEL_CACHE_DIR: where the last good copies are kept."""

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> "RegistrySettings":
        """Read every setting. Raises SettingError for the first wrong one."""
        env = os.environ if env is None else env
        default_cache = Path.home() / ".cache" / "eye-disease-classifier"
        return cls(
            enabled=read_bool(env, "ENABLE_MODEL_REGISTRY", True),
            timeout_seconds=read_int(env, "REGISTRY_TIMEOUT_SECONDS", 30),
            cache_dir=read_folder(env, "MODEL_CACHE_DIR", str(default_cache)),
        )
