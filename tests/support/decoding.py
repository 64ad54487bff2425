"""A process of its own that decodes photos: what it takes at most, and what it writes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.photos import PROJECT

_PROGRAM = """
import json, os, sys, time
from pathlib import Path
from model_code.decode import decode
from model_code.image_error import ImageError

def status(pid, name):
    return int(Path(f"/proc/{pid}/status").read_text().split(name + ":")[1].split()[0]) * 1024

def own_and_workers():
    return [os.getpid(), *map(int, Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())]

timeout, folder = float(sys.argv[1]), Path(sys.argv[2])
for name in ("warm.jpg", "warm.tif"):
    decode((folder / name).read_bytes(), 448, 50_000_000)
for path in sorted(folder.glob("photo-*")):
    data = path.read_bytes()
    before = {}
    for pid in own_and_workers():
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak counts from here
        before[pid] = status(pid, "VmRSS")
    started, code = time.monotonic(), None
    try:
        decode(data, 448, 50_000_000, timeout)
    except ImageError as error:
        code = error.code
    seconds = time.monotonic() - started
    grown = sum(max(0, status(pid, "VmHWM") - before.get(pid, 0)) for pid in own_and_workers())
    print(json.dumps({"name": path.name[6:], "code": code, "seconds": seconds, "grown": grown}), flush=True)
"""


def decode_apart(folder: Path, photos: dict[str, bytes], timeout_seconds: float = 10.0) -> tuple[dict[str, Any], str]:
    """({name -> code, seconds, bytes by which the process and its workers have grown}, what they wrote to standard error)."""
    from tests.support.photos import encode, fundus

    for name, data in {f"photo-{name}": data for name, data in photos.items()}.items():
        (folder / name).write_bytes(data)
    (folder / "warm.jpg").write_bytes(encode(fundus(), "JPEG"))
    (folder / "warm.tif").write_bytes(encode(fundus(), "TIFF"))
    command = [sys.executable, "-W", "default", "-c", _PROGRAM, str(timeout_seconds), str(folder)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return {line["name"]: line for line in map(json.loads, done.stdout.splitlines())}, done.stderr
