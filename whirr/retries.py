"""Tries again what is away: ever more seldom, and each time at a moment that chance picks.

Without chance all agents and workers of a plant would come back in the same instants after an outage, and together
bring down what had just come up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tenacity import AsyncRetrying, RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential


class Backoff:
    """How long to wait after each failure in a row.

    For what counts its failures itself; :func:`retrying` is for whatever can be called again.

    Args:
        first_s: Longest first wait; each further one may be twice as long, and chance picks within ("full jitter").
        longest_s: Longest wait of all.

    Attributes:
        failures: So far, in a row.
    """

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._wait = wait_random_exponential(multiplier=first_s, max=longest_s)
        self.failures = 0

    def failed(self) -> float:
        """Count a failure, and return for how many seconds to wait."""
        self.failures += 1
        state = RetryCallState(Retrying(), None, (), {})
        state.attempt_number = self.failures
        return self._wait(state)

    def succeeded(self) -> None:
        """Begin anew with the next failure."""
        self.failures = 0


def retrying(
    error: type[Exception],
    first_s: float,
    longest_s: float,
    tell: Callable[[Exception, int, float], None],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncRetrying:
    """Return what calls a coroutine function, for ever, until it raises no such error.

    Args:
        error: After which another try may help; any other is raised.
        first_s: As of :class:`Backoff`.
        longest_s: Likewise.
        tell: Called before each wait with the error, the number of failures so far and the wait in seconds; what it
            raises ends the tries.
        sleep: Waits.
    """

    def before_sleep(state: RetryCallState) -> None:
        failure = state.outcome.exception() if state.outcome else None
        assert isinstance(failure, Exception)
        tell(failure, state.attempt_number, state.next_action.sleep if state.next_action else 0.0)

    return AsyncRetrying(
        retry=retry_if_exception_type(error),
        wait=wait_random_exponential(multiplier=first_s, max=longest_s),
        before_sleep=before_sleep,
        sleep=sleep,
        reraise=True,
    )
