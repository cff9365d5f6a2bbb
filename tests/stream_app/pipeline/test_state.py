"""Stream states as bytes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.pipeline.cusum import GROUPS, NEVER, Shift
from stream_app.pipeline.incident_memory import MOST_REMEMBERED, RememberedIncident
from stream_app.pipeline.rolling import HALF_LIFE_US, RollingMean, RollingScore
from stream_app.pipeline.rule import Incident, Latch
from stream_app.pipeline.state import StreamState, newest_of, silent_in_summary, state_header

INT64 = st.integers(-(2**63), 2**63 - 1)
IDENTITIES = st.one_of(st.just(""), st.binary(min_size=16, max_size=16).filter(any).map(bytes.hex))
LATCHES = st.builds(Latch, st.integers(0, 2**64 - 1), st.integers(0, 1000), st.booleans())
INCIDENTS = st.builds(Incident, IDENTITIES, LATCHES, LATCHES)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
ROLLING = st.builds(RollingMean, FINITE, st.lists(FINITE, min_size=13, max_size=13).map(np.array))
BANDS = st.lists(st.floats(0, 1, width=16), min_size=GROUPS, max_size=GROUPS).map(lambda x: np.array(x, np.float16))
SHIFTS = st.builds(Shift, FINITE, INT64, INT64, st.integers(0, 2**64 - 1), FINITE, BANDS, st.booleans())
FLOAT32 = st.floats(0, 1e6, width=32)
REMEMBERED = st.builds(RememberedIncident, IDENTITIES, FLOAT32, FLOAT32, st.integers(0, 0xFFFF), INT64, INT64, BANDS)
MEMORIES = st.lists(REMEMBERED, max_size=MOST_REMEMBERED + 1).map(tuple)
MODELS = st.binary(min_size=8, max_size=8).map(bytes.hex)
OLD_STATES = st.builds(
    StreamState,
    INT64,
    INT64,
    INT64,
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    INT64,
    IDENTITIES,
    INCIDENTS,
    INCIDENTS,
    INCIDENTS,
    st.sampled_from(["", "flat", "clipped"]),
    ROLLING,
    st.builds(RollingScore, INT64, FINITE, FINITE, FINITE),
    SHIFTS,
)
STATES = st.builds(
    lambda old, remembered, model, *rest: replace(
        old,
        remembered=remembered,
        model=model if remembered else "",
        sensor_incidents=rest[0],
        **dict(zip(("reminded_us", "anew_us", "learning_since_us", "learning_until_us"), rest[1:], strict=True)),
    ),
    OLD_STATES,
    MEMORIES,
    MODELS,
    st.tuples(IDENTITIES, IDENTITIES),
    *(INT64 for _ in range(4)),
)


def same(a: StreamState, b: StreamState) -> bool:
    fields = [name for name in StreamState.__slots__ if name != "rolling"]
    return (
        all(getattr(a, f) == getattr(b, f) for f in fields)
        and a.rolling.weight == b.rolling.weight
        and np.array_equal(a.rolling.sums, b.rolling.sums)
    )


@given(STATES)
def test_a_state_that_heard_a_frame_keeps_all_that_the_frame_does_not_tell(state):
    told = {
        "sequence": 7,
        "running_since_us": 11,
        "frame_id": "ab" * 16,
        "rolling": RollingMean(2.0, np.ones(13)),
        "scores": RollingScore(5, 1.0, 2.0, 3.0),
        "learning_since_us": 13,
        "learning_until_us": 17,
    }
    after = state.heard(recorded_us=23, now_us=29, missing=3, **told)
    counted = {"newest_us": 23, "seen_us": 29, "frames": state.frames + 1, "missing": state.missing + 3}
    assert same(after, replace(state, silent=Incident(), **counted, **told))


@given(STATES)
def test_bytes_round_trip(state):
    raw = state.to_bytes()
    assert same(StreamState.from_bytes(raw), state)
    assert newest_of(raw) == state.newest_us
    assert state_header(raw) == state_header(state)
    assert state_header(raw).seen_us == state.seen_us


@pytest.mark.slow
@given(STATES, IDENTITIES.filter(bool))
def test_silence_told_together_is_noted_in_the_bytes(state, incident_id):
    silent = Incident(incident_id, Latch(on=True))
    for form in (state, state.to_bytes()):
        raw = silent_in_summary(form, incident_id)
        assert same(StreamState.from_bytes(raw), replace(state, silent=silent))
        assert state_header(raw) == state_header(replace(state, silent=silent))


@given(OLD_STATES)
def test_a_stream_of_which_nothing_is_remembered_is_small(state):
    assert len(state.to_bytes()) == len(StreamState().to_bytes()) < 400


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x05" + StreamState().to_bytes()[1:],
        StreamState().to_bytes()[:-1],
        StreamState().to_bytes()[:-1] + b"\x01",
        StreamState(remembered=(RememberedIncident(),), model="00" * 8).to_bytes()[:-1],
    ],
)
def test_another_version_is_refused(raw):
    with pytest.raises(ValueError, match="expected"):
        StreamState.from_bytes(raw)
    with pytest.raises(ValueError, match="expected"):
        newest_of(raw)


def upgraded(state: StreamState) -> StreamState:
    """What a state of an older version has in place of what it lacks."""
    flat, clipped = (state.sensor.incident_id if state.sensor_fault == name else "" for name in ("flat", "clipped"))
    reminded_us = state.newest_us if state.machine.incident_id else NEVER
    return replace(state, sensor_incidents=(flat, clipped), reminded_us=reminded_us, anew_us=state.newest_us)


@given(OLD_STATES)
def test_a_state_from_before_scores_were_kept_is_read_with_scores_that_begin_anew(state):
    raw = b"\x01" + state.to_bytes()[1:292]
    assert same(StreamState.from_bytes(raw), upgraded(replace(state, scores=RollingScore(), shift=Shift())))
    assert newest_of(raw) == state.newest_us


@given(OLD_STATES)
def test_a_state_from_before_shifts_were_looked_for_is_read_without_any_evidence(state):
    raw = b"\x02" + state.to_bytes()[1:324]
    assert same(StreamState.from_bytes(raw), upgraded(replace(state, shift=Shift())))
    assert state_header(raw) == state_header(state)


@given(OLD_STATES)
def test_a_state_from_before_verdicts_counted_is_read_as_if_all_until_then_had_been_heeded(state):
    raw = b"\x03" + state.to_bytes()[1:397]
    assert same(StreamState.from_bytes(raw), upgraded(state))
    assert state_header(raw) == state_header(state)


def test_rolling_mean_weighs_a_half_life_as_half():
    mean = RollingMean(0.0, np.zeros(13)).updated(np.full(13, 4.0), 0).updated(np.full(13, 1.0), HALF_LIFE_US)
    np.testing.assert_allclose(mean.mean, (4.0 * 0.5 + 1.0) / 1.5)


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.integers(1, 10**9)), min_size=1, max_size=30))
def test_rolling_mean_equals_the_weighted_sum_over_history(history):
    rolling, now = RollingMean(0.0, np.zeros(13)), 0
    times = []
    for value, elapsed in history:
        now += elapsed
        times.append(now)
        rolling = rolling.updated(np.full(13, value), elapsed)
    weights = 0.5 ** ((now - np.array(times)) / HALF_LIFE_US)
    expected = np.average([v for v, _ in history], weights=weights)
    np.testing.assert_allclose(rolling.mean, expected, rtol=1e-9, atol=1e-9)


@given(st.lists(st.tuples(st.floats(0, 1e3), st.integers(1, 10**9)), min_size=1, max_size=30))
def test_rolling_scores_are_the_weighted_mean_and_the_fading_maximum_over_history(history):
    scores, now, seen = RollingScore(), 1_700_000_000_000_000, []
    for value, elapsed in history:
        now += elapsed
        seen.append((value, now))
        scores = scores.updated(value, now)
    values, times = np.array(seen).T
    weights = 0.5 ** ((now - times) / HALF_LIFE_US)
    np.testing.assert_allclose(scores.mean, np.average(values, weights=weights), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(scores.peak, max(values * weights), rtol=1e-9, atol=1e-12)
