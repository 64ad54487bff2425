"""Alibi Detect with its defaults: a JSON line a window, [TabularDrift, ClassifierDrift on the embedding].

    python alibi_drift.py WINDOWS.npz

Runs in an environment of its own; imports nothing of this project. Both are at p < .05, TabularDrift (KS, chi-square) with
Bonferroni's correction; ClassifierDrift trains scikit-learn's logistic regression, the backend that needs no deep learning.
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
        print(json.dumps([bool(answer["data"]["is_drift"]) for answer in answers]), flush=True)


if __name__ == "__main__":
    main()
