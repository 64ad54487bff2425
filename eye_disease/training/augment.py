"""Augmentation: what a fundus photo may look like without another diagnosis, and what must not give the class away.

All classes get the colours, the illumination, the sharpness, the compression and the camera frame of all others, since in
a set of several sources each of these tells the source, and so the class.
"""

import tensorflow as tf

from model_code.preprocessing import FIELD_OF_VIEW_RADIUS, field_of_view

ROTATION = 0.5
"""Radians to either side."""
ZOOM = (0.85, 1.12)
SHIFT = 0.04
"""Share of the view's side, to either side."""
FRAME_CUT = 0.14
"""Largest share of the view's side cut off above and below (as cameras do), and left and right."""
STRANGE, SELDOM_STRANGE = 0.3, 0.15
"""Share of the photos made to look as if another camera had taken them, in most epochs and in the last; the others keep their
look."""
STYLE_GAIN = (0.6, 1.7)
"""Limits for the change of local contrast by another photo's style: a hazy cataract must stay hazy."""


def augment(squares: tf.Tensor, rng: tf.random.Generator, strange: float | tf.Tensor = STRANGE) -> tf.Tensor:
    """uint8 (N, S, S, 3) disc squares -> float32 (N, S, S, 3) views of 0..255, each changed at random.

    Squares are those of `preprocessing.disc_square`, in random order; every view ends in the common field of view, as in
    serving. strange: share of the photos, the first ones, that look as if another camera had taken them.
    """
    views = _moved(tf.cast(squares, tf.float32), rng)
    count = tf.cast(tf.shape(views)[0], tf.float32) * strange + rng.uniform(())
    first = tf.cast(count, tf.int32)
    elsewhere, same = views[:first], views[first:]
    if first > 0:
        elsewhere = _recompressed(_resampled(_recoloured(_restyled(elsewhere, rng), rng), rng), rng)
    return _framed(tf.concat([elsewhere, _toned(same, rng)], axis=0), rng)


def _moved(squares: tf.Tensor, rng: tf.random.Generator) -> tf.Tensor:
    """Mirrored, turned, zoomed and shifted."""
    size, count = squares.shape[1], tf.shape(squares)[0]
    angle = _uniform(rng, count, -ROTATION, ROTATION)
    zoom = _uniform(rng, count, *ZOOM)
    mirror, flip = _sign(rng, count), _sign(rng, count)
    shift_x, shift_y = (_uniform(rng, count, -SHIFT, SHIFT) * size for _ in range(2))
    cos, sin = tf.cos(angle) / zoom, tf.sin(angle) / zoom
    a, b, c, d = mirror * cos, -mirror * sin, flip * sin, flip * cos
    centre = (size - 1) / 2
    x0 = centre + shift_x - (a + b) * centre
    y0 = centre + shift_y - (c + d) * centre
    zeros = tf.zeros_like(a)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=squares,
        transforms=tf.stack([a, b, x0, c, d, y0, zeros, zeros], axis=1),
        output_shape=[size, size],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )


def _restyled(views: tf.Tensor, rng: tf.random.Generator) -> tf.Tensor:
    """Local contrast, and for half of the photos the whole coarse colour field, moved towards another photo's of the batch.

    A camera shows in how colour and light run across the field, so the field is exchanged, not only its mean and
    deviation (which Reinhard et al., IEEE CG&A 21(5), 2001, match).
    """
    count = tf.shape(views)[0]
    mask = _mask(views.shape[1])
    coarse = _coarse(views, mask)
    fine = views - coarse
    fine_deviation = _deviation(fine, mask)
    donor = tf.random.experimental.index_shuffle(tf.range(count), seed=rng.make_seeds(1)[:, 0], max_index=count - 1)
    field = _per_photo(_uniform(rng, count, 0.3, 1)) * _chance(rng, count, 0.6)
    contrast = _per_photo(_uniform(rng, count, 0, 1)) * _chance(rng, count, 0.6)
    gain = tf.clip_by_value(tf.gather(fine_deviation, donor) / fine_deviation, *STYLE_GAIN)
    return coarse + field * (tf.gather(coarse, donor) - coarse) + fine * (1 + contrast * (gain - 1))


def _recoloured(views: tf.Tensor, rng: tf.random.Generator) -> tf.Tensor:
    """Gamma, mixed channels, brightness, contrast, an uneven illumination; a fifth of the photos grey."""
    size, count = views.shape[1], tf.shape(views)[0]
    unit = tf.clip_by_value(views / 255, 0, 1) ** _per_photo(tf.exp(_uniform(rng, count, -0.3, 0.3)))
    mixing = tf.eye(3) * tf.exp(rng.uniform((count, 1, 3), -0.2, 0.2)) + rng.uniform((count, 3, 3), -0.15, 0.15)
    unit = tf.einsum("nhwc,ncd->nhwd", unit, mixing)
    grey = tf.reduce_mean(unit, axis=3, keepdims=True)
    saturation = tf.where(_chance(rng, count, 0.2) > 0, 0.0, _per_photo(_uniform(rng, count, 0.5, 1.3)))
    unit = grey + (unit - grey) * saturation
    axis = tf.linspace(-1.0, 1.0, size)
    tilt = _per_photo(_uniform(rng, count, -0.2, 0.2)) * axis[None, :, None, None]
    tilt += _per_photo(_uniform(rng, count, -0.2, 0.2)) * axis[None, None, :, None]
    vignette = _per_photo(_uniform(rng, count, -0.2, 0.2)) * (axis[:, None] ** 2 + axis[None, :] ** 2)[None, :, :, None]
    unit *= (1 + tilt - vignette) * _per_photo(tf.exp(_uniform(rng, count, -0.25, 0.2)))
    mean = tf.reduce_mean(unit, axis=(1, 2), keepdims=True)
    return (mean + (unit - mean) * _per_photo(_uniform(rng, count, 0.8, 1.25))) * 255


def _toned(views: tf.Tensor, rng: tf.random.Generator) -> tf.Tensor:
    """A little tone curve (x + c x (1 - x), which is several times as fast as gamma), brightness and tint."""
    count = tf.shape(views)[0]
    unit = views / 255
    unit += _per_photo(_uniform(rng, count, -0.3, 0.3)) * (unit - unit * unit)
    gains = tf.exp(rng.uniform((count, 1, 1, 3), -0.07, 0.07)) * _per_photo(tf.exp(_uniform(rng, count, -0.15, 0.15)))
    return tf.clip_by_value(unit * (255 * gains), 0, 255)


def _resampled(views: tf.Tensor, rng: tf.random.Generator) -> tf.Tensor:
    """Coarser (shrunk and enlarged again), softer or sharper, and noisy."""
    size, count = views.shape[1], tf.shape(views)[0]
    smaller = tf.cast(rng.uniform((), 0.4, 1.0) * size, tf.int32)
    coarse = tf.image.resize(tf.image.resize(views, (smaller, smaller), antialias=True), (size, size))
    views = tf.where(_chance(rng, count, 0.3) > 0, coarse, views)
    soft = tf.nn.avg_pool2d(tf.nn.avg_pool2d(views, 3, 1, "SAME"), 3, 1, "SAME")
    views += _per_photo(_uniform(rng, count, -0.9, 0.6)) * _chance(rng, count, 0.5) * (views - soft)
    noise = rng.normal(tf.shape(views)) * _per_photo(_uniform(rng, count, 0, 6)) * _chance(rng, count, 0.4)
    return tf.clip_by_value(views + noise, 0, 255)


def _recompressed(views: tf.Tensor, rng: tf.random.Generator) -> tf.Tensor:
    """Half of the photos through JPEG of quality 30..95."""
    count = tf.shape(views)[0]
    quality = rng.uniform((count,), 30, 96, tf.int32)
    chosen = rng.uniform((count,)) < 0.5

    def through_jpeg(item: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> tf.Tensor:
        view, its_quality, wanted = item
        return tf.cond(wanted, lambda: tf.image.adjust_jpeg_quality(view / 255, its_quality) * 255, lambda: view)

    return tf.map_fn(through_jpeg, (views, quality, chosen), fn_output_signature=tf.TensorSpec(views.shape[1:], tf.float32))


def _framed(views: tf.Tensor, rng: tf.random.Generator) -> tf.Tensor:
    """Bands cut off the sides, sometimes a narrower circle; then the common field of view."""
    size, count = views.shape[1], tf.shape(views)[0]
    axis = (tf.range(size, dtype=tf.float32) + 0.5) / size
    rows, columns = axis[None, :, None, None], axis[None, None, :, None]
    vertical, horizontal = _chance(rng, count, 0.5), _chance(rng, count, 0.15)
    inside = tf.ones_like(views[..., :1], tf.bool)
    for chosen, position in ((vertical, rows), (vertical, 1 - rows), (horizontal, columns), (horizontal, 1 - columns)):
        inside &= position >= chosen * _per_photo(_uniform(rng, count, 0, FRAME_CUT))
    radius = FIELD_OF_VIEW_RADIUS - _chance(rng, count, 0.2) * _per_photo(_uniform(rng, count, 0, 0.07))
    inside &= (rows - 0.5) ** 2 + (columns - 0.5) ** 2 <= radius**2
    return views * tf.cast(inside, tf.float32) * _mask(size)


def _coarse(views: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """The colour field of views (N, S, S, 3): means of 7 x 7 cells inside the mask, smoothly joined."""
    size = views.shape[1]
    cell = size // 7
    area = tf.nn.avg_pool2d(mask, cell, cell, "SAME")
    means = tf.nn.avg_pool2d(views * mask, cell, cell, "SAME") / tf.maximum(area, 1e-3)
    whole = tf.reduce_sum(views * mask, axis=(1, 2), keepdims=True) / tf.reduce_sum(mask)
    return tf.image.resize(tf.where(area > 0.05, means, whole), (size, size), "bicubic")


def _deviation(views: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Standard deviation inside the mask, (N, 1, 1, 3), at least 1."""
    area = tf.reduce_sum(mask)
    mean = tf.reduce_sum(views * mask, axis=(1, 2), keepdims=True) / area
    return tf.maximum(tf.sqrt(tf.reduce_sum((views - mean) ** 2 * mask, axis=(1, 2), keepdims=True) / area), 1)


def _mask(size: int) -> tf.Tensor:
    return tf.constant(field_of_view(size), tf.float32)[None, :, :, None]


def _uniform(rng: tf.random.Generator, count: tf.Tensor, low: float, high: float) -> tf.Tensor:
    return rng.uniform((count,), low, high)


def _sign(rng: tf.random.Generator, count: tf.Tensor) -> tf.Tensor:
    return tf.sign(rng.uniform((count,), -1, 1))


def _per_photo(values: tf.Tensor) -> tf.Tensor:
    return values[:, None, None, None]


def _chance(rng: tf.random.Generator, count: tf.Tensor, probability: float | tf.Tensor) -> tf.Tensor:
    """float32 (N, 1, 1, 1): 1 with the given probability, else 0."""
    return _per_photo(tf.cast(rng.uniform((count,)) < probability, tf.float32))
