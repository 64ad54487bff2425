"""The photos that are sent, in two sizes."""

import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
LARGE_SIDE = 2048
_QUALITY = 80
"""Of the enlarged JPEG files: about 225 kB for the sample photo, as fundus cameras write them."""
_MOST = 32
"""Photos of a folder that are used."""


@dataclass(frozen=True)
class PhotoSet:
    """Image files of one size, sent in turn."""

    name: str
    """`small` or `large`."""
    description: str
    files: list[bytes]


def photo_sets(folder: Path | None) -> list[PhotoSet]:
    """The sample photos, or those of a folder (as they are, and enlarged). Raises ValueError if it holds none."""
    if folder is None:
        small, to_enlarge = [(SAMPLES / "canary.jpg").read_bytes()], [(SAMPLES / "retina.jpg").read_bytes()]
    else:
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".webp"})
        if not paths:
            raise ValueError(f"{folder} holds no .jpg, .jpeg or .webp file.")
        small = to_enlarge = [path.read_bytes() for path in paths[:: -(-len(paths) // _MOST)]]
    large = [_enlarged(photo) for photo in to_enlarge]
    return [PhotoSet(name, _description(files), files) for name, files in (("small", small), ("large", large))]


def _enlarged(photo: bytes) -> bytes:
    image = Image.open(io.BytesIO(photo)).convert("RGB")
    factor = LARGE_SIDE / max(image.size)
    image = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def _description(files: list[bytes]) -> str:
    sides = sorted(max(Image.open(io.BytesIO(photo)).size) for photo in files)
    kilobytes = sorted(len(photo) / 1000 for photo in files)
    middle = len(files) // 2
    what = "one photo" if len(files) == 1 else f"{len(files)} photos, median"
    return f"{what} of {sides[middle]} px, {kilobytes[middle]:.0f} kB"
