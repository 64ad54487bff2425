"""Where this project's own files lie."""

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
BUNDLED_PACKAGE = PROJECT / "models"
"""The trained model that comes with the project."""
CANARY = PROJECT / "samples" / "canary.jpg"
"""The photo whose answer a package keeps."""
