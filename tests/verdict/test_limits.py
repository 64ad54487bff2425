from dataclasses import fields

import pytest

from eye_disease.verdict.limits import DriftLimits
from model_code.errors import SettingError
from model_code.setting_fields import read_number

WHOLE = ("min_predictions", "max_wait_hours", "raise_after", "clear_after")
NAMES = [field.name for field in fields(DriftLimits)]


def test_the_limits_of_the_issue_are_the_defaults() -> None:
    limits = DriftLimits.from_env({})
    assert limits == DriftLimits()
    assert (limits.min_confidence, limits.max_low_confidence_share, limits.max_class_share) == (0.60, 0.30, 0.80)
    assert limits.max_inference_time_ms == 5_000
    assert (limits.min_predictions, limits.max_wait_hours, limits.raise_after, limits.clear_after) == (50, 24, 2, 3)


@pytest.mark.parametrize("name", NAMES)
def test_every_limit_is_a_setting(name: str) -> None:
    text = "7" if name in WHOLE else "17.5" if name.endswith("_ms") else "0.5"
    limits = DriftLimits.from_env({f"DRIFT_{name.upper()}": f" {text} "})

    assert getattr(limits, name) == float(text)
    assert [other for other in NAMES if other != name and getattr(limits, other) != getattr(DriftLimits(), other)] == []


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_setting_means_its_default(name: str) -> None:
    assert DriftLimits.from_env({f"DRIFT_{name.upper()}": " "}) == DriftLimits()


@pytest.mark.parametrize("wrong", ["-1", "ten", "nan", "inf", "1e9", "0,5", "50%"])
@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_limit_is_named_with_its_value_and_what_is_allowed(name: str, wrong: str) -> None:
    setting = f"DRIFT_{name.upper()}"
    with pytest.raises(SettingError) as refused:
        DriftLimits.from_env({setting: wrong})
    assert str(refused.value).startswith(f"Setting {setting}={wrong!r} is not valid. Allowed: a ")


def test_what_is_allowed_is_said() -> None:
    with pytest.raises(SettingError) as refused:
        read_number({"DRIFT_X": "2"}, "DRIFT_X", 0.5, 0, 1)
    assert str(refused.value) == "Setting DRIFT_X='2' is not valid. Allowed: a number, 0 to 1."
    assert (read_number({"X": "0"}, "X", 0.5, 0, 1), read_number({"X": "1"}, "X", 0.5, 0, 1)) == (0, 1)


def test_the_process_environment_is_read_unless_another_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFT_ALPHA", "0.02")
    assert DriftLimits.from_env().alpha == 0.02
    assert DriftLimits.from_env({}).alpha == 0.01
