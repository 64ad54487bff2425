"""Does a version serve: loaded in its environment, with the contract's signature, right and fast answers, LiteRT like Keras?"""

import importlib.util
import subprocess
import sys

from mlflow.models import Model

from eye_disease.common.paths import IMPORT_ROOT, SAMPLE_PHOTO
from eye_disease.conversion.agreement import max_difference
from eye_disease.registry.gate.checks import GateCheck, answer_problem
from eye_disease.registry.gate.settings import GateSettings
from eye_disease.registry.gate.trial_server import Trial, TrialError
from eye_disease.registry.versions import FetchedVersion
from model_code.canary import canary_photo, differences, expected_answer
from model_code.package import LITERT_FILE, file_sha256
from model_code.schema import signature


def loads(trial: Trial, env_manager: str) -> GateCheck:
    """Waits until the version is up; a model answers its canary photo before it is."""
    problem = ""
    try:
        trial.wait()
    except TrialError as error:
        problem = str(error)
    where = "this process's packages" if env_manager == "local" else f"its own, made by {env_manager}"
    return GateCheck.fact("served in an environment", where, "its pinned requirements", problem)


def served_checks(version: FetchedVersion, trial: Trial, settings: GateSettings) -> list[GateCheck]:
    """Of a version that is up. Raises TrialError if it stops answering."""
    photo, classes = SAMPLE_PHOTO.read_bytes(), version.facts.classes
    wrong_canary = ", ".join(differences(trial.answer(canary_photo(version.package)), expected_answer(version.package)))
    wrong_sample = answer_problem(trial.answer(photo), classes)
    return [
        _signature(version),
        GateCheck.fact(
            "canary photo", "wrong" if wrong_canary else "as expected", "the answer kept in the package", wrong_canary
        ),
        GateCheck.fact("sample photo", "wrong" if wrong_sample else "answered", "an answer as in the contract", wrong_sample),
        GateCheck.at_most("median latency, ms", trial.median_ms(photo), settings.max_latency_ms, "GATE_MAX_LATENCY_MS"),
    ]


def agreement(version: FetchedVersion, recompute: bool) -> GateCheck:
    """The LiteRT file is the one that was compared with Keras, and agrees with it.

    recompute: compare once more, in a process of its own, where TensorFlow is installed.
    """
    largest = max_difference(version.facts)
    name, limit = "LiteRT against Keras", f"probabilities at most {largest} apart"
    if version.facts.runtime != "litert":
        return GateCheck.fact(name, "served by Keras itself", limit)
    recorded = version.facts.provenance.get("keras_agreement", {})
    if recorded.get("litert_sha256") != file_sha256(version.package / LITERT_FILE):
        return GateCheck.fact(
            name, "not compared", limit, "the LiteRT file is not the one that was compared with its Keras source"
        )
    difference, how = recorded["largest_difference"], "as recorded when it was converted"
    if recompute and importlib.util.find_spec("tensorflow"):
        command = [sys.executable, "-m", "eye_disease.conversion.agreement", str(version.package)]
        done = subprocess.run(command, cwd=IMPORT_ROOT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return GateCheck.fact(name, "unknown", limit, (done.stderr.strip() or "no output").splitlines()[-1][:300])
        difference, how = float(done.stdout.split()[-1]), "compared now"
    problem = "" if difference <= largest else f"probabilities are up to {difference:.4f} apart"
    return GateCheck.fact(name, f"{difference:.2g} apart, {how}", limit, problem)


def _signature(version: FetchedVersion) -> GateCheck:
    actual, expected = Model.load(str(version.folder)).signature, signature(version.facts.classes)
    problem = "" if actual == expected else "columns or params are not those of the contract: register the package again"
    return GateCheck.fact("signature", "the contract's" if not problem else "another", "the contract's", problem)
