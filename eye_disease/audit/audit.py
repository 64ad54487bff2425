"""A set of labelled photos -> everything that is wrong with it."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from eye_disease.audit.look import FEATURES, Look, look_at
from eye_disease.audit.probes import Probe, probe_classes
from eye_disease.evaluation.confounding import warnings_of
from eye_disease.evaluation.duplicates import find_duplicates
from eye_disease.evaluation.manifest import LEFT_OUT
from model_code.classifier import Classifier
from model_code.settings import ServingSettings

CONFIDENT = 0.9
"""Confidence from which an answer that differs from the label contradicts it."""
Progress = Callable[[str, int, int], None]
"""Called with (step, done, in all)."""


@dataclass(frozen=True)
class Audit:
    """What was found; positions count the readable photos."""

    rows: pd.DataFrame
    """The readable photos: path, label, source, group, split."""
    looks: list[Look]
    unreadable: dict[str, str]
    """Path -> why."""
    left_out: dict[str, list[str]]
    """Reason -> the files of the folder that were not taken for photos."""
    pairs: pd.DataFrame
    """See evaluation.duplicates.find_duplicates; `same_file` where the files are equal byte by byte."""
    crossing_groups: list[str]
    """Patients with photos in more than one split."""
    confounded: list[str]
    """A sentence for each class of one source, and source of one class."""
    probes: list[Probe]
    contradictions: pd.DataFrame | None = None
    """See `contradicted`; None: no model was asked."""
    ungradable: np.ndarray | None = None
    """int (M,): positions of the photos that the model would have taken again; None: no model was asked."""

    @property
    def two_labels(self) -> pd.DataFrame:
        """Pairs of near-duplicate photos that have two labels."""
        return self.pairs[self.pairs["label_1"] != self.pairs["label_2"]]

    @property
    def across_splits(self) -> pd.DataFrame:
        """Pairs of near-duplicate photos on two sides of the given split."""
        split = self.rows["split"].to_numpy()
        first, second = self.pairs["first"].to_numpy(int), self.pairs["second"].to_numpy(int)
        if self.rows["split"].isna().any():
            return self.pairs.iloc[:0]
        across: pd.DataFrame = self.pairs[split[first] != split[second]]
        return across

    @property
    def shortcuts(self) -> list[Probe]:
        """The probes that tell a class, best first."""
        return sorted((probe for probe in self.probes if probe.tells), key=lambda probe: -probe.auroc)


def audit(rows: pd.DataFrame, folder: Path, package: Path | None, progress: Progress) -> Audit:
    """Look at every photo of a manifest (evaluation.manifest's table), whose paths start from `folder`.

    package: a model package that is asked what it sees, or None. Unreadable photos are listed, never raised.
    """
    left_out = rows.attrs.get(LEFT_OUT, {})
    looks, unreadable, readable = [], {}, []
    for position, (path, look) in enumerate(_look_at_all(folder, list(rows["path"]), progress)):
        if isinstance(look, str):
            unreadable[path] = look
        else:
            looks.append(look)
            readable.append(position)
    rows = rows.iloc[readable].reset_index(drop=True)
    pairs = find_duplicates(rows, [look.fingerprint for look in looks])
    files = np.array([look.file_sha256 for look in looks])
    first, second = pairs["first"].to_numpy(int), pairs["second"].to_numpy(int)
    pairs = pairs.assign(same_file=files[first] == files[second] if len(pairs) else np.zeros(0, bool))
    contradictions = ungradable = None
    if package is not None and len(rows):
        answers = answer_all(
            package, [folder / path for path in rows["path"]], lambda *done: progress("asking the model", *done)
        )
        contradictions, ungradable = contradicted(answers, rows["label"].to_numpy(str)), not_gradable(answers)
    return Audit(
        rows=rows,
        looks=looks,
        unreadable=unreadable,
        left_out=left_out,
        pairs=pairs,
        crossing_groups=_crossing(rows),
        confounded=warnings_of(rows),
        probes=list(_probed(rows, looks, progress)),
        contradictions=contradictions,
        ungradable=ungradable,
    )


def _look_at_all(folder: Path, paths: list[str], progress: Progress) -> Iterator[tuple[str, Look | str]]:
    with ThreadPoolExecutor() as executor:
        for done, look in enumerate(executor.map(lambda path: look_at(folder / path), paths), start=1):
            progress("reading photos", done, len(paths))
            yield paths[done - 1], look


def _probed(rows: pd.DataFrame, looks: list[Look], progress: Progress) -> Iterator[Probe]:
    if not looks:
        return
    features = {name: np.stack([look.features[name] for look in looks]) for name in FEATURES}
    total = len(features) * rows["label"].nunique()
    for done, probe in enumerate(probe_classes(features, rows["label"].to_numpy(str), rows["group"].to_numpy(str)), start=1):
        progress("probing", done, total)
        yield probe


def _crossing(rows: pd.DataFrame) -> list[str]:
    """Groups with photos in more than one split."""
    if rows["split"].isna().any() or (rows["group"] == rows["path"]).all():
        return []
    sides = rows.groupby("group")["split"].nunique()
    return [str(group) for group in sides.index[sides > 1]]


def answer_all(package: Path, paths: list[Path], progress: Callable[[int, int], None]) -> pd.DataFrame:
    """A model package's answers to photos, a row each, in order. progress: called with (photos done, photos in all).

    Raises OSError or ValueError for a package that cannot be loaded.
    """
    settings = ServingSettings.from_env({"INFERENCE_THREADS": "2"})
    classifier = Classifier(package, "audit", settings)
    answers = []
    with ThreadPoolExecutor(2) as executor:
        for done, answered in enumerate(executor.map(lambda path: classifier.classify(path.read_bytes()), paths), start=1):
            answers.append(answered.answer)
            progress(done, len(paths))
    return pd.DataFrame(answers)


def contradicted(answers: pd.DataFrame, labels: np.ndarray) -> pd.DataFrame:
    """The answers that confidently name another class than the label, worst first; labels str (N,).

    Columns: position, label, predicted_class, confidence, label_probability. Only labels that are classes of the model.
    """
    classes = [name.removeprefix("prob_") for name in answers.columns if name.startswith("prob_")]
    known = np.isin(labels, classes) & answers["predicted_class"].notna().to_numpy()
    rows = answers[known].assign(position=np.flatnonzero(known), label=labels[known])
    of_label = [row[f"prob_{row['label']}"] for _, row in rows.iterrows()]
    rows = rows.assign(label_probability=np.asarray(of_label, float))
    wrong = rows[(rows["predicted_class"] != rows["label"]) & (rows["confidence"].astype(float) >= CONFIDENT)]
    columns = ["position", "label", "predicted_class", "confidence", "label_probability"]
    return wrong.sort_values("label_probability")[columns].reset_index(drop=True)


def not_gradable(answers: pd.DataFrame) -> np.ndarray:
    """int (M,): positions of photos that the model would have taken again."""
    return np.flatnonzero((answers["decision"] == "retake").to_numpy())
