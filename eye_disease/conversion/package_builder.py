"""Writes a model package from a Keras file."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from eye_disease.common.errors import UserError
from eye_disease.common.progress import Progress
from eye_disease.conversion.agreement import largest_difference, require_agreement
from eye_disease.conversion.litert import to_litert
from model_code.canary import canary_photo, write_expected_answer
from model_code.classifier import Classifier
from model_code.custom_objects import objects_file
from model_code.decode import decode
from model_code.identity import UNREGISTERED_VERSION
from model_code.keras_model import Anatomy, check_shape, dissect, load_keras
from model_code.package import CANARY_PHOTO, LITERT_FILE, ModelFacts, Statistics, file_sha256
from model_code.settings import ServingSettings

_logger = logging.getLogger(__name__)


def add_network(
    package: Path, source: Path, facts: ModelFacts, runtime: str = "auto", examples: np.ndarray | None = None
) -> tuple[ModelFacts, np.ndarray | None]:
    """Put a Keras file and its LiteRT form into a package folder.

    runtime: `litert`, `keras`, or `auto`: LiteRT, and Keras where the model cannot be converted.
    examples: of `to_litert`; with them the LiteRT network is quantized.

    Returns the facts with `output_kind`, `runtime` and `quantized` as found, and the class weights (D, C) for the heatmap (None
    where the last dense layer does not read the mean of a feature map).
    Raises UserError for a model that is not a single-label image classifier of `facts.classes`.
    """
    model = load_keras(source)
    check_shape(model, facts.classes, facts.recipe.input_size)
    anatomy = dissect(model)
    copied = package / f"classifier{source.suffix}"
    shutil.copyfile(source, copied)
    if objects_file(source).is_file():
        shutil.copyfile(objects_file(source), objects_file(copied))
    converted = runtime != "keras" and _convert(package, model, facts.recipe.input_size, runtime == "litert", examples)
    facts = replace(
        facts,
        output_kind=anatomy.output_kind,
        runtime="litert" if converted else "keras",
        quantized=converted and examples is not None,
    )
    return facts, _class_weights(anatomy)


def seal(package: Path, facts: ModelFacts, statistics: Statistics, photo: Path) -> ModelFacts:
    """Write facts, statistics and the canary into a package, after checking that LiteRT and Keras agree on its photo.

    Raises conversion.agreement.DisagreementError.
    """
    shutil.copyfile(photo, package / CANARY_PHOTO)
    settings = ServingSettings.from_env({})
    if facts.runtime == "litert":
        photo_image = decode(canary_photo(package), facts.recipe.working_side, settings.max_image_pixels).image
        difference = largest_difference(package, facts, photo_image)
        require_agreement(difference, facts)
        agreement = {"largest_difference": difference, "litert_sha256": file_sha256(package / LITERT_FILE)}
        facts = replace(facts, provenance=facts.provenance | {"keras_agreement": agreement})
    facts.save(package)
    statistics.save(package)
    answer = Classifier(package, UNREGISTERED_VERSION, settings).classify(canary_photo(package)).answer
    if answer["error"]:
        raise UserError(f"The packaged model cannot answer its canary photo: {answer['error']}")
    write_expected_answer(package, answer)
    return facts


def _convert(package: Path, model: keras.Model, input_size: int, must: bool, examples: np.ndarray | None) -> bool:
    Progress().begin("Converting to LiteRT and comparing, up to a minute or two")
    try:
        (package / LITERT_FILE).write_bytes(to_litert(model, input_size, examples))
    except UserError:
        raise
    except Exception as error:  # the converter's kinds of error are not documented
        if must:
            raise UserError(f"LiteRT cannot convert this model ({type(error).__name__}: {error}).") from error
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        _logger.warning("LiteRT cannot convert this model (%s: %s). It will be served by Keras.", type(error).__name__, reason)
        return False
    return True


def _class_weights(anatomy: Anatomy) -> np.ndarray | None:
    if anatomy.feature_map is None:
        return None
    return np.asarray(anatomy.dense.kernel.numpy().reshape(anatomy.embedding.shape[-1], -1))
