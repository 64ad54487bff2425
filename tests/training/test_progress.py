"""What a training says while an epoch runs."""

import numpy as np
import pytest

from eye_disease.training import progress
from eye_disease.training.progress import Progress


def _epoch(monkeypatch: pytest.MonkeyPatch, seconds_a_batch: float, terminal: bool) -> None:
    clock = iter(np.arange(1000) * seconds_a_batch)
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(progress.sys.stdout, "isatty", lambda: terminal, raising=False)
    said = Progress(epochs=3, batch=32)
    said.set_params({"steps": 10})
    said.on_epoch_begin(1)
    for batch in range(10):
        said.on_train_batch_end(batch, {"loss": 0.25})
    said.on_epoch_end(1)


def test_a_log_gets_a_line_a_minute(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _epoch(monkeypatch, 16.0, terminal=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "epoch 2/3: 128 of 320 photos, 2.0 a second, 1.6 min left, loss 0.250",
        "epoch 2/3: 256 of 320 photos, 2.0 a second, 0.5 min left, loss 0.250",
    ]


def test_a_terminal_gets_one_line_that_is_rewritten(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _epoch(monkeypatch, 16.0, terminal=True)
    said = capsys.readouterr().out
    assert said.count("\r") == 10
    assert said.endswith("epoch 2/3: 320 of 320 photos, 2.0 a second, 0.0 min left, loss 0.250\n")


def test_a_short_epoch_says_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _epoch(monkeypatch, 0.1, terminal=False)
    assert capsys.readouterr().out == ""
