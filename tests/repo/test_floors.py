"""The plan of the house: a folder imports only from floors below its own, and no module is part of a circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.support.servers import PROJECT

FLOORS = (
    ("model_code",),
    ("eye_disease.common",),
    ("eye_disease.records", "eye_disease.profiles", "eye_disease.evaluation", "eye_disease.conversion"),
    ("eye_disease.verdict", "eye_disease.registry"),
    ("eye_disease.monitoring", "eye_disease.training", "eye_disease.serving"),
    ("eye_disease.audit", "eye_disease.comparison", "eye_disease.retraining", "eye_disease.worklist"),
    ("eye_disease.cli",),
)
"""From the lowest to the highest."""
FLOOR = {folder: number for number, folders in enumerate(FLOORS) for folder in folders}
MODULES = {
    ".".join(path.relative_to(PROJECT).with_suffix("").parts): path
    for folder in ("model_code", "eye_disease")
    for path in sorted((PROJECT / folder).rglob("*.py"))
    if path.name not in ("__init__.py", "__main__.py")
}


def folder_of(module: str) -> str:
    return "model_code" if module.startswith("model_code") else ".".join(module.split(".")[:2])


def imports_of(path: Path, known: set[str]) -> set[str]:
    """The project's modules that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found & known


GRAPH = {module: imports_of(path, set(MODULES)) for module, path in MODULES.items()}


def test_every_folder_has_its_floor() -> None:
    assert {folder_of(module) for module in MODULES} == set(FLOOR)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_only_from_floors_below(module: str) -> None:
    own = folder_of(module)
    upwards = {other for other in GRAPH[module] if folder_of(other) != own and FLOOR[folder_of(other)] >= FLOOR[own]}
    assert not upwards


def test_no_module_is_part_of_a_circle() -> None:
    TopologicalSorter(GRAPH).prepare()  # raises CycleError, which names the circle


def test_model_code_stands_alone() -> None:
    """It is shipped inside every version, where the rest of the project is not."""
    assert not {other for module, others in GRAPH.items() if module.startswith("model_code") for other in others} - {
        module for module in MODULES if module.startswith("model_code")
    }
