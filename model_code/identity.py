"""Which model is being served: read from the folder MLflow loaded it from."""

from dataclasses import dataclass
from pathlib import Path

import yaml
from mlflow.models import Model

BUNDLED_VERSION = "bundled"
UNREGISTERED_VERSION = "unregistered"
VERSION_KEY = "served_as"
"""Key of the MLmodel's metadata under which a model saved outside any registry says what version it answers as."""


@dataclass(frozen=True)
class Identity:
    """Name, version and run of a served model, for its answers and records."""

    name: str | None
    """Registered name; None when the model did not come from a registry."""
    version: str
    """Registered version, `bundled`, or `unregistered` (served from a run or a folder)."""
    run_id: str | None

    @classmethod
    def read(cls, model_folder: Path) -> "Identity":
        """Read an MLflow model folder; one downloaded from a registry holds `registered_model_meta`."""
        mlmodel = Model.load(str(model_folder))
        version = (mlmodel.metadata or {}).get(VERSION_KEY, UNREGISTERED_VERSION)
        registered = model_folder / "registered_model_meta"
        meta = yaml.safe_load(registered.read_text()) if registered.is_file() else {}
        if meta.get("model_version") is None:  # MLflow writes the file for models of a run too, without a version
            return cls(None, version, mlmodel.run_id)
        return cls(meta["model_name"], str(meta["model_version"]), mlmodel.run_id)
