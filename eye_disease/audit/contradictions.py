"""Labels that a model contradicts, and photos that nobody should be asked to judge."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from model_code.classifier import Classifier
from model_code.settings import ServingSettings

CONFIDENT = 0.9
"""Confidence from which an answer that differs from the label contradicts it."""


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
