"""What `retrain.py` says and ends with; the whole of it is part of the story in test_story.py."""

from pathlib import Path
from typing import Any

import pytest

from eye_disease.cli import retrain as cli
from eye_disease.common.errors import BusyError
from eye_disease.registry.gate.gate import GateError
from eye_disease.retraining.run import GENTLE, Retrained, Retraining, RetrainSettings, TooFewLabelsError
from eye_disease.training.loop import Schedule
from model_code.errors import SettingError


@pytest.mark.parametrize(
    ("outcome", "status", "output"),
    [
        (Retrained("tiny", "2", "Staging", True, (), "r"), 0, "waits in Staging for a person"),
        (Retrained("tiny", "2", "Production", True, (), "r"), 0, "is in Production (RETRAIN_PROMOTE)"),
        (Retrained("tiny", "2", "Staging", False, ("too late",), "r"), 5, "was refused and stays in Staging:\n  too late"),
        (TooFewLabelsError("0 new"), 4, "retrain.py: 0 new"),
        (BusyError("Another run"), 75, "retrain.py: Another run"),
        (GateError("no photos"), "retrain.py: no photos", ""),
    ],
)
def test_exit_statuses_and_last_words(
    outcome: Any, status: int | str, output: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def retrained(request: Retraining, settings: RetrainSettings, say: Any) -> Retrained:
        assert (request.photos, request.patients, request.why, request.schedule) == (Path("a"), None, "dark photos", GENTLE)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(cli, "retrain", retrained)
    monkeypatch.setenv("RAISED_REASON", "dark photos")
    arguments = ["--manifest", "a/m.csv", "--feedback-photos", "clinic", "--patients", "", "--why", ""]
    monkeypatch.setattr("sys.argv", ["retrain.py", *arguments])
    try:
        cli.main()
        ended: Any = 0
    except SystemExit as end:
        ended = end.code
    assert ended == status
    assert output in "".join(capsys.readouterr())


def test_a_gentle_schedule_is_the_default() -> None:
    assert GENTLE.learning_rate < Schedule().learning_rate / 5
    assert GENTLE.epochs < Schedule().epochs / 4


def test_settings() -> None:
    assert RetrainSettings.from_env({}) == RetrainSettings(min_labels=50, promote=False)
    env = {"RETRAIN_MIN_LABELS": "8", "RETRAIN_PROMOTE": "true"}
    assert RetrainSettings.from_env(env) == RetrainSettings(min_labels=8, promote=True)
    with pytest.raises(SettingError, match=r"RETRAIN_PROMOTE=.maybe."):
        RetrainSettings.from_env({"RETRAIN_PROMOTE": "maybe"})
