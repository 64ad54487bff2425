"""Layers and functions of other people's code that published fundus networks hold, and what does the same in Keras itself."""

import importlib
from types import ModuleType
from typing import Any

PLAIN = {
    "FixedDropout": "Dropout",  # efficientnet, segmentation_models
    "DropConnect": "Dropout",
    "SyncBatchNormalization": "BatchNormalization",
}
"""Class -> the class of Keras that answers alike; what they do in training does not matter here."""
_INITIALIZERS = (
    *("EfficientConv2DKernelInitializer", "EfficientDenseKernelInitializer"),  # efficientnet
    *("ConvKernalInitializer", "DenseKernalInitializer"),  # a common copy of it
    *("conv_kernel_initializer", "dense_kernel_initializer"),
)
FOREIGN = (*PLAIN, *_INITIALIZERS)
"""Names that Keras does not know by itself."""
OF_APPLICATIONS = {
    "CustomScaleLayer": "inception_resnet_v2",
    "LayerScale": "convnext",
    "StochasticDepth": "convnext",
}
"""Layers that `keras.applications` keeps to itself -> where; Keras finds them for a `.keras` file, and not for an `.h5`."""


def known_objects(framework: ModuleType) -> dict[str, Any]:
    """Name -> class or function, for `load_model`. framework: `keras` or `tf_keras`."""
    objects = {name: getattr(framework.layers, plain) for name, plain in PLAIN.items()}
    objects |= dict.fromkeys(_INITIALIZERS, framework.initializers.VarianceScaling)
    for name, module in OF_APPLICATIONS.items():
        layer = getattr(importlib.import_module(f"{framework.__name__}.src.applications.{module}"), name, None)
        objects |= {name: layer} if layer else {}
    swish = framework.activations.swish if hasattr(framework.activations, "swish") else framework.activations.silu
    return objects | {"swish": swish, "relu6": _relu6(framework), "hard_swish": _hard_swish(framework)}


def _relu6(framework: ModuleType) -> Any:
    def relu6(x: Any) -> Any:
        return framework.activations.relu(x, max_value=6.0)

    return relu6


def _hard_swish(framework: ModuleType) -> Any:
    relu6 = _relu6(framework)

    def hard_swish(x: Any) -> Any:
        return x * relu6(x + 3.0) / 6.0

    return hard_swish
