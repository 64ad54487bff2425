"""Evidently's DataDriftPreset with its defaults: a JSON line a window, [drift, score] of any column and of the dataset.

    python evidently_drift.py WINDOWS.npz

Runs in an environment of its own; imports nothing of this project. A score is how far beyond its threshold the column is, as a
logarithm: the farthest one's, and that of the column at which half of them are beyond.
"""

import json
import sys
import warnings

import numpy as np
import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset


def main() -> None:
    warnings.simplefilter("ignore")
    stored = np.load(sys.argv[1])
    names = stored["names"].tolist()
    definition = DataDefinition(numerical_columns=names, categorical_columns=["predicted_class"])

    def dataset(values: np.ndarray) -> Dataset:
        frame = pd.DataFrame(values[:, :-1], columns=names)
        frame["predicted_class"] = values[:, -1].astype(int).astype(str)
        return Dataset.from_pandas(frame, data_definition=definition)

    reference = dataset(stored["reference"])
    for key in sorted(name for name in stored.files if name.startswith("window_")):
        found = Report([DataDriftPreset()]).run(dataset(stored[key]), reference).dict()["metrics"]
        columns = [metric for metric in found if metric["config"]["type"].endswith(":ValueDrift")]
        total = next(metric for metric in found if metric["config"]["type"].endswith(":DriftedColumnsCount"))
        if len(columns) != len(names) + 1:
            raise RuntimeError(f"Evidently judged {len(columns)} of {len(names) + 1} columns")
        whole = total["value"]["share"] >= total["config"]["drift_share"]
        scores = sorted(map(beyond, columns), reverse=True)
        print(json.dumps([[scores[0] > 0, scores[0]], [bool(whole), scores[(len(scores) - 1) // 2]]]), flush=True)


def beyond(metric: dict) -> float:
    """Above 0 for a drift: Evidently compares p-values from below and distances from above."""
    threshold, value = metric["config"]["threshold"], max(metric["value"], 1e-300)
    return float(np.log(threshold / value if "p_value" in metric["config"]["method"] else value / threshold))


if __name__ == "__main__":
    main()
