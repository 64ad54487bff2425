"""Peer (c): `python -m benchmarks.peers.keras_flavour KERAS_FILE FOLDER` saves a network as MLflow's own Keras flavour."""

import sys
from importlib.metadata import version

import keras
import mlflow.tensorflow
import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec


def main() -> None:
    source, folder = sys.argv[1:]
    model = keras.models.load_model(source, compile=False)
    inputs = Schema([TensorSpec(np.dtype(np.float32), (-1, *model.inputs[0].shape[1:]))])
    outputs = Schema([TensorSpec(np.dtype(np.float32), (-1, *model.outputs[0].shape[1:]))])
    mlflow.tensorflow.save_model(
        model,
        folder,
        signature=ModelSignature(inputs, outputs),
        # Named, because finding them out would load and run the model once more.
        pip_requirements=[f"{name}=={version(name)}" for name in ("mlflow", "tensorflow", "keras")],
    )


if __name__ == "__main__":
    main()
