"""Image statistics of a prepared view, for the record."""

import numpy as np

STATISTICS = ("brightness", "contrast", "sharpness", "red", "green", "blue", "field_of_view_share")
"""brightness, red, green, blue: mean 0..255. contrast: standard deviation of the grey level. sharpness: variance of its
Laplacian (Pertuz et al., Pattern Recognition 46(5), 2013, operator LAPV). field_of_view_share: lit share, 0..1."""

_DARK = 14
"""Grey level at or below which a pixel shows no retina."""


def image_statistics(view: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """STATISTICS of a view, uint8 (S, S, 3) RGB, inside `mask`, uint8 (S, S) of 0 and 1."""
    pixels, inside = view.reshape(-1, 3).astype(np.float32), mask.ravel().astype(np.float32)
    share = inside / inside.sum()
    red, green, blue = share @ pixels
    grey = pixels @ np.array([0.299, 0.587, 0.114], np.float32)
    brightness = share @ grey
    values = (
        brightness,
        np.sqrt(share @ (grey - brightness) ** 2),
        _laplacian_variance(grey.reshape(mask.shape), mask.astype(bool)),
        red,
        green,
        blue,
        share @ (grey > _DARK),
    )
    return {name: float(value) for name, value in zip(STATISTICS, values, strict=True)}


def _laplacian_variance(grey: np.ndarray, inside: np.ndarray) -> float:
    centre = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * centre
    # Only pixels whose four neighbours lie inside: the edge of the mask is no detail of the retina.
    whole = inside[1:-1, 1:-1] & inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    return float(laplacian[whole].var())
