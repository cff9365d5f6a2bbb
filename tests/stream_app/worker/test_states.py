"""Which of two changelog records counts, and what a rebalance leaves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stream_app.pipeline import StreamState, silent_in_summary
from stream_app.worker.states import StreamStates, state_key, stream_of

KEY = state_key(("pump-1", "mic"))


def state(newest_us: int, frames: int = 1) -> StreamState:
    return StreamState(newest_us=newest_us, frames=frames, frame_id="ab" * 16)


@pytest.mark.parametrize(("first", "second", "kept"), [(10, 20, 20), (20, 10, 20)])
def test_the_newer_recording_time_stays(first: int, second: int, kept: int) -> None:
    states = StreamStates()
    states.restore(0, KEY, state(first).to_bytes())
    states.restore(0, KEY, state(second).to_bytes())
    found = states.get(0, KEY)
    assert found is not None
    assert found.newest_us == kept


def test_of_equal_times_the_later_record_stays() -> None:
    states = StreamStates()
    states.restore(0, KEY, state(10, frames=1).to_bytes())
    states.restore(0, KEY, state(10, frames=2).to_bytes())
    found = states.get(0, KEY)
    assert found is not None
    assert found.frames == 2


def test_an_old_record_does_not_replace_what_is_in_use() -> None:
    states = StreamStates()
    states.put(0, KEY, state(20))
    states.restore(0, KEY, state(10).to_bytes())
    found = states.get(0, KEY)
    assert found is not None
    assert found.newest_us == 20


def test_a_stream_on_two_partitions_has_two_states() -> None:
    states = StreamStates()
    states.put(0, KEY, state(20))
    assert states.get(1, KEY) is None


def test_states_go_with_their_partition() -> None:
    states = StreamStates()
    for partition in range(3):
        states.put(partition, KEY, state(partition))
    states.drop([0])
    assert states.get(0, KEY) is None
    states.keep_only([1])
    assert states.get(1, KEY) is not None
    assert states.get(2, KEY) is None
    assert len(states) == 1


def test_an_unreadable_state_is_ignored_and_said(caplog: pytest.LogCaptureFixture) -> None:
    states = StreamStates()
    states.restore(0, KEY, b"\xff of another time")
    assert states.get(0, KEY) is None
    assert "pump-1" in caplog.text


def test_a_tombstone_removes() -> None:
    states = StreamStates()
    states.restore(0, KEY, state(10).to_bytes())
    states.restore(0, KEY, None)
    assert list(states.items(0)) == []


@pytest.mark.parametrize("stream", [("pump-1", ""), ("pump-1", "mic"), ("a:b", "ö/axis")])
def test_keys_name_their_stream(stream: tuple[str, str]) -> None:
    assert stream_of(state_key(stream)) == stream


def test_streams_told_together_are_found_however_their_states_came() -> None:
    states = StreamStates()
    keys = [state_key((f"pump-{number}", "")) for number in range(4)]
    for key in keys:
        states.restore(1, key, silent_in_summary(state(10), "cd" * 16))
    states.put(1, keys[0], state(20, frames=1))
    states.put(1, keys[1], state(20, frames=100))
    states.forget(1, keys[2])
    assert states.summarised() == {"cd" * 16: {1: {keys[3]}}}
    states.drop([1])
    assert states.summarised() == {}


def test_states_that_are_seldom_used_stay_bytes() -> None:
    """A stream of one frame costs a quarter of what its unpacked state would; 100,000 of them, all the difference."""
    states = StreamStates()
    states.put(0, KEY, state(10, frames=1))
    assert isinstance(states.peek(0, KEY), bytes)
    assert states.get(0, KEY) is not None
    assert isinstance(states.peek(0, KEY), bytes)
    states.put(0, KEY, state(20, frames=100))
    assert isinstance(states.peek(0, KEY), StreamState)
    for _ in states.items(0):
        pass
    states.restore(0, b"other\0", state(10, frames=100).to_bytes())
    assert [type(kept) for _, kept in states.items(0)] == [StreamState, bytes], "a look unpacks nothing"


def test_learning_machines_are_counted_however_their_states_came() -> None:
    states = StreamStates()
    learning = replace(state(10), learning_since_us=5)
    for partition, machine, source in [
        (0, "pump-1", "mic"),
        (0, "pump-1", "axis"),
        (1, "pump-2", ""),
        (1, "pump-3", ""),
    ]:
        states.restore(partition, state_key((machine, source)), learning.to_bytes())
    states.put(0, state_key(("pump-4", "")), replace(state(20, frames=100), learning_since_us=20))
    assert states.learning_machines == 4
    states.put(0, state_key(("pump-1", "mic")), state(20, frames=1))
    assert states.learning_machines == 4, "its other sensor was not heard since"
    states.put(0, state_key(("pump-1", "axis")), state(20, frames=100))
    states.forget(1, state_key(("pump-2", "")))
    assert states.learning_machines == 2
    states.drop([1])
    assert states.learning_machines == 1
