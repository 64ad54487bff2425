"""What the time bound of a decode costs on the normal path: the same decode with and without looks at the deadline.

    python benchmarks/decode_deadline.py [--rounds 400] [--write]

The two take turns, photo by photo, in this process; CPU time of the thread. Takes half a minute.
"""

import argparse
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from benchmarks.figures import table
from benchmarks.machine import machine_lines, write_section
from benchmarks.photos import photo_sets
from model_code import decode_pixels
from model_code.decode import decode
from model_code.preprocessing import Recipe

BUDGET = 0.02
RECIPE = Recipe(352)


class Untimed(io.BytesIO):
    """What `decode_pixels` would read from without a time bound."""

    def __init__(self, data: bytes, deadline: float) -> None:
        super().__init__(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=400, help="decodes of each photo, each way (%(default)s)")
    parser.add_argument("--write", action="store_true", help="replace the section `Decoding deadline` of benchmarks/RESULTS.md")
    asked = parser.parse_args()
    rows = [("photo", "bounded, ms", "unbounded, ms", "cost", f"budget {BUDGET:.0%}")]
    for photos in photo_sets(None):
        bounded, unbounded = compare(photos.files[0], asked.rounds)
        cost = float(np.median(bounded) / np.median(unbounded)) - 1
        figures = (f"{np.median(bounded):.3f}", f"{np.median(unbounded):.3f}", f"{cost:+.1%}")
        rows.append((photos.description, *figures, "kept" if cost <= BUDGET else "missed"))
    command = f"python benchmarks/decode_deadline.py --rounds {asked.rounds} --write"
    text = "\n".join([*machine_lines(["pillow", "numpy"]), f"- Command: `{command}`", "", table(rows[0], rows[1:])])
    print(text)
    if asked.write:
        write_section("Decoding deadline", text)


def compare(data: bytes, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """Milliseconds of CPU of `rounds` decodes with a time bound and without, (rounds,) each; they are first by turns."""
    seconds = np.empty((rounds, 2))
    for i in range(rounds):
        for bounded in (i % 2 == 0, i % 2 == 1):
            with patch.object(decode_pixels, "_Timed", decode_pixels._Timed if bounded else Untimed):
                seconds[i, 0 if bounded else 1] = _timed(lambda: decode(data, RECIPE.working_side, 10**8))
    return seconds[:, 0] * 1000, seconds[:, 1] * 1000


def _timed(work: Callable[[], object]) -> float:
    start = time.thread_time()
    work()
    return time.thread_time() - start


if __name__ == "__main__":
    main()
