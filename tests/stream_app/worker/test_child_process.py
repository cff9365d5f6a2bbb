"""A process is asked in turn, and answers in whole messages however they come."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from stream_app.worker.child_process import ChildLost, ChildProcess

MODULE = "tests.stream_app.worker.echoing_child"


@pytest.fixture
def child() -> Iterator[ChildProcess]:
    made = ChildProcess(MODULE)
    yield made
    made.stop()


async def test_requests_are_answered_in_their_order(child: ChildProcess) -> None:
    asked = [child.ask(lambda n=n: ("echo", n), 30.0) for n in range(50)]  # type: ignore[misc]
    assert await asyncio.gather(*asked) == list(range(50))


async def test_answers_that_come_together_are_told_apart(child: ChildProcess) -> None:
    """The child goes on with the next request before anybody has read its answer."""
    assert await child.ask(lambda: ("echo", 0), 30.0) == 0
    both = [asyncio.create_task(child.ask(lambda n=n: ("echo", n), 30.0)) for n in (1, 2)]  # type: ignore[misc]
    for _ in range(10):
        await asyncio.sleep(0)  # both are sent, and nothing is read from here on
    child._ours.setblocking(True)
    while child._ours.recv(1 << 16, socket.MSG_PEEK).count(b"\x00\x00\x00") < 2:
        pass
    child._ours.setblocking(False)
    assert await asyncio.gather(*both) == [1, 2]


async def test_messages_may_be_larger_than_a_socket_holds(child: ChildProcess) -> None:
    large = bytes(5_000_000)
    first, second = child.ask(lambda: ("echo", large), 30.0), child.ask(lambda: ("echo", 7), 30.0)
    answers = await asyncio.gather(first, second)
    assert list(answers) == [large, 7]


async def test_what_does_not_answer_in_time_is_killed_and_the_next_was_not_in_turn(child: ChildProcess) -> None:
    assert await child.ask(lambda: ("echo", 1), 30.0) == 1
    hanging = asyncio.create_task(child.ask(lambda: ("hang", 0), 0.2))
    behind = asyncio.create_task(child.ask(lambda: ("echo", bytes(5_000_000)), 30.0))
    lost = await asyncio.gather(hanging, behind, return_exceptions=True)
    assert all(isinstance(one, ChildLost) for one in lost)
    assert [(one.timed_out, one.in_turn) for one in lost if isinstance(one, ChildLost)] == [
        (True, True),
        (False, False),
    ]
    assert child.gone


async def test_a_child_that_ends_is_lost_to_whoever_was_in_turn(child: ChildProcess) -> None:
    ending = asyncio.create_task(child.ask(lambda: ("end", 3), 30.0))
    behind = asyncio.create_task(child.ask(lambda: ("echo", 1), 30.0))
    lost = await asyncio.gather(ending, behind, return_exceptions=True)
    assert [one.in_turn for one in lost if isinstance(one, ChildLost)] == [True, False]
    assert "exit code 3" in str(lost[0])
    with pytest.raises(ChildLost):
        await child.ask(lambda: ("echo", 1), 30.0)


async def test_a_request_that_can_not_be_made_keeps_nobody_waiting(child: ChildProcess) -> None:
    with pytest.raises(TypeError):
        await child.ask(lambda: ("echo", (one for one in "no pickle")), 30.0)
    assert await child.ask(lambda: ("echo", 1), 30.0) == 1
