"""The header of a TIFF file (TIFF 6.0; BigTIFF): its first directory, and only the tags that say how pixels are stored."""

from collections.abc import Mapping
from typing import Literal

from model_code.formats.header import Header
from model_code.image_error import ImageError

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Type of a tag's values -> bytes of one."""
_WHOLE = {1, 3, 4, 13, 16}
_MAX_VALUES = 16
"""Values of a tag that are read; no photo has more samples."""
_MAX_DIRECTORY = 4
"""The tags' values may be this many times as large as the file. Thousands of tags that share the same bytes fill memory."""

WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, ROWS = 256, 257, 258, 259, 262, 277, 278
MAX_SAMPLE_VALUE, PLANES, TILE_WIDTH, TILE_LENGTH, ORIENTATION, SAMPLE_FORMAT = 281, 284, 322, 323, 274, 339
_READ = {WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, ROWS}
_READ |= {MAX_SAMPLE_VALUE, PLANES, TILE_WIDTH, TILE_LENGTH, ORIENTATION, SAMPLE_FORMAT}
_UNCOMPRESSED = 1
_WHITE_IS_ZERO, _YCBCR = 0, 6
_JPEG = {6, 7}
_DEPTHS = (8, 10, 12, 14)
"""Bits of a camera's samples that may be stored in 16."""


def read(data: bytes) -> Header:
    """The header of a TIFF file. Raises ImageError: mode_unsupported, image_corrupt."""
    tags = _directory(data)
    if WIDTH not in tags or LENGTH not in tags:
        raise ImageError("image_corrupt", "The TIFF file does not say its size.")
    # Where a tag stands twice, one decoder takes the first and another the last.
    width, height = max(tags[WIDTH]), max(tags[LENGTH])
    bits = _bits(tags)
    turned = tags.get(ORIENTATION, (1,))[-1]
    used = _used_bits(tags, bits)
    grey = _samples(tags) == 1
    stored = 2 if grey and bits > 8 else 1 if grey else 4
    memory = stored * width * height * (2 if 2 <= turned <= 8 else 1) + _block(tags, width, height, bits)
    inverted = grey and bits > 8 and tags.get(PHOTOMETRIC, (0,))[-1] == _WHITE_IS_ZERO
    return Header("TIFF", width, height, data, memory, bits=used, inverted=inverted)


def _directory(data: bytes) -> Mapping[int, tuple[int, ...]]:
    """Tag -> values, of the tags that are needed."""
    order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
    big = 43 in data[2:4]

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], order)

    word, first = (8, number(8, 8)) if big else (4, number(4, 4))
    count_size, entry_size = (8, 20) if big else (2, 12)
    count = number(first, count_size)
    if first + count_size + count * entry_size > len(data) or first < 8 or count == 0:
        raise ImageError("image_corrupt", "The directory of the TIFF file is cut off.")
    tags: dict[int, tuple[int, ...]] = {}
    total = 0
    for at in range(first + count_size, first + count_size + count * entry_size, entry_size):
        tag, kind, values = number(at, 2), number(at + 2, 2), number(at + 4, word)
        size = _SIZES.get(kind, 1)
        total += values * size
        if tag in _READ and kind in _WHOLE:
            place = at + 4 + word if values * size <= word else number(at + 4 + word, word)
            numbers = tuple(number(place + i * size, size) for i in range(min(values, _MAX_VALUES)))
            tags[tag] = tags.get(tag, ()) + numbers if numbers else tags.get(tag, ())
    if total > _MAX_DIRECTORY * len(data):
        raise ImageError("image_corrupt", "The directory of the TIFF file says more than the file holds.")
    return {tag: numbers for tag, numbers in tags.items() if numbers}


def _samples(tags: Mapping[int, tuple[int, ...]]) -> int:
    photometric = tags.get(PHOTOMETRIC, (0,))[-1]
    jpeg = tags.get(COMPRESSION, (1,))[-1] in _JPEG and photometric in (2, _YCBCR)
    return max(tags.get(SAMPLES, (3 if jpeg else 1,)))


def _bits(tags: Mapping[int, tuple[int, ...]]) -> int:
    """Bits a sample. Raises ImageError: mode_unsupported."""
    bits, formats = set(tags.get(BITS, (1,))), set(tags.get(SAMPLE_FORMAT, (1,)))
    if not formats <= {1, 4}:
        raise ImageError(
            "mode_unsupported", "The TIFF's samples are signed or floating-point, with no agreed range. Send 8 or 16 bits."
        )
    depth = max(bits)
    if len(bits) > 1 or depth not in (1, 2, 4, 8, 12, 16) or (depth == 12 and _samples(tags) > 1):
        named = ", ".join(str(bit) for bit in sorted(bits))
        raise ImageError(
            "mode_unsupported", f"{_samples(tags)} samples of {named} bits a pixel are not read from TIFF. Send 8 or 16 bits."
        )
    return depth


def _used_bits(tags: Mapping[int, tuple[int, ...]], bits: int) -> int:
    """Bits in which the brightest sample that the file speaks of fits. Raises ImageError: mode_unsupported."""
    if bits != 16 or MAX_SAMPLE_VALUE not in tags:
        return bits
    brightest = max(tags[MAX_SAMPLE_VALUE])
    used = next((depth for depth in _DEPTHS if brightest < 2**depth), bits)
    if used < bits and _samples(tags) > 1:
        raise ImageError(
            "mode_unsupported", f"Colour of {used} bits in samples of 16 is not read from TIFF. Send 8 or 16 bits."
        )
    return used


def _block(tags: Mapping[int, tuple[int, ...]], width: int, height: int, bits: int) -> int:
    """Bytes of the largest piece, a tile or strip, that is unpacked at once."""
    compression = tags.get(COMPRESSION, (1,))[-1]
    if compression == _UNCOMPRESSED:
        return 0
    if TILE_WIDTH in tags or TILE_LENGTH in tags:
        pixels = max(tags.get(TILE_WIDTH, (width,))) * max(tags.get(TILE_LENGTH, (height,)))
    else:
        pixels = width * min(max(tags.get(ROWS, (height,))), height)
    planes = _samples(tags) if tags.get(PLANES, (1,))[-1] == 1 else 1
    as_rgba = 4 if compression in _JPEG or tags.get(PHOTOMETRIC, (0,))[-1] == _YCBCR else 0
    return pixels * (-(-bits * planes // 8) + as_rgba)
