"""Where this project's own files lie: in a checkout beside the package, in an installation inside it."""

from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[2]
IMPORT_ROOT = _CHECKOUT
"""What must be on the path of a process that imports this project."""
_FILES = _CHECKOUT if (_CHECKOUT / "models").is_dir() else Path(__file__).resolve().parents[1] / "bundled"

BUNDLED_PACKAGE = _FILES / "models"
"""The trained model that comes with the project."""
CANARY = _FILES / "samples" / "canary.jpg"
"""The photo whose answer a package keeps."""
SAMPLE_PHOTO = _FILES / "samples" / "retina.jpg"
"""A fundus photo by a camera that no training photo was taken with."""
SETTINGS_FILE = _CHECKOUT / ".mlflow-local" / "settings"
"""Where `./start_mlflow.sh` writes down what it runs."""
