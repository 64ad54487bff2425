"""Class-activation heatmap: where in the photo the score of the predicted class comes from."""

import io

import numpy as np
from PIL import Image


def class_activation(feature_map: np.ndarray, class_weights: np.ndarray) -> np.ndarray:
    """float32 (h, w): each place's share of the class's logit.

    feature_map: float32 (h, w, D); class_weights: float32 (D,), the class's column of the last dense layer. The mean over
    all places equals the logit less the bias (Zhou et al., "Learning Deep Features for Discriminative Localization", 2016).
    """
    return np.asarray(feature_map @ class_weights)


def overlay_png(view: np.ndarray, activation: np.ndarray, opacity: float = 0.5) -> bytes:
    """PNG of the view, uint8 (S, S, 3) RGB, with the positive part of the activation laid over it in yellow to red."""
    positive = np.maximum(activation, 0.0)
    strength = positive / positive.max() if positive.max() > 0 else positive
    size = (view.shape[1], view.shape[0])
    strength = np.asarray(Image.fromarray(strength.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)).clip(0, 1)
    heat = np.stack([np.full_like(strength, 255.0), 255.0 * (1.0 - strength), np.zeros_like(strength)], axis=-1)
    alpha = (opacity * strength * (view.max(axis=2) > 0))[..., None]
    blended = view * (1 - alpha) + heat * alpha
    buffer = io.BytesIO()
    Image.fromarray(blended.astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()
