"""What counts of verdicts, at which recording time."""

from schemas.verdict import VERDICT_DELAY_S
from stream_app.pipeline import Verdicts
from tests.verdicts import said

A, B = "aa" * 16, "bb" * 16
S = 1_000_000
DELAY = round(VERDICT_DELAY_S * S)


def test_a_verdict_counts_from_thirty_seconds_after_it_was_given():
    told = Verdicts([said(A, ("false_alarm", 100 * S))]).of("pump-1")
    assert told.verdict(A, 100 * S + DELAY - 1) is None
    assert told.verdict(A, 100 * S + DELAY) == "false_alarm"
    assert told.verdict(B, 500 * S) is None
    assert Verdicts([said(A, ("seen", 1))]).of("pump-2") is None


def test_what_was_said_before_counts_until_the_next():
    told = Verdicts([said(A, ("seen", 0), ("false_alarm", 100 * S), ("withdrawn", 200 * S))]).of("pump-1")
    at = [told.verdict(A, second * S + DELAY) for second in (-1, 0, 99, 100, 199, 200, 900)]
    assert at == [None, "seen", "seen", "false_alarm", "false_alarm", None, None]


def test_where_a_clock_went_back_the_later_one_counts_from_the_same_moment():
    told = Verdicts([said(A, ("false_alarm", 100 * S), ("withdrawn", 50 * S))]).of("pump-1")
    assert told.verdict(A, 60 * S + DELAY) is None
    assert told.verdict(A, 100 * S + DELAY) is None


def test_a_machine_begins_anew_with_the_latest_normal_state_that_counts():
    told = Verdicts(
        [said(A, ("repaired", 100 * S, 90 * S), ("withdrawn", 300 * S)), said(B, ("new_normal", 200 * S, 10 * S))]
    ).of("pump-1")

    def anew(second):
        found = told.anew(second * S + DELAY)
        return None if found is None else (found.verdict, (found.from_us - DELAY) // S, found.since_us // S)

    assert anew(99) is None
    assert anew(100) == anew(199) == ("repaired", 100, 90)
    assert anew(200) == anew(299) == ("new_normal", 200, 90)
    assert anew(300) == ("new_normal", 200, 10)


def test_only_the_machines_own_incidents_begin_it_anew():
    told = Verdicts([said(A, ("repaired", 0, -5 * S), kind="sensor"), said(B, ("confirmed", 0))]).of("pump-1")
    assert told.anew(900 * S) is None


def test_a_drift_begins_its_machine_anew_and_excepts_no_frames():
    told = Verdicts([said(A, ("new_normal", 0, -5 * S), kind="drift")]).of("pump-1")
    assert told.anew(900 * S).since_us == -5 * S
    told = Verdicts([said(A, ("false_alarm", 0), kind="drift", source=None, began_us=50 * S)]).of("pump-1")
    assert not told.false_alarm_between("", 50 * S, 50 * S, 900 * S)


def test_a_false_alarm_is_found_by_when_its_incident_began():
    told = Verdicts(
        [
            said(A, ("false_alarm", 100 * S), ("withdrawn", 200 * S), source="mic", began_us=50 * S),
            said(B, ("confirmed", 100 * S), source="mic", began_us=60 * S),
        ]
    ).of("pump-1")
    at = 100 * S + DELAY
    assert told.false_alarm_between("mic", 50 * S, 50 * S, at)
    assert told.false_alarm_between("mic", 0, 90 * S, at)
    assert not told.false_alarm_between("mic", 51 * S, 90 * S, at)
    assert not told.false_alarm_between("", 0, 90 * S, at)
    assert not told.false_alarm_between("mic", 0, 90 * S, at - 1)
    assert not told.false_alarm_between("mic", 0, 90 * S, at + 100 * S)
