"""Settings of registering and of starting a server."""

from dataclasses import dataclass
from pathlib import Path

from model_code.setting_fields import Settings, boolean, folder, whole


@dataclass(frozen=True)
class RegistrySettings(Settings):
    """What `serve.py` reads from its environment."""

    enabled: bool = boolean("ENABLE_MODEL_REGISTRY", True)
    """Ask the registry which version to serve; `false`: serve the last good copy or the bundled model."""
    timeout_seconds: int = whole("REGISTRY_TIMEOUT_SECONDS", 30)
    """How long the registry may take to name and deliver a version (`serve.py`), or to answer one request (`register.py`)."""
    cache_dir: Path = folder("MODEL_CACHE_DIR", "~/.cache/eye-disease-classifier")
    """Where the last good copies are kept."""
