"""A process that decodes photos for `decode_process`: requests on standard input, answers on standard output.

A request is REQUEST and the file; an answer is REPLY, a JSON object and the pixels. The object holds the photo's other
fields, or an error's code and message.
"""

import json
import math
import resource
import signal
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from model_code.decode_file import decode_file
from model_code.dicom import load_pydicom
from model_code.formats import is_dicom
from model_code.formats.header import MAX_DECODE_MEMORY
from model_code.image_error import ImageError

REQUEST = struct.Struct("<QIId")
"""Bytes of the file, working side, most pixels, timeout in seconds."""
REPLY = struct.Struct("<QQ")
"""Bytes of the object and of the pixels."""
_SPARE = 40 * 2**20
"""Address space for what is not pixels."""


def main() -> None:
    """Answer until standard input ends."""
    while head := sys.stdin.buffer.read(REQUEST.size):
        size, working_side, max_pixels, timeout_seconds = REQUEST.unpack(head)
        data = sys.stdin.buffer.read(size)
        if is_dicom(data):
            with suppress(ImageError):  # which `decode_file` will say
                load_pydicom()
        _limit_memory(size)
        signal.setitimer(signal.ITIMER_REAL, timeout_seconds)  # ends this process, whatever library it is in
        reply = _decode(data, working_side, max_pixels)
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.stdout.buffer.write(reply)
        sys.stdout.buffer.flush()


def _decode(data: bytes, working_side: int, max_pixels: int) -> bytes:
    try:
        photo = decode_file(data, working_side, max_pixels, math.inf)
    except ImageError as error:
        return _reply({"code": error.code, "message": str(error)})
    except MemoryError:
        message = f"Decoding takes more than {MAX_DECODE_MEMORY // 2**20} MiB. Send a smaller photo."
        return _reply({"code": "image_too_many_pixels", "message": message})
    fields = {name: value for name, value in vars(photo).items() if name != "image"}
    return _reply({"size": photo.image.size, "photo": fields}, photo.image.tobytes())


def _reply(header: dict[str, Any], pixels: bytes = b"") -> bytes:
    body = json.dumps(header).encode()
    return REPLY.pack(len(body), len(pixels)) + body + pixels


def _limit_memory(file_size: int) -> None:
    """What the header did not tell is refused by the system. (macOS has no such limit.)"""
    if sys.platform != "linux":
        return
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = now + MAX_DECODE_MEMORY + 2 * file_size + _SPARE
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
