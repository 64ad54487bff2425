import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eye_disease.profiles.reference import REFERENCE_FILE, Reference
from model_code.package import FACTS_FILE, LITERT_FILE, ModelFacts, OtherFinding, Statistics, keras_file
from model_code.preprocessing import Recipe
from model_code.promise import Bounded, Promise
from tests.support.photos import PACKAGE

CLASSES = ("a", "b")


def test_facts_are_read_as_they_were_written(tmp_path: Path) -> None:
    facts = ModelFacts(
        name="own",
        classes=("a", "b", "ç"),
        recipe=Recipe(96, crop="none", scaling="tf", resize="bicubic"),
        output_kind="probabilities",
        runtime="keras",
        temperature=1.25,
        low_confidence=0.7,
        other_finding=OtherFinding(1.5, -2.0, 0.3),
        second_disease=0.25,
        promise=Promise(0.08, 0.05, 0.95, 0.7, Bounded(3, 100, 0.076), None, 0.5, 200),
        provenance={"base": "x", "figures": {"accuracy": 0.5}},
    )
    facts.save(tmp_path)
    assert ModelFacts.load(tmp_path) == facts


def test_facts_of_a_release_before_the_promise_are_read(tmp_path: Path) -> None:
    ModelFacts("own", CLASSES, Recipe(96)).save(tmp_path)
    stored = json.loads((tmp_path / FACTS_FILE).read_text())
    for name in ("other_finding", "second_disease", "promise"):
        assert stored.pop(name) is None
    (tmp_path / FACTS_FILE).write_text(json.dumps(stored))
    assert ModelFacts.load(tmp_path) == ModelFacts("own", CLASSES, Recipe(96))


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"runtime": "torch"}, "runtime='torch'.*litert, keras"),
        ({"output_kind": "scores"}, "output_kind='scores'.*logits, probabilities"),
        ({"classes": ("a",)}, "at least two different names"),
        ({"classes": ("a", "a")}, "at least two different names"),
        ({"classes": ("a", "")}, "at least two different names"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"temperature": float("inf")}, "temperature=inf"),
    ],
)
def test_facts_that_cannot_be_served_are_refused_by_name(wrong: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        ModelFacts(**({"name": "own", "classes": CLASSES, "recipe": Recipe(96)} | wrong))


def test_a_folder_without_facts_is_no_package(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"not a model package: it has no {FACTS_FILE}"):
        ModelFacts.load(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-20],
        lambda text: text.replace('"classes"', '"labels"'),
        lambda text: text.replace('"temperature"', '"heat"'),
        lambda text: text.replace('"crop"', '"cut"'),
        lambda text: text.replace('"fundus"', '"square"'),
    ],
    ids=["cut short", "no classes", "unknown field", "unknown recipe field", "wrong recipe"],
)
def test_a_wrong_facts_file_is_a_value_error(change: Any, tmp_path: Path) -> None:
    ModelFacts("own", CLASSES, Recipe(96)).save(tmp_path)
    path = tmp_path / FACTS_FILE
    path.write_text(change(path.read_text()))
    with pytest.raises(ValueError):
        ModelFacts.load(tmp_path)


def test_statistics_are_read_as_they_were_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    statistics = Statistics(
        class_weights=rng.normal(size=(5, 2)),
        embedding_mean=rng.normal(size=5),
        components=rng.normal(size=(5, 3)),
        source_means=rng.normal(size=(2, 4)),
        source_precisions=rng.normal(size=(2, 4, 4)),
        ood_limit=np.asarray(1.5),
        familiar_limit=np.asarray(0.75),
        quality_weights=rng.normal(size=5),
    )
    statistics.save(tmp_path)
    loaded = vars(Statistics.load(tmp_path))
    assert {array.dtype for array in loaded.values()} == {np.dtype(np.float64)}
    for name, array in vars(statistics).items():
        assert loaded[name] == pytest.approx(array, rel=1e-6)


def test_absent_statistics_stay_absent(tmp_path: Path) -> None:
    Statistics().save(tmp_path)
    assert Statistics.load(tmp_path) == Statistics()


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_the_keras_source_is_found(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"classifier{suffix}").touch()
    assert keras_file(tmp_path) == tmp_path / f"classifier{suffix}"


def test_a_package_without_a_keras_source_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no classifier\.keras and no classifier\.h5"):
        keras_file(tmp_path)


def test_the_bundled_package_is_whole() -> None:
    facts, statistics = ModelFacts.load(PACKAGE), Statistics.load(PACKAGE)
    assert facts.classes == ("cataract", "diabetic_retinopathy", "glaucoma", "normal")
    assert (facts.runtime, facts.quantized, facts.recipe) == ("litert", True, Recipe(352))
    assert (PACKAGE / LITERT_FILE).is_file()
    assert keras_file(PACKAGE).suffix == ".keras"
    assert statistics.class_weights is not None
    assert statistics.components is not None
    assert statistics.class_weights.shape == (statistics.components.shape[0], len(facts.classes))
    assert statistics.source_means is not None
    assert statistics.quality_weights is not None
    assert statistics.quality_weights.shape == (statistics.source_means.shape[1] + 1,)
    assert Reference.load(PACKAGE / REFERENCE_FILE).layout.classes == facts.classes
    assert json.dumps(facts.provenance, allow_nan=False)
