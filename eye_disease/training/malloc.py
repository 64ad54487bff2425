"""How this process handles freed memory."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""`M_TRIM_THRESHOLD` and `M_MMAP_MAX` of glibc's malloc.h."""


def keep_freed_memory() -> bool:
    """Let glibc keep what is freed, instead of giving it back to the system; returns whether it could be told so.

    Each training step allocates and frees the same large activations; having the system map and clear them anew each time
    takes as long as computing them. Other C libraries are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_TRIM_THRESHOLD, -1)) and bool(mallopt(_MMAP_MAX, 0))
