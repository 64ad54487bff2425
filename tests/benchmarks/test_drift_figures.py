"""What the drift benchmarks count: equal false alarms, alarms in a row of verdicts, the e-detector."""

import numpy as np

from benchmarks.drift_detectors import OURS, PEERS, Finding
from benchmarks.drift_power_report import DRIFT, NO_DRIFT, Counts, count, report
from benchmarks.drift_windows import Window
from benchmarks.e_detector import first_alarm
from benchmarks.run_length import alarms
from eye_disease.verdict.limits import DriftLimits
from tests.support.drift_records import make_records

PEER = PEERS[0].detectors[0]


def test_a_peer_gets_the_threshold_that_gives_it_our_false_alarms() -> None:
    records = make_records(3, seed=0)
    counts: Counts = {}

    def tell(case: str, ours: list[bool], scores: list[float]) -> None:
        windows = [Window(case, None, records)] * len(ours)
        count(counts, DRIFT, OURS, windows, [Finding(one) for one in ours])
        count(counts, DRIFT, PEER, windows, [Finding(True, score=score) for score in scores])

    tell(NO_DRIFT, [True, False, False, False], [5.0, 3.0, 2.0, 1.0])
    tell("blur", [True, True, True, False], [2.5, 3.5, 4.0, 9.0])
    tell("dark", [True, False, False, False], [2.5, 3.5, 2.0, 9.0])
    text = report(counts, {DRIFT: "one reference"}, "none", "command")
    rows = {line.split("|")[1].strip(): line for line in text.partition("equal false alarms")[2].splitlines() if "|" in line}
    assert rows["blur"].split("|")[3:5] != rows["dark"].split("|")[3:5]
    assert [cell.strip() for cell in rows["blur"].split("|")[3:6]] == ["75%", "75%", "-"]
    assert [cell.strip() for cell in rows["dark"].split("|")[3:6]] == ["25%", "50%", PEER]


def test_an_alarm_takes_two_bad_windows_in_a_row_and_is_counted_once() -> None:
    bad = [0, 1, 0, 1, 1, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1]
    assert alarms(np.array(bad, bool), DriftLimits()) == 2


def test_the_e_detector_keeps_quiet_and_hears_a_shift_that_lasts() -> None:
    rng = np.random.default_rng(0)
    quiet = rng.normal(size=(1_000, 5))
    assert first_alarm(quiet, 87_600) is None
    shifted = quiet[:60].copy()
    shifted[40:, 2] += 1.5
    found = first_alarm(shifted, 87_600)
    assert found is not None
    assert 42 <= found <= 59
    assert first_alarm(quiet + 0.4, 87_600) is not None, "an error of the reference is taken for drift"
    assert first_alarm(quiet + 0.4, 87_600, slack=1.2) is None
