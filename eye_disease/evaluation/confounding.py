"""Sources that give a class away: a network may learn to tell the camera apart, and never look at the disease."""

import pandas as pd


def class_of_one_source(rows: pd.DataFrame) -> dict[str, str]:
    """Label -> the only source that has it, where there are others; rows: columns label and source, a row a photo or a kind."""
    return _only(rows, "label", "source")


def source_of_one_class(rows: pd.DataFrame) -> dict[str, str]:
    """Source -> the only label that it has, where there are other sources; nothing can be measured within such a source."""
    return _only(rows, "source", "label")


def warnings_of(rows: pd.DataFrame) -> list[str]:
    """A sentence for each class of one source and each source of one class; rows: columns label and source, a row a photo."""
    labels, sources = rows["label"].value_counts(), rows["source"].value_counts()
    sentences = [
        f"All {labels[label]} photos of {label} come from one source, {source}: the network may learn that source (its "
        "cameras, its files) and not the disease. Add photos of the class from other sources."
        for label, source in class_of_one_source(rows).items()
    ]
    return sentences + [
        f"All {sources[source]} photos of the source {source} are {label}: whoever knows the source knows the class, and no "
        "figure within it can show that. Add photos of another class from the same cameras."
        for source, label in source_of_one_class(rows).items()
    ]


def _only(rows: pd.DataFrame, of: str, other: str) -> dict[str, str]:
    if rows["source"].nunique() < 2:
        return {}
    others = rows.groupby(of)[other].agg(["nunique", "first"])
    return {str(name): str(row["first"]) for name, row in others[others["nunique"] == 1].iterrows()}
