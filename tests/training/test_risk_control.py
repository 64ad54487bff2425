import numpy as np
import pytest
from scipy.stats import binom

from eye_disease.training.risk_control import Cases, Targets, select, upper_bound

TARGETS = Targets()


def _cases(patients: int, rng: np.random.Generator, skill: float = 1.0, photos: int = 2) -> Cases:
    """`photos` a patient, which share their fate. The score is right about how often an answer is right where `skill` is 1,
    and says less below it."""
    ease, luck, fate = rng.normal(2.2, 1.5, patients), rng.random(patients), rng.random(patients)
    wrong, serious = luck < 1 / (1 + np.exp(skill * ease)), fate < 0.4
    # A serious eye answered wrongly is called healthy, and a healthy one rightly.
    each = {"score": ease, "wrong": wrong, "healthy": serious == wrong, "serious": serious, "patient": np.arange(patients)}
    return Cases(**{name: np.repeat(values, photos) for name, values in each.items()})


def _broken(fitted: list[Cases], skill: float) -> int:
    """In how many of the fits a promise is broken: by the true risks, of a population so large that chance does not matter."""
    people = _cases(400_000, np.random.default_rng(99), skill, photos=1)
    people = people[np.argsort(-people.score)]
    error = people.wrong.cumsum() / np.arange(1, len(people.wrong) + 1)
    missed = (people.healthy & people.serious).cumsum() / people.serious.sum()
    count = 0
    for threshold in (select(one, TARGETS).threshold for one in fitted):
        if threshold is not None:
            last = np.searchsorted(-people.score, -threshold, side="right") - 1
            count += bool(error[last] > TARGETS.max_error or missed[last] > TARGETS.max_missed)
    return count


@pytest.mark.parametrize("skill", [0.6, 0.8, 1.0])
def test_a_promise_is_broken_in_at_most_one_of_twenty_fits(skill: float) -> None:
    """The skill sets where the risks cross the targets: at 0.6 hardly anything can be promised but by luck."""
    rng = np.random.default_rng(1)
    assert _broken([_cases(400, rng, skill) for _ in range(400)], skill) <= binom.ppf(0.99, 400, 1 - TARGETS.certainty)


def test_photos_counted_as_patients_would_break_it() -> None:
    """Why one photo a patient: where photos share their fate, the plain count is too sure of itself."""
    rng = np.random.default_rng(2)
    drawn = [_cases(100, rng, 0.8, photos=10) for _ in range(200)]
    counted = [Cases(**{**vars(one), "patient": np.arange(len(one.score))}) for one in drawn]
    assert _broken(drawn, 0.8) <= binom.ppf(0.99, 200, 1 - TARGETS.certainty) < _broken(counted, 0.8)


def test_a_good_score_reports_most_and_a_blind_one_nothing() -> None:
    rng = np.random.default_rng(3)
    good = select(_cases(600, rng, skill=2.0), TARGETS)
    assert good.threshold is not None
    assert good.reported > 0.6
    assert good.error is not None and good.error.bound <= TARGETS.max_error
    assert good.missed is not None and good.missed.bound <= TARGETS.max_missed
    blind = select(_cases(600, rng, skill=0.0), TARGETS)
    assert (blind.threshold, blind.error, blind.missed, blind.reported) == (None, None, None, 0.0)


def test_an_answer_that_must_not_be_reported_never_is() -> None:
    cases = _cases(600, np.random.default_rng(4), skill=2.0)
    barred = np.arange(len(cases.score)) % 3 == 0
    found = select(Cases(**{**vars(cases), "score": np.where(barred, -np.inf, cases.score)}), TARGETS)
    assert found.threshold is not None and np.isfinite(found.threshold)
    assert found.reported <= 2 / 3
    nothing = select(Cases(**{**vars(cases), "score": np.full(len(barred), -np.inf)}), TARGETS)
    assert nothing.threshold is None


def test_the_miss_alone_can_forbid_a_report() -> None:
    """Hardly an answer is wrong, yet every second serious eye is among them."""
    rng = np.random.default_rng(5)
    patients = 2000
    serious = rng.random(patients) < 0.04
    wrong = serious & (rng.random(patients) < 0.5)
    cases = Cases(rng.random(patients), wrong, ~serious | wrong, serious, np.arange(patients))
    assert wrong.mean() < 0.03
    assert select(cases, TARGETS).threshold is None
    harmless = select(Cases(**{**vars(cases), "serious": np.zeros(patients, bool)}), TARGETS)
    assert harmless.threshold is not None
    assert harmless.missed is None


def test_too_few_photos_promise_nothing() -> None:
    few = Cases(np.arange(20.0), np.zeros(20, bool), np.zeros(20, bool), np.zeros(20, bool), np.arange(20))
    assert select(few, TARGETS).threshold is None
    assert select(few[np.zeros(0, int)], TARGETS).threshold is None


def test_one_reported_photo_a_patient_is_counted() -> None:
    """Twelve photos of every patient, of which the surer half is reported: a patient with any is one case."""
    patients = 500
    score = np.tile(np.arange(12.0), patients)
    nobody = np.zeros(len(score), bool)
    found = select(Cases(score, nobody, nobody, nobody, np.repeat(np.arange(patients), 12)), TARGETS)
    assert found.error is not None
    assert (found.error.hits, found.error.n, found.patients) == (0, patients, patients)
    assert found.reported == 1


@pytest.mark.parametrize(("hits", "n", "bound"), [(0, 59, 0.0495), (0, 36, 0.0798), (5, 100, 0.1023), (3, 3, 1.0), (0, 0, 1.0)])
def test_the_bound_is_that_of_clopper_and_pearson(hits: int, n: int, bound: float) -> None:
    assert upper_bound(hits, n, 0.95) == pytest.approx(bound, abs=1e-4)
    if 0 < hits < n:
        assert binom.cdf(hits, n, upper_bound(hits, n, 0.95)) == pytest.approx(0.05, abs=1e-9)


@pytest.mark.parametrize("given", [{"max_error": 0.0}, {"max_missed": 1.0}, {"certainty": 1.2}])
def test_a_target_that_is_no_share_is_refused(given: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(given))}=.*expected a share between 0 and 1"):
        Targets(**given)
