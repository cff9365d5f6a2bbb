"""Waits between tries: longer and longer, bounded, and never the same for all that wait for the same thing."""

from __future__ import annotations

import random

import pytest

from schemas.errors import ServiceUnavailable
from tests.edge_agent.fakes import FakeClock
from whirr.retries import Backoff, retrying

BOUNDS = [0.5, 1, 2, 4, 8, 15, 15, 15]


def waits_of(seed: int) -> list[float]:
    random.seed(seed)
    backoff = Backoff(0.5, 15)
    return [backoff.failed() for _ in BOUNDS]


def test_two_agents_do_not_come_back_at_the_same_instants():
    one, other = waits_of(1), waits_of(2)
    assert not set(one) & set(other)
    returns = [sum(one[:tries]) - sum(other[:tries]) for tries in range(1, len(one))]
    assert min(map(abs, returns)) > 1e-3


def test_many_agents_come_back_over_the_whole_time_that_they_may_wait():
    # Of 1,000 that wait for at most a second, about 100 come in each tenth of it.
    firsts = sorted(waits_of(seed)[1] for seed in range(1000))
    for tenth in range(10):
        assert 50 <= sum(tenth / 10 <= wait < (tenth + 1) / 10 for wait in firsts) <= 150


@pytest.mark.parametrize("seed", range(20))
def test_no_wait_is_longer_than_its_bound(seed: int):
    assert all(0 <= wait <= bound for wait, bound in zip(waits_of(seed), BOUNDS, strict=True))


def test_bounds_double_up_to_the_longest_and_begin_anew_after_a_success(longest_waits: None):
    backoff = Backoff(0.5, 15)
    assert [backoff.failed() for _ in BOUNDS] == BOUNDS
    assert [backoff.failed() for _ in range(2000)][-1] == 15  # no overflow, however long an outage lasts
    backoff.succeeded()
    assert (backoff.failures, backoff.failed(), backoff.failures) == (0, 0.5, 1)


async def test_what_is_away_is_called_again_until_it_answers(longest_waits: None):
    clock, told = FakeClock(), []
    answers = [ServiceUnavailable("away"), ServiceUnavailable("still away"), "there"]

    async def ask(name: str) -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return f"{name} is {answer}"

    def tell(error: Exception, failures: int, wait_s: float) -> None:
        told.append((str(error), failures, wait_s))

    assert await retrying(ServiceUnavailable, 1, 30, tell, clock.sleep)(ask, "Kafka") == "Kafka is there"
    assert told == [("away", 1, 1), ("still away", 2, 2)]
    assert clock.slept == [1, 2]


async def test_another_error_is_raised_at_once_and_so_is_what_the_teller_raises():
    clock = FakeClock()

    async def fail(error: Exception) -> None:
        raise error

    def give_up(error: Exception, _failures: int, _wait_s: float) -> None:
        raise TimeoutError(f"{error}, given up")

    with pytest.raises(ZeroDivisionError):
        await retrying(ServiceUnavailable, 1, 30, give_up, clock.sleep)(fail, ZeroDivisionError())
    with pytest.raises(TimeoutError, match="away, given up"):
        await retrying(ServiceUnavailable, 1, 30, give_up, clock.sleep)(fail, ServiceUnavailable("away"))
    assert clock.slept == []
