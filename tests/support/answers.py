"""Made-up answers of a classifier to labelled photos."""

import numpy as np
import pandas as pd

from eye_disease.evaluation.parts import Answers

CLASSES = ("cataract", "diabetic_retinopathy", "glaucoma", "normal")


def labelled(
    photos: int, seed: int = 0, labels: tuple[str, ...] = CLASSES, sources: tuple[str, ...] = ("north", "south")
) -> pd.DataFrame:
    """Photos of as many labels and sources, independent of each other; two of a patient, whose label they share."""
    rng = np.random.default_rng(seed)
    patients = -(-photos // 2)
    each = {
        "group": np.arange(patients).astype(str),
        "label": rng.choice(labels, patients),
        "source": rng.choice(sources, patients),
        "age": rng.uniform(30, 85, patients).round(),
        "sex": rng.choice(["F", "M"], patients),
    }
    rows = pd.DataFrame({name: np.repeat(values, 2)[:photos] for name, values in each.items()})
    grade = np.where(rows["label"] == "diabetic_retinopathy", rng.integers(1, 5, photos), np.nan)
    return rows.assign(path=[f"{i}.png" for i in range(photos)], split="val", finding=np.nan, grade=grade)


def answering(rows: pd.DataFrame, scores: np.ndarray, reported: np.ndarray | None = None) -> Answers:
    """Answers whose probabilities are the softmax of scores, float (N, C)."""
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return Answers(CLASSES, shares / shares.sum(axis=1, keepdims=True), rows, reported)


def seeing(rows: pd.DataFrame, skill: float = 3.0, seed: int = 0) -> np.ndarray:
    """Scores, float (N, C), of a network that sees the disease: the higher the skill, the better. Unknown labels look like
    normal ones."""
    rng = np.random.default_rng(seed)
    place = rows["label"].map({name: i for i, name in enumerate(CLASSES)}).fillna(CLASSES.index("normal")).to_numpy(int)
    return rng.normal(0, 1, (len(rows), len(CLASSES))) + skill * np.eye(len(CLASSES))[place]
