"""An audit as one HTML page that needs nothing else."""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from eye_disease.audit.audit import Audit
from eye_disease.audit.look import FEATURES, THUMBNAIL
from eye_disease.audit.probes import TELLS
from eye_disease.common.text import one_line
from eye_disease.evaluation.class_folders import summary

SHOWN = 60
"""Rows of a list that the page shows."""
_TEMPLATE = Path(__file__).with_name("page.html.j2")


@dataclass(frozen=True)
class Finding:
    """A line at the top of the page."""

    bad: bool
    text: str
    section: str
    """The id of the section that shows it."""


_LISTED = {
    "two_labels": ("pairs of near-duplicate photos have two labels", "No near-duplicate photos have two labels", "pairs"),
    "across_splits": (
        "pairs of near-duplicate photos lie in two splits",
        "No near-duplicate photos lie in two splits",
        "pairs",
    ),
    "crossing_groups": ("patients have photos in two splits", "No patient has photos in two splits", "counts"),
    "unreadable": ("files cannot be read", "All files can be read", "unreadable"),
    "contradictions": ("labels are contradicted by the model", "The model contradicts no label", "contradictions"),
    "ungradable": ("photos would have to be taken again", "No photo would have to be taken again", "ungradable"),
}
"""What an audit lists -> what is said of some, what of none, and the section that shows them."""


def findings(audit: Audit) -> list[Finding]:
    """What a person should know first, the bad ones before the good."""
    lines = [_shortcut(audit)]
    lines += [Finding(True, sentence, "counts") for sentence in audit.confounded]
    for name, (some, none, section) in _LISTED.items():
        if (listed := getattr(audit, name)) is not None:
            lines.append(Finding(len(listed) > 0, f"{len(listed):,} {some}." if len(listed) else f"{none}.", section))
    if audit.left_out:
        lines.append(Finding(True, summary(audit.left_out), "unreadable"))
    if (audit.rows["group"] == audit.rows["path"]).all():
        lines.append(Finding(True, "It is not known which photos are of one patient: there is no column `group`.", "counts"))
    return sorted(lines, key=lambda finding: not finding.bad)


def _shortcut(audit: Audit) -> Finding:
    shortcuts = audit.shortcuts
    if not shortcuts:
        return Finding(False, "No class can be told from the rest without looking at the eye.", "probes")
    best, others = shortcuts[0], len(shortcuts) - 1
    more = f"; {others} more such signs" if others else ""
    text = f"{best.label} can be told from the rest by its {best.features} alone (AUROC {best.auroc:.2f}){more}."
    return Finding(True, text, "probes")


def page(audit: Audit, title: str) -> str:
    """HTML, with small pictures of the photos that it names."""
    environment = Environment(loader=FileSystemLoader(_TEMPLATE.parent), autoescape=True, undefined=StrictUndefined)
    environment.filters["plain"] = one_line
    return environment.get_template(_TEMPLATE.name).render(
        title=title,
        audit=audit,
        findings=findings(audit),
        counts=_counts(audit.rows),
        probes=_probes(audit),
        features=FEATURES,
        tells=TELLS,
        pairs=[_pair(audit, row) for row in _worst_first(audit.pairs).head(SHOWN).itertuples()],
        contradictions=_contradictions(audit),
        ungradable=[_photo(audit, position) for position in _shown(audit.ungradable)],
        unreadable=list(audit.unreadable.items())[:SHOWN],
        shown=SHOWN,
        side=THUMBNAIL,
    )


def _counts(rows: pd.DataFrame) -> dict[str, Any]:
    """Photos by class and source, with the photos and patients of each class."""
    table = pd.crosstab(rows["label"], rows["source"])
    return {
        "sources": list(table.columns),
        "rows": [
            (
                label,
                [int(n) for n in table.loc[label]],
                int(table.loc[label].sum()),
                rows.loc[rows["label"] == label, "group"].nunique(),
            )
            for label in table.index
        ],
    }


def _probes(audit: Audit) -> dict[str, dict[str, Any]]:
    """Class -> group of features -> probe."""
    table: dict[str, dict[str, Any]] = {}
    for probe in audit.probes:
        table.setdefault(probe.label, {})[probe.features] = probe
    return table


def _worst_first(pairs: pd.DataFrame) -> pd.DataFrame:
    differs = pairs["label_1"] != pairs["label_2"]
    return pairs.assign(differs=differs).sort_values(["differs", "similarity"], ascending=False)


def _pair(audit: Audit, row: Any) -> dict[str, Any]:
    kind = "the same file" if row.same_file else "the same pixels" if row.identical else f"alike ({row.similarity:.3f})"
    photos = [_photo(audit, int(position)) for position in (row.first, row.second)]
    return {"kind": kind, "photos": photos, "differs": bool(row.differs)}


def _photo(audit: Audit, position: int) -> dict[str, str]:
    row = audit.rows.iloc[position]
    split = "" if pd.isna(row["split"]) else str(row["split"])
    return {"path": row["path"], "label": row["label"], "split": split, "picture": _picture(audit, position)}


def _contradictions(audit: Audit) -> list[dict[str, Any]]:
    if audit.contradictions is None:
        return []
    return [
        _photo(audit, row["position"])
        | {"answer": row["predicted_class"], "confidence": row["confidence"], "label_probability": row["label_probability"]}
        for row in audit.contradictions.head(SHOWN).to_dict("records")
    ]


def _shown(positions: np.ndarray | None) -> list[int]:
    return [] if positions is None else [int(position) for position in positions[:SHOWN]]


def _picture(audit: Audit, position: int) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(audit.looks[position].thumbnail).decode()
