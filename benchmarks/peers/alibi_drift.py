"""Alibi Detect with its defaults: a JSON line a window, [drift, score] of TabularDrift and of ClassifierDrift on the embedding.

    python alibi_drift.py WINDOWS.npz

Runs in an environment of its own; imports nothing of this project. Both are at p < .05, TabularDrift (KS, chi-square) with
Bonferroni's correction; a score is -log10 of the smallest p-value. ClassifierDrift trains scikit-learn's logistic regression,
the backend that needs no deep learning.
"""

import json
import sys
import warnings

import numpy as np
from alibi_detect.cd import ClassifierDrift, TabularDrift
from sklearn.linear_model import LogisticRegression


def main() -> None:
    warnings.simplefilter("ignore")
    stored = np.load(sys.argv[1])
    names = stored["names"].tolist()
    embedding = [i for i, name in enumerate(names) if name.startswith("embedding_")]
    reference = stored["reference"]
    tabular = TabularDrift(reference, categories_per_feature={len(names): None})
    classifier = ClassifierDrift(reference[:, embedding], LogisticRegression(), backend="sklearn")
    for key in sorted(name for name in stored.files if name.startswith("window_")):
        window = stored[key]
        answers = (tabular.predict(window), classifier.predict(window[:, embedding]))
        print(json.dumps([[bool(one["data"]["is_drift"]), score(one["data"]["p_val"])] for one in answers]), flush=True)


def score(p_values: object) -> float:
    """Larger for more drift."""
    return float(-np.log10(max(np.min(p_values), 1e-300)))


if __name__ == "__main__":
    main()
