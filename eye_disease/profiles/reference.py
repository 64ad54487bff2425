"""The reference: profile of a model's answers without drift, with critical values for windows of each size."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from eye_disease.common.errors import UserError
from eye_disease.profiles.columns import column, numbers
from eye_disease.profiles.critical_values import CLASS_STREAM, SHARES, critical_values, interpolated
from eye_disease.profiles.label_shift import ClassParts
from eye_disease.profiles.layout import Layout
from eye_disease.profiles.profile import Profile

REFERENCE_FILE = "reference_profile.json"
SMALLEST_REFERENCE = 50
_FORMAT = 1
_POOL_ROWS = 1_000
"""Records that critical values and class parts are made from; of more, a random choice."""


@dataclass(frozen=True)
class Reference:
    """Never changed in place: other data make another reference with another name."""

    name: str
    """Where it comes from: `validation`, or the production window it was taken from."""
    model_name: str
    model_version: str | None
    """None if it was made with the model package, before the version had a number."""
    created: str
    """ISO 8601, UTC"""
    profile: Profile
    parts: ClassParts
    critical: Mapping[str, tuple[float, ...]]
    """Stream -> critical values at critical.WINDOW_SIZES"""

    @classmethod
    def build(
        cls, records: pa.Table, classes: tuple[str, ...], name: str, model_name: str, model_version: str | None = None
    ) -> Self:
        """From records that show the model at its best: validation predictions, or a good production window.

        Takes a few seconds. Raises UserError for fewer than SMALLEST_REFERENCE answers.
        """
        answers = records.filter(_is_answer(records, classes))
        if len(answers) < SMALLEST_REFERENCE:
            raise UserError(
                f"The reference {name!r} has {len(answers)} answered records, expected {SMALLEST_REFERENCE} or more. "
                "Take more photos or a longer window."
            )
        layout = Layout.fit(answers, classes)
        rng = np.random.default_rng(0)
        pool = answers.take(pa.array(rng.permutation(len(answers))[:_POOL_ROWS]))
        codes = _codes(pool, layout)
        widths = {name: len(edges) + 1 for name, edges in layout.edges.items()}
        widths |= {CLASS_STREAM: len(classes), **dict.fromkeys(SHARES, 2)}
        probabilities = np.column_stack([numbers(pool, f"prob_{label_name}") for label_name in classes])
        return cls(
            name=name,
            model_name=model_name,
            model_version=model_version,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            profile=Profile.from_table(records, layout),
            parts=ClassParts.of(probabilities, codes, widths),
            critical=critical_values(codes, len(answers)),
        )

    @property
    def layout(self) -> Layout:
        """Classes and edges of every profile that is compared with this reference."""
        return self.profile.layout

    def critical_value(self, stream: str, n: int) -> float:
        """What the stream's distance stays below in 99 % of windows of n predictions without drift."""
        return interpolated(self.critical[stream], n)

    def to_bytes(self) -> bytes:
        """One JSON file, well under 1 MB."""
        stored = {**vars(self), "profile": self.profile.to_json(), "parts": self.parts.to_json(), "format": _FORMAT}
        return f"{json.dumps(stored, allow_nan=False)}\n".encode()

    def save(self, path: Path) -> None:
        """Write that file."""
        path.write_bytes(self.to_bytes())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote. Raises UserError if the file is not a reference of this format, OSError if unreadable."""
        try:
            stored: dict[str, Any] = json.loads(path.read_bytes())
            if (version := stored.pop("format")) != _FORMAT:
                raise UserError(f"{path} has format {version}, expected {_FORMAT}. Build the reference again.")
            profile, parts = Profile.from_json(stored.pop("profile")), ClassParts.from_json(stored.pop("parts"))
            critical = {name: tuple(values) for name, values in stored.pop("critical").items()}
            return cls(profile=profile, parts=parts, critical=critical, **stored)
        except (KeyError, TypeError, AttributeError, IndexError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise UserError(f"{path} is not a reference: {type(error).__name__}: {error}. Build it again.") from error


def _is_answer(records: pa.Table, classes: tuple[str, ...]) -> pa.Array:
    known = pc.is_in(column(records, "predicted_class", pa.string()), value_set=pa.array(classes, pa.string()))
    traffic = pc.invert(column(records, "canary", pa.bool_()).fill_null(False))
    return pc.and_(pc.and_(known, column(records, "error_code", pa.string()).is_null()), traffic)


def _codes(answers: pa.Table, layout: Layout) -> dict[str, np.ndarray]:
    """Stream -> bin or category of each record, int (N,), -1 for none; streams without any value are left out."""
    codes = {}
    for name in layout.streams:
        values = numbers(answers, name)
        codes[name] = np.where(np.isfinite(values), np.searchsorted(layout.arrays[name], values, side="right"), -1)
    predicted = column(answers, "predicted_class", pa.string())
    codes[CLASS_STREAM] = pc.index_in(predicted, value_set=pa.array(layout.classes, pa.string())).to_numpy()
    for name in SHARES:
        flag = column(answers, name, pa.bool_())
        if flag.null_count < len(flag):
            codes[name] = flag.cast(pa.int8()).fill_null(-1).to_numpy(zero_copy_only=False).astype(int)
    return codes
