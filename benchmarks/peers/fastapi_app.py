"""Peer (d): the FastAPI app that most projects write around a Keras model; PACKAGE names the model package's folder.

The photo comes as base64 text in JSON, is resized by Pillow to the network's input and given to `model.predict`. The
endpoint is a plain `def`, as FastAPI's documentation advises for blocking work, so requests do not block each other.
"""

import base64
import io
import json
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
from fastapi import FastAPI
from PIL import Image
from pydantic import BaseModel

_PACKAGE = Path(os.environ["PACKAGE"])
_FACTS = json.loads((_PACKAGE / "model.json").read_text())
_SIDE = _FACTS["recipe"]["input_size"]

model = keras.models.load_model(_PACKAGE / "classifier.keras", compile=False)
app = FastAPI()


class Photo(BaseModel):
    """A request."""

    image: str


@app.get("/ping")
def ping() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/predict")
def predict(photo: Photo) -> dict[str, Any]:
    image = Image.open(io.BytesIO(base64.b64decode(photo.image))).convert("RGB").resize((_SIDE, _SIDE))
    logits = model.predict(np.expand_dims(np.asarray(image, np.float32), 0), verbose=0)[0]
    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    probabilities = {name: float(share) for name, share in zip(_FACTS["classes"], shares, strict=True)}
    return {"predicted_class": max(probabilities, key=probabilities.__getitem__), "probabilities": probabilities}
