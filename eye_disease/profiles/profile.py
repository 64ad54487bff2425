"""A summary of any number of one model's records: of bounded size, mergeable, the same whatever the split."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import add
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from eye_disease.profiles.columns import Records, column, numbers
from eye_disease.profiles.critical_values import CLASS_STREAM, SHARES
from eye_disease.profiles.layout import EMBEDDING, Layout
from eye_disease.profiles.sample import Sample
from eye_disease.profiles.tally import FLAGS, Tally

MAX_SITES = 64
NO_SITE = ""
"""Records without a site."""
OTHER_SITES = "(other sites)"
"""The sites beyond MAX_SITES, together."""
_BATCH_ROWS = 65_536
_FACTS = (
    "prediction_id",
    "site",
    "canary",
    "timestamp",
    "predicted_class",
    "decision",
    "inference_time_ms",
    "error_code",
    *FLAGS,
)


@dataclass(frozen=True)
class Profile:
    """Of records of one model. Photos sent as canaries never enter."""

    layout: Layout
    sites: Mapping[str, Tally]
    """Site -> tally: NO_SITE, at most MAX_SITES sites, and OTHER_SITES."""
    sample: Sample
    lost: int
    """Records that could not be written, as later ones report."""

    @classmethod
    def empty(cls, layout: Layout) -> Self:
        """Of no records."""
        return cls(layout, {}, Sample(np.empty(0, np.uint64), np.empty((0, len(EMBEDDING)), np.float32)), 0)

    @classmethod
    def from_table(cls, records: Records, layout: Layout) -> Self:
        """Of a table or batch with the inference log's fields as columns; missing ones count as null.

        Raises ValueError for a column of the wrong type.
        """
        batches = records.to_batches(max_chunksize=_BATCH_ROWS) if isinstance(records, pa.Table) else _slices(records)
        return reduce(cls.merge, (cls._of_batch(batch, layout) for batch in batches), cls.empty(layout))

    @classmethod
    def _of_batch(cls, batch: pa.RecordBatch, layout: Layout) -> Self:
        lost = int(np.nansum(numbers(batch, "lost_records")))  # a canary's record may be the one that reports a loss
        batch = batch.select([name for name in batch.schema.names if name in set(profile_columns(layout))])
        traffic = pc.invert(column(batch, "canary", pa.bool_()).fill_null(False))
        batch = batch if traffic.false_count == 0 else batch.filter(traffic)
        site = column(batch, "site", pa.string()).fill_null(NO_SITE).dictionary_encode()
        names = site.dictionary.to_pylist()
        named = set(_bounded(names))
        wanted = sorted({name if name in named else OTHER_SITES for name in names})
        group = np.array([wanted.index(name if name in named else OTHER_SITES) for name in names], int)
        group = group[site.indices.to_numpy()] if names else group
        counted = batch.drop_columns([name for name in ("prediction_id", "site", "canary") if name in batch.schema.names])
        if len(wanted) > 1:
            counted = counted.take(pa.array(np.argsort(group, kind="stable")))
        sizes = np.bincount(group, minlength=len(wanted))
        starts = np.cumsum(sizes) - sizes
        tallies = {
            name: Tally.of(counted.slice(int(start), int(size)), layout)
            for name, start, size in zip(wanted, starts, sizes, strict=True)
        }
        return cls(layout, tallies, Sample.of(batch), lost)

    def merge(self, other: Self) -> Self:
        """Of both's records. Associative and commutative, exactly. Raises ValueError if the layouts differ."""
        if self.layout != other.layout:
            raise ValueError("The profiles have different classes or edges: merge only profiles of one model and reference.")
        named = set(_bounded([*self.sites, *other.sites]))
        sites: dict[str, Tally] = {}
        for name, tally in [*self.sites.items(), *other.sites.items()]:
            key = name if name in named else OTHER_SITES
            sites[key] = sites[key] + tally if key in sites else tally
        return type(self)(self.layout, dict(sorted(sites.items())), self.sample + other.sample, self.lost + other.lost)

    @cached_property
    def whole(self) -> Tally:
        """The tally of all sites together."""
        return reduce(add, self.sites.values(), Tally.empty(self.layout))

    def counts(self, tally: Tally) -> dict[str, np.ndarray]:
        """Stream -> counts (K,) in a tally of this layout: bins of the numeric ones, CLASS_STREAM, SHARES (false, true)."""
        rows = {
            name: row[: len(self.layout.edges[name]) + 1]
            for name, row in zip(self.layout.streams, tally.histograms, strict=True)
        }
        shares = {name: tally.flags[FLAGS.index(name)] for name in SHARES}
        return rows | {CLASS_STREAM: tally.classes} | shares

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        sites = {name: tally.to_json() for name, tally in self.sites.items()}
        return {"layout": self.layout.to_json(), "sites": sites, "sample": self.sample.to_json(), "lost": self.lost}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        layout = Layout.from_json(stored["layout"])
        sites = {name: Tally.from_json(tally, layout) for name, tally in stored["sites"].items()}
        return cls(layout, sites, Sample.from_json(stored["sample"]), stored["lost"])


def profile_columns(layout: Layout) -> list[str]:
    """The columns of records that a profile is made from."""
    return list(dict.fromkeys([*_FACTS, "lost_records", *layout.streams, *EMBEDDING]))


def _bounded(names: list[str]) -> list[str]:
    """The names with a tally of their own: those of the smallest hashes, so that every split of the records keeps the same."""
    free = {NO_SITE, OTHER_SITES}
    ranked = sorted(set(names) - free, key=lambda name: hashlib.blake2b(name.encode(), digest_size=8).digest())
    return [*free, *ranked[:MAX_SITES]]


def _slices(batch: pa.RecordBatch) -> list[pa.RecordBatch]:
    return [batch.slice(start, _BATCH_ROWS) for start in range(0, len(batch), _BATCH_ROWS)]
