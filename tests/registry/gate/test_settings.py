from pathlib import Path

import pytest

from eye_disease.registry.gate.settings import GateSettings
from model_code.errors import SettingError


def test_defaults_are_those_of_the_class_but_for_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert GateSettings.from_env({}) == GateSettings(env_manager="virtualenv")
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    assert GateSettings.from_env({"GATE_DATA": ""}) == GateSettings(env_manager="uv")


def test_settings_are_read() -> None:
    env = {"GATE_DATA": "photos", "GATE_ENV_MANAGER": "local", "GATE_MIN_RECALL": "0.7", "GATE_RECOMPUTE_AGREEMENT": "no"}
    settings = GateSettings.from_env(env)
    assert (settings.data, settings.env_manager, settings.min_recall) == (Path("photos"), "local", 0.7)
    assert settings.recompute_agreement is False
    assert settings.max_group_gap is None
    assert GateSettings.from_env({"GATE_MAX_GROUP_GAP": "0"}).max_group_gap == 0


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("GATE_ENV_MANAGER", "conda", "uv, virtualenv, local"),
        ("GATE_MIN_ACCURACY", "1.5", "a number, 0 to 1"),
        ("GATE_ALPHA", "0", "a number, 1e-06 to 0.5"),
        ("GATE_MAX_RECALL_LOSS", "nan", "a number, 0 to 1"),
        ("GATE_MAX_GROUP_GAP", "2", "a number, 0 to 1"),
        ("GATE_MIN_PHOTOS", "0", "a whole number, 1 or more"),
        ("GATE_RECOMPUTE_AGREEMENT", "perhaps", "true or false"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: str, allowed: str) -> None:
    with pytest.raises(SettingError, match=rf"{name}='{value}' is not valid\. Allowed: {allowed}"):
        GateSettings.from_env({name: value})
