"""The worklist as one HTML page: photo, heatmap, answer, a key a class; it saves a CSV that `feedback --file` takes."""

import base64
import hashlib
import io
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from eye_disease.common.text import one_line
from eye_disease.records.labels import CHOSEN, DRAWN
from model_code.decode import decode

SIDE = 640
"""Longest side of a photo on the page, pixels: enough to judge by, and a page of 60 stays under 20 MB."""
UNSURE, BAD_PHOTO = "unsure", "bad photo"
"""What may be said instead of a class; it stays on the page and is not saved."""
_MAX_PIXELS = 100_000_000
_TEMPLATE = Path(__file__).with_name("page.html.j2")


def page(model: str, classes: tuple[str, ...], listed: pd.DataFrame, heatmaps: dict[str, str]) -> str:
    """HTML that needs nothing else. listed: see `choose`; heatmaps: prediction id -> base64 of a PNG."""
    environment = Environment(loader=FileSystemLoader(_TEMPLATE.parent), autoescape=True, undefined=StrictUndefined)
    environment.filters["plain"] = one_line
    photos = [_photo(row, heatmaps.get(row["prediction_id"])) for _, row in listed.iterrows()]
    identity = hashlib.sha256("".join(sorted(listed["prediction_id"])).encode()).hexdigest()[:16]
    return environment.get_template(_TEMPLATE.name).render(
        model=model, classes=classes, photos=photos, key=f"worklist-{identity}", unsure=UNSURE, bad_photo=BAD_PHOTO
    )


def _photo(row: pd.Series, heatmap: str | None) -> dict[str, Any]:
    probabilities = {name.removeprefix("prob_"): row[name] for name in row.index if name.startswith("prob_")}
    ranked = sorted(probabilities.items(), key=lambda item: -item[1])
    site = f" Site: {one_line(row['site'], 60)}." if isinstance(row["site"], str) else ""
    answer = ", ".join(f"{name} {probability:.2f}" for name, probability in ranked)
    return {
        "prediction_id": row["prediction_id"],
        "picture": _jpeg(Path(row["file"])),
        "heatmap": f"data:image/png;base64,{heatmap}" if heatmap else None,
        "answer": f"Version {row['model_version']}: {answer}. Decision: {row['decision']}.{site}",
        "reason": row["reason"],
        "chosen": DRAWN if row["by_lot"] else CHOSEN,
    }


def _jpeg(file: Path) -> str:
    image = decode(file.read_bytes(), SIDE, _MAX_PIXELS).image
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
