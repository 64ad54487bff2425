"""The header of a JPEG file (ITU-T T.81, annex B)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from model_code.formats.header import Header, shrink_factor
from model_code.formats.orientation import orientation
from model_code.image_error import ImageError

START, END = b"\xff\xd8", b"\xff\xd9"
MAX_SCANS = 64
"""Of a progressive file. Encoders write about 10; a scan of a few bytes costs time for every pixel of the photo."""
USUAL_SCANS = 16

_SOF = {0xC0, 0xC1, 0xC2}
"""Frames that are decoded: baseline, extended and progressive, with Huffman codes."""
_PROGRESSIVE = 0xC2
_OTHER_FRAMES = {0xC3: "lossless", 0xC5: "hierarchical", 0xC6: "hierarchical", 0xC7: "hierarchical"}
_OTHER_FRAMES |= dict.fromkeys((0xC9, 0xCA, 0xCB, 0xCC, 0xCD, 0xCE, 0xCF), "arithmetic-coded")
_SOS, _EOI, _APP0, _APP1, _APP14, _COM = 0xDA, 0xD9, 0xE0, 0xE1, 0xEE, 0xFE
_SIDE = set(range(_APP1, 0xF0)) - {_APP14} | {_COM}
"""Segments that the picture does not need: EXIF, XMP, profiles, further pictures, text."""
_WITHOUT_LENGTH = {0x00, 0x01, 0xD8, *range(0xD0, 0xD8)}
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_IN_SCAN = re.compile(rb"\xff[\x02-\xcf\xd9-\xfe]")
"""A marker that ends a scan's data: neither a stuffed byte nor a restart."""


@dataclass(frozen=True)
class _Frame:
    code: int
    width: int
    height: int
    sampling: tuple[tuple[int, int], ...]
    """Horizontal and vertical sampling of each component."""

    def coefficients(self) -> int:
        """Bytes of all coefficients, 16 bits each, as a decoder of several scans holds them."""
        across, down = max(h for h, _ in self.sampling), max(v for _, v in self.sampling)
        units = -(-self.width // (8 * across)) * -(-self.height // (8 * down))
        return units * sum(h * v for h, v in self.sampling) * 64 * 2


def read(data: bytes, working_side: int) -> Header:
    """The header of a JPEG file that starts at the first START in `data`.

    Raises ImageError: format_unsupported, mode_unsupported, image_too_many_scans, image_corrupt.
    """
    start = data.index(START)
    frame, segments, turned, scan_at = _segments(data, start + 2)
    scans = _count_scans(data, scan_at, frame)
    complete = data.rfind(END, scan_at) >= 0
    if not complete and scans > 1 and not _has_all_bits(data, scan_at, len(frame.sampling)):
        raise ImageError("image_corrupt", "The JPEG file is cut off: scans are missing.")
    factor = shrink_factor(frame.width, frame.height, working_side)
    scale = max(step for step in (1, 2, 4, 8) if step <= factor)
    memory = 4 * -(-frame.width // scale) * -(-frame.height // scale) + (frame.coefficients() if scans > 1 else 0)
    body = data[scan_at:] if complete else data[scan_at:].rstrip(b"\xff")
    defects = ["leading_bytes"] * (start > 0) + ["no_end_marker"] * (not complete)
    return Header(
        "JPEG",
        frame.width,
        frame.height,
        b"".join([START, *segments, body]),
        memory,
        turned,
        scans=scans,
        defect=",".join(defects) or None,
    )


def _segments(data: bytes, position: int) -> tuple[_Frame, list[bytes], int, int]:
    """(frame, segments that are kept, orientation, where the first scan starts)."""
    frame, exif, xmp = None, b"", b""
    segments: list[bytes] = []
    while (position := data.find(b"\xff", position)) >= 0 and position + 4 <= len(data):
        code = data[position + 1]
        if code == 0xFF or code in _WITHOUT_LENGTH:
            position += 1 if code == 0xFF else 2
            continue
        if code in (_SOS, _EOI):
            break
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4])
        if end < position + 4 or end > len(data):
            raise ImageError("image_corrupt", "The header of the JPEG file is cut off.")
        body = data[position + 4 : end]
        if code in _OTHER_FRAMES:
            raise ImageError(
                "format_unsupported",
                f"The JPEG is {_OTHER_FRAMES[code]}, which is not read. Send a baseline or progressive one.",
            )
        if code in _SOF:
            if frame:
                raise ImageError("image_corrupt", "The JPEG file has two frames.")
            frame = _read_frame(code, body)
        elif code == _APP1 and not exif and body.startswith(b"Exif\0\0"):
            exif = body
        elif code == _APP1 and not xmp and body.startswith(_XMP):
            xmp = body
        if code not in _SIDE:
            segments.append(data[position:end])
        position = end
    if frame is None or position < 0 or data[position + 1 : position + 2] != bytes([_SOS]):
        raise ImageError("format_unsupported", "Not a whole JPEG: it has no frame or no scan. Expected a JPEG file.")
    return frame, segments, orientation(exif, xmp), position


def _read_frame(code: int, body: bytes) -> _Frame:
    if len(body) < 6 or len(body) < 6 + 3 * body[5] or body[5] == 0:
        raise ImageError("image_corrupt", "The frame header of the JPEG file is cut off.")
    if body[0] != 8:
        raise ImageError("mode_unsupported", f"The JPEG has {body[0]} bits a sample. Send one of 8.")
    sampling = tuple((body[6 + 3 * i + 1] >> 4, body[6 + 3 * i + 1] & 15) for i in range(body[5]))
    if not all(1 <= h <= 4 and 1 <= v <= 4 for h, v in sampling):
        raise ImageError("image_corrupt", "The frame header of the JPEG file has a sampling that does not exist.")
    return _Frame(code, int.from_bytes(body[3:5]), int.from_bytes(body[1:3]), sampling)


def _count_scans(data: bytes, scan_at: int, frame: _Frame) -> int:
    """1 for a file whose one scan holds all, which needs no search. Raises ImageError: image_too_many_scans."""
    if frame.code != _PROGRESSIVE and data[scan_at + 4 : scan_at + 5] == bytes([len(frame.sampling)]):
        return 1
    scans = 0
    for _ in _scans(data, scan_at):
        scans += 1
        if scans > MAX_SCANS:
            raise ImageError(
                "image_too_many_scans",
                f"The progressive JPEG has more than {MAX_SCANS} scans; usual are about 10. Save it again, or as baseline.",
            )
    # A decoder holds all coefficients as soon as one scan has not got all of them.
    return max(2, scans)


def _scans(data: bytes, position: int) -> Iterator[bytes]:
    """The header of each scan, from the one at `position` to the end of the picture."""
    while marker := _IN_SCAN.search(data, position):
        position, code = marker.start(), data[marker.start() + 1]
        if code == _EOI:
            return
        body = data[position + 4 : position + 2 + int.from_bytes(data[position + 2 : position + 4])]
        if code == _SOS:
            yield body
        position += 4 + len(body)


def _has_all_bits(data: bytes, scan_at: int, components: int) -> bool:
    """Whether the scans bring every coefficient of so many components down to its last bit."""
    missing_bits: dict[tuple[int, int], int] = {}
    for body in _scans(data, scan_at):
        count = body[0] if body else 0
        if len(body) < 1 + 2 * count + 3:
            return False
        first, last, approximation = body[1 + 2 * count : 4 + 2 * count]
        for i in range(count):
            missing_bits |= {(body[1 + 2 * i], k): approximation & 15 for k in range(first, min(last, 63) + 1)}
    return len(missing_bits) == 64 * components and not any(missing_bits.values())
