"""A process that decodes photos for `decode_process`: requests on standard input, answers on standard output.

A request is REQUEST and the file; an answer REPLY and the pixels, or, with a width of 0, the error's code and message as JSON.
"""

import json
import math
import resource
import signal
import struct
import sys
from pathlib import Path

from PIL import Image

from model_code.decode_pixels import decode_pixels
from model_code.formats import read_header
from model_code.formats.header import MAX_DECODE_MEMORY
from model_code.image_error import ImageError

REQUEST = struct.Struct("<QId")
"""Bytes of the file, working side, timeout in seconds."""
REPLY = struct.Struct("<QII")
"""Bytes that follow, width, height."""
_SPARE = 64 * 2**20
"""Address space for what is not pixels."""


def main() -> None:
    """Answer until standard input ends."""
    while head := sys.stdin.buffer.read(REQUEST.size):
        size, working_side, timeout_seconds = REQUEST.unpack(head)
        data = sys.stdin.buffer.read(size)
        _limit_memory(size)
        signal.setitimer(signal.ITIMER_REAL, timeout_seconds)  # ends this process, whatever library it is in
        reply = _decode(data, working_side)
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.stdout.buffer.write(reply)
        sys.stdout.buffer.flush()


def _decode(data: bytes, working_side: int) -> bytes:
    try:
        image = decode_pixels(read_header(data, working_side), working_side, math.inf)
    except ImageError as error:
        return _reply({"code": error.code, "message": str(error)})
    except MemoryError:
        needed = "image_too_many_pixels", f"Decoding takes more than {MAX_DECODE_MEMORY // 2**20} MiB. Send a smaller photo."
        return _reply(dict(zip(("code", "message"), needed, strict=True)))
    return _reply(image)


def _reply(answer: Image.Image | dict[str, str]) -> bytes:
    if isinstance(answer, dict):
        body = json.dumps(answer).encode()
        return REPLY.pack(len(body), 0, 0) + body
    body = answer.tobytes()
    return REPLY.pack(len(body), *answer.size) + body


def _limit_memory(file_size: int) -> None:
    """What the header did not tell is refused by the system. (macOS has no such limit.)"""
    if sys.platform != "linux":
        return
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = now + MAX_DECODE_MEMORY + 2 * file_size + _SPARE
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
