"""The gate between a champion and its challenger on live frames."""

from __future__ import annotations

import pytest

from schemas import EarlyTest, Thresholds
from tests.models import tiny_metadata
from tests.trainer.learning.stories import HOUR_US, MACHINE, NOW_US, score
from trainer.learning.gate import Judgement, WouldAlert, judge, most_alarms
from trainer.learning.spans import Span

LOUD, QUIET = 1.5, 0.5
FAULT = Span(NOW_US + 10 * HOUR_US, NOW_US + 20 * HOUR_US)
EARLY = EarlyTest(
    centre=0.5,
    scale=0.1,
    most=4.0,
    reference=1.5,
    threshold=10.0,
    false_findings_per_30_days=1.0,
    normals=100,
    correlation=0.0,
    effective_normals=100.0,
)


def _heard(*loud: tuple[float, float], value: float = LOUD, early: EarlyTest | None = None) -> WouldAlert:
    """What a model would have alerted in 40 hours, a frame each half hour, loud in some of them."""
    thresholds = Thresholds(decision_threshold=0.8, alert_threshold=1.0, normals=100, early=early)
    would = WouldAlert(tiny_metadata(thresholds=thresholds), MACHINE)
    for half_hours in range(80):
        hours = half_hours / 2
        is_loud = any(first <= hours < last for first, last in loud)
        would.hear(score(hours, value if is_loud else QUIET))
    return would


def _judged(
    champion: WouldAlert, challenger: WouldAlert, faults: list[Span] | None = None, **spans: list[Span]
) -> Judgement:
    given = {"faults": faults or [], "unanswered": [], "normal": [], **spans}
    return judge(champion, challenger, false_alarms_per_30_days=1.0, **given)  # type: ignore[arg-type]


def test_the_rule_and_the_early_finding_are_the_workers() -> None:
    would = _heard((10, 20))
    assert would.alarms == [NOW_US + 11 * HOUR_US]  # the third of five
    assert would.found[0] == NOW_US + 11 * HOUR_US
    assert would.found[-1] == NOW_US + round(21.5 * HOUR_US)  # five quiet ones close it
    assert (would.frames, would.span_s) == (80, 39.5 * 3600)
    shifted = _heard((10, 20), value=0.85, early=EARLY)
    assert shifted.alarms == []
    assert shifted.found


def test_one_that_hears_the_same_takes_over() -> None:
    assert _judged(_heard(), _heard()).passed
    assert _judged(_heard((10, 20)), _heard((10, 20)), faults=[FAULT]).passed


def test_a_noisier_one_does_not() -> None:
    found = _judged(_heard(), _heard((5, 9), (15, 19), (30, 34)))
    assert not found.passed
    assert (found.alarms, found.why) == ((0, 3), "it would have raised 3 alarms, the champion 0")


def test_a_quieter_one_does_where_the_champions_alarms_were_false() -> None:
    false_alarm = [Span(NOW_US + 5 * HOUR_US, NOW_US + 9 * HOUR_US)]
    assert _judged(_heard((5, 9)), _heard(), normal=false_alarm).passed


@pytest.mark.parametrize(("of", "why"), [("faults", "a confirmed fault"), ("unanswered", "an unanswered incident")])
def test_a_deaf_one_does_not(of: str, why: str) -> None:
    found = _judged(_heard((10, 20)), _heard(), **{of: [FAULT]})
    assert not found.passed
    assert why in found.why


def test_alarms_in_a_confirmed_fault_are_not_false() -> None:
    assert _judged(_heard((10, 12)), _heard((10, 12), (13, 15), (17, 19)), faults=[FAULT]).passed


def test_frames_that_move_nothing_do_not_count() -> None:
    would = WouldAlert(tiny_metadata(), MACHINE)
    for hours in range(10):
        would.hear(score(hours, LOUD, learning=True))
    assert (would.frames, would.alarms) == (0, [])


def test_what_a_promised_rate_explains() -> None:
    assert most_alarms(1.0, 3600.0) == 0
    assert most_alarms(1.0, 30 * 86_400.0) == 4
    assert most_alarms(30.0, 86_400.0) == 4
