"""A trained network and its photos -> a model package with calibration, limits, statistics and a reference for drift."""

import shutil
import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.special import softmax

from eye_disease.conversion.package_builder import add_network, seal
from eye_disease.conversion.quantization import EXAMPLES
from eye_disease.evaluation.breakdown import Breakdown
from eye_disease.evaluation.figures import Figures, measure
from eye_disease.evaluation.parts import Answers as LabelledAnswers
from eye_disease.evaluation.shares import calibration_error
from eye_disease.profiles.reference import REFERENCE_FILE, SMALLEST_REFERENCE, Reference
from eye_disease.training.network_outputs import Outputs, PackagedNetwork
from eye_disease.training.photo_checks import fit_safety
from eye_disease.training.photos import MAX_PIXELS, Photos
from eye_disease.training.post_hoc import fit_embedding, fit_other_finding, fit_second_disease, fit_temperature
from eye_disease.training.risk_control import Cases, Targets, select
from eye_disease.training.targets import OTHER
from model_code.classifier import Classifier
from model_code.decision import HEALTHY, decide, report_score
from model_code.identity import UNREGISTERED_VERSION
from model_code.package import CANARY_PHOTO, ModelFacts, OtherFinding, Statistics
from model_code.preprocessing import scale
from model_code.promise import Promise
from model_code.settings import ServingSettings

SERIOUS_GRADE = 2
"""DR from this grade on must not be missed (moderate; International Clinical Diabetic Retinopathy scale)."""


@dataclass(frozen=True)
class Finished:
    """A package's facts and how it does on the validation photos."""

    facts: ModelFacts
    figures: Figures
    probabilities: np.ndarray
    """Calibrated, float (N, C), in the order of the validation photos."""


def finish(
    network: Path, photos: Photos, folder: Path, canary: Path, output: Path, facts: ModelFacts, targets: Targets
) -> Finished:
    """Write the model package of a trained network into `output`.

    folder: where the photos' paths start. What good, ruined and familiar photos look like is learned on `train`; temperature,
    limits and the promise are fitted on the split `val`. `facts.provenance` is kept, and gets the figures;
    `facts.quantized` asks for a quantized network.
    """
    training, validation = photos.of("train"), photos.of("val")
    with tempfile.TemporaryDirectory() as temporary:
        package = Path(temporary)
        examples = _examples(training) if facts.quantized else None
        facts, class_weights = add_network(package, network, facts, "litert", examples)
        packaged = PackagedNetwork(package, photos, folder)
        learned, seen = packaged.plain(training.rows), packaged.plain(validation.rows)
        logits = seen["output"]
        facts = replace(facts, temperature=fit_temperature(logits, validation.labels))
        probabilities = softmax(logits / facts.temperature, axis=1)
        figures = measure(probabilities, validation.labels, facts.classes, validation.sources)
        facts = replace(
            facts,
            other_finding=_other_finding(packaged, validation, seen),
            second_disease=fit_second_disease(probabilities, facts.classes),
            provenance=facts.provenance | _known(logits, figures, photos),
        )
        statistics = replace(fit_embedding(learned["embedding"]), class_weights=class_weights)
        if "style" in learned:
            statistics = fit_safety(packaged, training, validation, learned, seen, statistics)
        answers = _answers(package, canary, facts, statistics, [folder / path for path in validation.rows["path"]])
        facts = replace(facts, promise=promised(answers, validation.rows, facts, targets))
        final = [answer | {"decision": decide(answer, facts)} for answer in answers]
        breakdown = Breakdown.of(LabelledAnswers.of_rows(facts.classes, final, validation.rows))
        facts = replace(facts, provenance=facts.provenance | breakdown.as_dict())
        facts = seal(package, facts, statistics, canary)
        if len(final) >= SMALLEST_REFERENCE:
            stamp = {"timestamp": datetime.now(UTC).isoformat(timespec="microseconds")}
            records = pa.Table.from_pylist([stamp | answer for answer in final])
            Reference.build(records, facts.classes, "validation", facts.name).save(package / REFERENCE_FILE)
        output.mkdir(parents=True, exist_ok=True)
        for path in package.iterdir():
            shutil.copyfile(path, output / path.name)
    return Finished(facts, figures, probabilities)


def _examples(photos: Photos) -> np.ndarray:
    """float32 (N, S, S, 3): scaled photos that a network is quantized by."""
    some = photos.rows.sample(min(EXAMPLES, len(photos.rows)), random_state=1)
    return np.concatenate([scale(view, photos.recipe) for view in photos.views_of(some)])


def _known(logits: np.ndarray, figures: Figures, photos: Photos) -> dict[str, Any]:
    """What the card tells: the figures, and what the photos were."""
    right = logits.argmax(axis=1) == photos.of("val").labels
    before = calibration_error(softmax(logits, axis=1).max(axis=1), right)
    rows = photos.all_rows
    counts = rows.groupby(["split", "label", "source"]).size().reset_index(name="photos")
    data = {"photos": counts.to_dict("records"), "groups": int(rows["group"].nunique())}
    return {"validation": figures.as_dict() | {"calibration_error_before": before}, "data": data}


def _other_finding(packaged: PackagedNetwork, validation: Photos, seen: Outputs) -> OtherFinding | None:
    """None where the network has no such output, or no validation photo shows another finding.

    Without one are the photos of the sources that have others: elsewhere nobody has looked for them.
    """
    others = validation.more[validation.more["label"] == OTHER]
    looked_for = validation.rows["source"].isin(others["source"]).to_numpy()
    if "other_finding" not in seen or not looked_for.any():
        return None
    with_other = packaged.plain(others)["other_finding"]
    return fit_other_finding(seen["other_finding"][looked_for].ravel(), with_other.ravel())


def _answers(package: Path, canary: Path, facts: ModelFacts, statistics: Statistics, paths: list[Path]) -> list[dict[str, Any]]:
    """The answers with their records' facts had the photos been sent to the served model, before anything is promised."""
    facts.save(package)
    statistics.save(package)
    shutil.copyfile(canary, package / CANARY_PHOTO)
    settings = replace(ServingSettings.from_env({}), max_image_bytes=2**31, max_image_pixels=MAX_PIXELS)
    classifier = Classifier(package, UNREGISTERED_VERSION, settings)
    classified = (classifier.classify(path.read_bytes()) for path in paths)
    answers = [answered.answer | answered.facts for answered in classified]
    if failed := {answer["error"] for answer in answers if answer["error"]}:
        raise ValueError(f"The package cannot answer its validation photos: {'; '.join(sorted(failed))}")
    return answers


def promised(answers: list[dict[str, Any]], rows: pd.DataFrame, facts: ModelFacts, targets: Targets) -> Promise:
    """What can be promised of the answers to the photos of `rows`."""
    predicted, labels = np.array([answer["predicted_class"] for answer in answers]), rows["label"].to_numpy(str)
    reported = [report_score(answer) if decide(answer, facts) == "report" else -np.inf for answer in answers]
    grade = rows["grade"].to_numpy(float) if "grade" in rows else np.full(len(rows), np.nan)
    serious = (labels != HEALTHY) & ~(grade < SERIOUS_GRADE) & (HEALTHY in facts.classes)
    return select(
        Cases(np.array(reported), predicted != labels, predicted == HEALTHY, serious, rows["group"].to_numpy()), targets
    )
