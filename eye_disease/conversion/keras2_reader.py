"""Reads a model file of Keras 2 with tf-keras, the Keras 2 that is still kept, and says what the model answers.

Run as `python -m eye_disease.conversion.keras2_reader SOURCE FOLDER [LAYERS.py]`, in a process of its own, since TensorFlow has
one Keras in a process. FOLDER gets the model as HDF5 (MODEL) and photos of noise with their answers (ANSWERS).
"""

import os
import re
import sys
from pathlib import Path

MODEL, ANSWERS = "keras2.h5", "answers.npz"
_ANY_SIDE = 96
"""Pixels, of the noise for a model that takes photos of any size."""


def main(source: Path, folder: Path, layers_file: Path | None) -> None:
    """Raises what tf-keras raises for a file that it cannot read."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1"  # `tensorflow.keras` in a file of layers is then tf-keras
    import numpy as np
    import tf_keras

    from eye_disease.conversion.known_layers import known_objects
    from model_code.custom_objects import read_objects

    objects = known_objects(tf_keras) | (read_objects(layers_file) if layers_file else {})
    model = tf_keras.models.load_model(source, custom_objects=objects, compile=False)
    if not getattr(model, "inputs", None):
        raise ValueError("it is no functional or sequential model with a fixed input shape")
    if "mixed_" in (config := model.to_json()):  # computed in float32, as it will be served, so that rounding is no difference
        whole = re.sub("mixed_b?float16", "float32", config)
        weights, model = model.get_weights(), tf_keras.models.model_from_json(whole, custom_objects=objects)
        model.set_weights(weights)
    rng = np.random.default_rng(0)
    shape = [side or _ANY_SIDE for side in model.input_shape[1:]]
    photos = np.concatenate([rng.uniform(0, 255, (2, *shape)), rng.uniform(-1, 1, (2, *shape))]).astype("float32")
    np.savez(folder / ANSWERS, photos=photos, answers=np.asarray(model(photos, training=False), "float32"))
    model.save(folder / MODEL, include_optimizer=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None)
