"""What verdicts do to a stream, with times of the tests' own making."""

from dataclasses import replace

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import format_rfc3339
from schemas.model_metadata import Baseline
from stream_app.pipeline import Engine, Model, Router, StreamState, Verdicts
from stream_app.pipeline.cusum import NEVER
from stream_app.pipeline.incident_memory import MOST_REMEMBERED
from tests.helpers import validate_message
from tests.models import SECOND_US, START_US, course, tiny_metadata, tiny_model
from tests.stream_app.pipeline.test_cusum import TEST
from tests.verdicts import said
from whirr.settings import Route

EARLY = replace(TEST, centre=0.5, scale=0.1, reference=1.5, threshold=10.0)
NORMAL, SHIFTED, LOUD, LOUDER = 0.5, 0.8, 1.4, 3.0  # of an alert threshold of 1; 0.8 adds 1.5 of 10 a frame
RUB, BEARING = range(40, 48), range(100, 112)  # of 128 bands
HOUR_S = 3600
DELAY_S = 30


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    metadata = tiny_metadata()
    metadata = replace(metadata, thresholds=replace(metadata.thresholds, early=EARLY))
    return Model.load(tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx", metadata))


@pytest.fixture(scope="module")
def frame(model):
    (computed,) = Engine(Router.from_routes([Route(model="m")], {"m": model})).compute(course([1]))
    return computed


class Stream:
    """One stream of a machine, frame by frame; its state is packed and read again after each."""

    def __init__(self, model, frame, **route):
        self.model, self.frame = model, frame
        self.route = Route(model="m", **{"early_settle_s": 20.0, **route})
        self.state = None
        self.told = {}
        self.alerts = []
        self.scores = []
        self.at_s = 0.0

    def play(self, scores, bands=RUB, every_s=1.0, **changes):
        """Play frames with these scores, whose excess is in these bands; return what alerts tell."""
        router = Router.from_routes([self.route], {"m": self.model})
        engine = Engine(router, verdicts=Verdicts(self.told.values()))
        error = np.full_like(self.frame.band_error, 0.45)
        error[:, list(bands)] += 5.0
        found = []
        for score in scores:
            recorded_us = START_US + round(self.at_s * SECOND_US)
            frame = replace(self.frame.frame, frame_id=f"{recorded_us:032x}", recorded_us=recorded_us, sequence=None)
            played = {"frame": frame, "routed": router.find("pump-1"), "score": score, "band_error": error}
            computed = replace(self.frame, **{**played, **changes})
            outcome = engine.advance(computed, self.state, START_US)
            assert outcome.dead_letter is None
            self.state = StreamState.from_bytes(outcome.state.to_bytes())
            self.scores.append(outcome.score)
            found += outcome.alerts
            self.at_s += every_s
        self.alerts += found
        return [(alert.state, alert.level, alert.reason) for alert in found]

    def say(self, *words, incident=None, **more):
        """Say something of the last incident now, or at the times given with the words."""
        incident_id = incident or self.alerts[-1].incident_id
        each = [(word, self.us(at_s), *map(self.us, since)) for word, at_s, *since in words]
        self.told[incident_id] = said(incident_id, *each, **more)

    def us(self, at_s):
        return START_US + round(at_s * SECOND_US)


@pytest.fixture
def stream(model, frame):
    def made(**route):
        return Stream(model, frame, **route)

    return made


OPENED, CLOSED = ("opened", "warning", None), ("closed", None, "false_alarm")


def test_a_false_alarm_ends_within_a_minute_and_the_like_of_it_opens_nothing_more(stream):
    one = stream()
    assert one.play([NORMAL] * 10 + [LOUD] * 20) == [OPENED]
    one.say(("false_alarm", one.at_s))
    assert one.play([LOUD] * DELAY_S) == []
    assert one.play([LOUD]) == [CLOSED]
    assert one.alerts[-1].incident_id == one.alerts[0].incident_id
    validate_message("alert", orjson.dumps(one.alerts[-1]))
    assert one.play([LOUD] * 200 + [SHIFTED] * 200) == []


def test_another_fault_of_the_same_machine_alarms_all_the_same(stream):
    one = stream()
    one.play([LOUD] * 20)
    one.say(("false_alarm", one.at_s))
    one.play([LOUD] * 60)
    assert one.play([LOUD] * 4, bands=BEARING) == [OPENED]


def test_what_is_much_louder_is_no_false_alarm_any_more(stream):
    one = stream()
    one.play([LOUD] * 20)
    one.say(("false_alarm", one.at_s))
    one.play([LOUD] * 60)
    assert one.play([LOUDER] * 4) == [("opened", "critical", None)]


def test_the_like_of_a_false_alarm_does_not_keep_another_incident_open(stream):
    one = stream(early=False)
    one.play([LOUD] * 20)
    one.say(("false_alarm", one.at_s))
    one.play([LOUD] * 60)
    assert one.play([LOUD] * 4, bands=BEARING) == [OPENED]
    assert one.play([LOUD] * 5) == [("closed", None, None)]


def test_a_withdrawn_false_alarm_alarms_again(stream):
    one = stream()
    one.play([LOUD] * 20)
    one.say(("false_alarm", 20), ("withdrawn", 100))
    assert one.play([LOUD] * (100 + DELAY_S - 20)) == [CLOSED]
    assert one.play([LOUD] * 3) == [OPENED]


@pytest.mark.parametrize("word", ["seen", "confirmed", "repaired"])
def test_another_word_ends_the_exception_too(stream, word):
    one = stream(learning_h=0)
    one.play([LOUD] * 20)
    since = [150] if word == "repaired" else []
    one.say(("false_alarm", 20), (word, 200, *since))
    one.play([LOUD] * 180)
    assert one.play([LOUD] * 40)[-1] == OPENED


def test_another_model_ends_the_exception(stream, model, tmp_path):
    one = stream()
    one.play([LOUD] * 20)
    one.say(("false_alarm", one.at_s))
    one.play([LOUD] * 60)
    one.model = Model.load(tiny_model(tmp_path / "next.onnx", replace(model.metadata, version="2")))
    assert one.play([LOUD] * 3) == [OPENED]


def test_a_false_alarm_of_an_incident_that_is_over_quiets_the_like_of_it(stream):
    one = stream()
    assert [state for state, *_ in one.play([LOUD] * 4 + [NORMAL] * 30)][:2] == ["opened", "closed"]
    one.say(("false_alarm", one.at_s))
    one.play([NORMAL] * 40)
    assert one.play([LOUD] * 50) == []


@pytest.mark.parametrize("score", [LOUD, SHIFTED])
def test_what_is_open_ends_also_where_the_machine_has_no_model_any_more(stream, score):
    one = stream()
    one.play([score] * 20)
    one.say(("false_alarm", one.at_s - DELAY_S))
    routed = Router.from_routes([one.route], {"m": one.model}).find("pump-1")
    ((state, level, reason),) = one.play([score] * 2, routed=replace(routed, loaded=None, awaited="whirr.pump-1"))
    assert (state, level, reason) == ("closed" if score == LOUD else "settled", None, "false_alarm")
    assert one.alerts[-1].bands == ()
    validate_message("alert", orjson.dumps(one.alerts[-1]))


def test_an_early_finding_is_quieted_likewise(stream):
    one = stream()
    assert one.play([NORMAL] * 10 + [SHIFTED] * 40) == [("changed", "early", None)]
    one.say(("false_alarm", one.at_s))
    assert one.play([SHIFTED] * 60) == [("settled", None, "false_alarm")]
    assert one.play([SHIFTED] * 500) == []
    assert one.state.shift.evidence == 0
    assert one.play([SHIFTED] * 20, bands=BEARING) == [("changed", "early", None)]


WORDS = st.lists(
    st.tuples(st.sampled_from(["seen", "false_alarm", "repaired", "withdrawn"]), st.integers(5, 60)), max_size=5
)


@given(st.lists(st.sampled_from([NORMAL, SHIFTED, LOUD, LOUDER]), min_size=40, max_size=140), WORDS)
@settings(deadline=None, max_examples=20)
def test_when_a_verdict_is_read_changes_nothing_if_it_is_known_in_time(model, frame, scores, said_after):
    """One worker learns each word when it is given, another one finds all of them in the topic when it starts."""
    route = {"learning_h": 0.01, "remind_after_h": 0.01}
    probe = Stream(model, frame, **route)
    probe.play(scores)
    incident = next((alert.incident_id for alert in probe.alerts), "ee" * 16)
    words, at_s = [], 0
    for word, after_s in said_after:
        at_s += after_s
        words.append((word, at_s, at_s) if word == "repaired" else (word, at_s))
    live, late = Stream(model, frame, **route), Stream(model, frame, **route)
    if words:
        late.say(*words, incident=incident)
    for score in scores:
        known = [one for one in words if one[1] <= live.at_s]
        if known:
            live.say(*known, incident=incident)
        live.play([score])
        late.play([score])
    assert live.alerts == late.alerts
    assert live.scores == late.scores


def test_a_verdict_that_comes_late_counts_from_the_next_frame_on(stream):
    one = stream()
    one.play([LOUD] * 100)
    one.say(("false_alarm", 20))
    assert one.play([LOUD]) == [CLOSED]


def test_frames_from_before_are_judged_without_it(stream):
    """A stream whose gateway lags behind is where it would have been without the lag."""
    one = stream()
    one.play([LOUD] * 20)
    one.say(("false_alarm", 500))
    assert one.play([LOUD] * 200) == []
    one.at_s = 500 + DELAY_S
    assert one.play([LOUD]) == [CLOSED]


def test_the_last_incidents_are_remembered_and_false_alarms_longest(stream):
    one = stream(early=False)
    for number in range(MOST_REMEMBERED + 3):
        one.play([LOUD] * 5 + [NORMAL] * 6, bands=range(8 * number, 8 * number + 8))
        if number == 0:
            one.say(("false_alarm", one.at_s - DELAY_S))
    ids = [alert.incident_id for alert in one.alerts if alert.state == "opened"]
    assert [known.incident_id for known in one.state.remembered] == [ids[0], *ids[-MOST_REMEMBERED + 1 :]]
    assert one.play([LOUD] * 10, bands=range(8)) == []


def test_repaired_ends_what_is_open_and_the_machine_learns(stream):
    one, other = stream(), stream()
    one.play([LOUD] * 20)
    assert other.play([SHIFTED] * 20) == [("changed", "early", None)]
    one.say(("repaired", 20, 20))
    other.told = one.told
    assert one.play([LOUD] * 40) == [("closed", None, "repaired")]
    assert other.play([SHIFTED] * 40) == [("settled", None, "repaired")]
    assert one.scores[-1].idle_reason == "learning"
    assert (one.state.learning_since_us, one.state.learning_until_us) == (
        one.us(20),
        one.us(24 * HOUR_S + 20 + DELAY_S),
    )
    assert one.play([LOUDER] * 100, every_s=60) == []
    validate_message("score", orjson.dumps(one.scores[-1]))


def test_after_the_learning_time_the_old_model_judges_again(stream):
    one = stream(learning_h=2)
    one.play([LOUD] * 20)
    one.say(("repaired", 20, 20))
    one.play([LOUD] * 40)
    one.at_s = 2 * HOUR_S + 20 + DELAY_S - 1
    assert one.play([LOUD] * 3) == []
    assert one.scores[-3].idle_reason == "learning"
    assert one.scores[-2].status == "scored"
    assert one.play([LOUD]) == [OPENED]
    assert one.state.learning_until_us == NEVER


def test_a_model_that_was_learnt_since_then_ends_the_learning(stream, model, tmp_path):
    one = stream()
    one.play([LOUD] * 20)
    one.say(("new_normal", 100, 50))
    assert one.play([LOUD] * 200) == [("closed", None, "new_normal")]
    for from_s, reason in ((49, "learning"), (50, None)):
        at = format_rfc3339(one.us(from_s))
        baseline = Baseline(baseline_id="ab" * 16, from_at=at, until_at=at, recordings=1, hours=1.0)
        metadata = replace(model.metadata, version=str(from_s), baselines={"pump-1": baseline})
        one.model = Model.load(tiny_model(tmp_path / f"{from_s}.onnx", metadata))
        one.play([LOUD])
        assert one.scores[-1].idle_reason == reason


def test_a_repair_that_is_withdrawn_ends_the_learning(stream):
    one = stream()
    one.play([LOUD] * 20)
    one.say(("repaired", 20, 20), ("withdrawn", 100))
    assert one.play([LOUD] * 120)[-2:] == [("closed", None, "repaired"), OPENED]


def test_while_it_learns_its_sensor_is_watched(stream):
    one = stream()
    one.play([LOUD] * 20)
    one.say(("repaired", 20, 20))
    one.play([NORMAL] * 40)
    assert one.play([NORMAL] * 3, sensor_fault="clipped") == [OPENED]
    assert one.alerts[-1].sensor_fault == "clipped"


def test_a_quiet_machine_is_quiet_also_while_it_learns(stream):
    one = stream(running_dbfs=-40)
    one.play([LOUD] * 20, level_dbfs=-20.0)
    one.say(("repaired", 20, 20))
    assert one.play([LOUD] * 40, level_dbfs=-60.0) == [("closed", None, "repaired")]
    assert one.scores[-1].idle_reason == "quiet"


@pytest.mark.parametrize("fault", ["flat", "clipped"])
def test_a_false_alarm_of_a_sensor_excepts_that_fault_until_withdrawn(stream, fault):
    one = stream()
    assert one.play([NORMAL] * 5, sensor_fault=fault) == [OPENED]
    one.say(("false_alarm", 5), ("withdrawn", 500), kind="sensor")
    assert one.play([NORMAL] * 40, sensor_fault=fault) == [CLOSED]
    assert one.alerts[-1].sensor_fault == fault
    assert one.play([NORMAL] * 10) == []
    assert one.play([NORMAL] * 10, sensor_fault=fault) == []
    other = "flat" if fault == "clipped" else "clipped"
    assert one.play([NORMAL] * 3 + [NORMAL] * 2, sensor_fault=other) == [OPENED]
    one.play([NORMAL] * 10)
    one.at_s = 600
    assert one.play([NORMAL] * 3, sensor_fault=fault) == [OPENED]


def test_a_repaired_sensor_is_no_new_machine(stream):
    one = stream()
    one.play([NORMAL] * 5, sensor_fault="clipped")
    one.say(("repaired", 5, 5), kind="sensor")
    one.play([NORMAL] * 60)
    assert one.scores[-1].status == "scored"


def test_in_mode_every_frames_like_a_false_alarm_raise_nothing(stream):
    one = stream(mode="every")
    one.play([LOUD] * 20)
    tenth = one.alerts[9]
    assert tenth.incident_id == tenth.alert_id
    one.say(("false_alarm", 20), ("withdrawn", 200), incident=tenth.incident_id, began_us=one.us(9))
    assert len(one.play([LOUD] * DELAY_S)) == DELAY_S
    assert one.play([LOUD] * 60) == []
    assert len(one.play([LOUD] * 5, bands=BEARING)) == 5
    assert len(one.play([LOUDER] * 5)) == 5
    one.at_s = 200 + DELAY_S
    assert len(one.play([LOUD] * 5)) == 5


def test_in_mode_every_what_grows_slowly_is_not_all_one_false_alarm(stream):
    one = stream(mode="every")
    one.play(np.linspace(1.1, 3.0, 60))
    one.say(("false_alarm", 60), incident=one.alerts[0].incident_id, began_us=one.us(0))
    one.at_s = 100
    assert one.play([1.2] * 5) == []
    assert len(one.play([3.0] * 5)) == 5


def test_an_open_incident_is_reminded_of_until_somebody_speaks(stream):
    one = stream(remind_after_h=1)
    one.play([LOUD] * 3)
    opened = one.alerts[0]
    assert one.play([LOUD] * 250, every_s=60) == [("reminded", "warning", None)] * 4
    assert one.alerts[-1].incident_id == opened.incident_id
    assert [(a.recorded_at[11:16]) for a in one.alerts[1:]] == ["01:00", "02:00", "03:00", "04:00"]
    validate_message("alert", orjson.dumps(one.alerts[-1]))
    one.say(("seen", one.at_s), ("withdrawn", one.at_s + 3 * HOUR_S))
    assert one.play([LOUD] * 150, every_s=60) == []
    assert one.play([LOUD] * 60, every_s=60) == [("reminded", "warning", None)]


def test_reminders_of_an_early_finding_are_early_and_may_be_switched_off(stream):
    one, never = stream(remind_after_h=1), stream(remind_after_h=0)
    for each in (one, never):
        each.play([SHIFTED] * 20)
    assert one.play([SHIFTED] * 90, every_s=60) == [("reminded", "early", None)]
    assert one.alerts[-1].severity == "early"
    assert one.alerts[-1].change is not None
    assert never.play([SHIFTED] * 90, every_s=60) == []


def test_a_reminder_counts_from_when_the_incident_began(stream):
    one = stream(remind_after_h=1, early=False)
    one.play([LOUD] * 4 + [NORMAL] * 5 + [NORMAL] * 70, every_s=60)
    assert one.play([LOUD] * 3, every_s=60) == [OPENED]
    assert one.play([LOUD] * 56, every_s=60) == []
    assert one.play([LOUD] * 5, every_s=60) == [("reminded", "warning", None)]


def test_a_state_of_an_older_version_heeds_only_what_is_said_from_then_on(stream):
    one = stream()
    one.play([LOUD] * 60)
    old = b"\x03" + one.state.to_bytes()[1:397]
    one.state = StreamState.from_bytes(old)
    one.say(("repaired", 10, 10), incident="ee" * 16)
    one.route = one.route.model_copy(update={"learning_h": 0.0})
    assert one.play([LOUD] * 5) == []
    one.say(("false_alarm", one.at_s))
    assert one.play([LOUD] * 40)[0] == CLOSED
