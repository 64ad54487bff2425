"""Loads an MLflow model folder as a server would, and prints what it answers as JSON.

    python -P model_worker.py FOLDER < PHOTO
        {"answer": {...}}: its answer to an image file
    python -P model_worker.py FOLDER --canary
        {"differences": [...]}: how it answers the canary photo in its package otherwise than its package says, a sentence each
    python -P model_worker.py FOLDER --heatmaps < [FILE, ...]
        {"heatmaps": [...]}: a PNG as base64 for each file, null where there is none

or {"error": "..."} where it cannot be loaded or fails. Run by its path and with -P (`model_process.py` does), so that nothing
of this project can be imported but what the model brings: its own `model_code`, of whatever release that is.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any


def _answer(model: Any, photo: bytes) -> dict[str, Any]:
    import pandas as pd

    row: dict[str, Any] = model.predict(pd.DataFrame({"image": [photo]})).iloc[0].to_dict()
    return row


def _heatmaps(model: Any, photos: list[str]) -> list[str | None]:
    """One photo at a time, so that memory does not grow with their number."""
    import pandas as pd

    pictures = []
    for photo in photos:
        row = model.predict(pd.DataFrame({"image": [Path(photo).read_bytes()]}), params={"explain": True}).iloc[0].to_dict()
        pictures.append(row.get("heatmap_png") or None)
    return pictures


def _reply(folder: str, option: str) -> dict[str, Any]:
    import mlflow

    model = mlflow.pyfunc.load_model(folder)
    if option == "--heatmaps":
        return {"heatmaps": _heatmaps(model, json.load(sys.stdin))}
    if option != "--canary":
        return {"answer": _answer(model, sys.stdin.buffer.read())}
    from model_code.canary import canary_photo, differences, expected_answer  # the model's own, see above

    package = Path(folder) / "artifacts" / "package"
    return {"differences": differences(_answer(model, canary_photo(package)), expected_answer(package))}


def main() -> None:
    """Command line."""
    folder, *options = sys.argv[1:]
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what models and libraries print is no part of the answer
    try:
        reply = _reply(folder, *(options or [""]))
    except Exception as error:  # whatever a model raises, the caller is told in a line
        lines = str(error).strip().splitlines() or [""]
        reply = {"error": f"{type(error).__name__}: {lines[0]}"}
    with output:
        json.dump(reply, output)


if __name__ == "__main__":
    main()
