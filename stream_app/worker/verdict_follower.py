"""Follows the topic of verdicts, so that each is known well before the first frame that it counts for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, Literal

from aiokafka import ConsumerRecord

from schemas.errors import AccessRefused, ServiceUnavailable, SettingsError
from schemas.times import MICROSECONDS, parse_rfc3339
from schemas.verdict import VERDICT_DELAY_S, Verdict
from stream_app.pipeline import Verdicts
from stream_app.worker.metrics import WorkerMetrics
from whirr.retries import Backoff
from whirr.settings import Settings
from whirr.topic_reader import follow_topic
from whirr.verdicts import read_verdict

log = logging.getLogger(__name__)

FollowState = Literal["following", "behind", "no topic", "refused"]
EVERY_S: Final = 1.0
FIRST_READ_S: Final = 30.0
_LOOK_FOR_TOPIC_S = 5.0
_ASK_AGAIN_S = 60.0
_BACKOFF_S = (0.5, 5.0)


class VerdictFollower:
    """Reads the topic from its beginning and then as it grows, for as long as the worker runs.

    A topic that isn't there yet is looked for again: the first verdict makes it. A worker whose user may not read it
    says so once and goes on without.

    Args:
        settings: Where Kafka and the topic are.
        use: Called with all verdicts, whenever there is a new one.
        metrics: Takes how many are known, and how many came too late.
        clock_s: Monotonic time.
        now_us: Wall clock.

    Attributes:
        first_read: Set once the topic was read up to its end, or it is known that it can't be read.
    """

    def __init__(
        self,
        settings: Settings,
        use: Callable[[Verdicts], None],
        metrics: WorkerMetrics,
        *,
        clock_s: Callable[[], float] = time.monotonic,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._settings = settings
        self._use = use
        self._metrics = metrics
        self._clock_s = clock_s
        self._now_us = now_us
        self._verdicts = Verdicts()
        self._known: dict[str, dict[str, Verdict]] = {}  # by machine and incident
        self._machines: dict[str, str] = {}  # by incident
        self._without: FollowState | None = None
        self._read_s: float | None = None
        self._began_s = clock_s()
        self.first_read = asyncio.Event()

    @property
    def age_s(self) -> float:
        """How long ago the topic was last known to have been read up to its end."""
        return self._clock_s() - (self._began_s if self._read_s is None else self._read_s)

    @property
    def state(self) -> FollowState:
        """Whether all that was said half a minute ago is known, and why not."""
        if self._without is not None:
            return self._without
        return "following" if self._read_s is not None and self.age_s < VERDICT_DELAY_S else "behind"

    async def run(self) -> None:
        """Follow the topic until cancelled."""
        backoff = Backoff(*_BACKOFF_S)
        while True:
            try:
                await self._follow(backoff)
            except SettingsError:  # nobody has said anything yet
                self._read_s = self._clock_s()
                self._goes_on_without("no topic", None)
                wait_s = _LOOK_FOR_TOPIC_S
            except AccessRefused as error:
                self._goes_on_without("refused", f"{error}; verdicts have no effect here")
                wait_s = _ASK_AGAIN_S
            except ServiceUnavailable as error:
                if not backoff.failures:
                    log.warning("%s; verdicts that are given meanwhile may count late", error)
                wait_s = backoff.failed()
            except Exception:  # frames are worth more than verdicts: whatever it is, it must not end the worker
                log.exception("following %s failed; trying again", self._settings.verdicts_topic)
                wait_s = backoff.failed()
            await asyncio.sleep(wait_s)

    async def wait_for_first_read(self) -> None:
        """Return once all that was said is known, or can't be; after half a minute in any case."""
        try:
            async with asyncio.timeout(FIRST_READ_S):
                await self.first_read.wait()
        except TimeoutError:
            log.warning(
                "topic %s could not be read within %g s; going on without the verdicts that it holds, until it can",
                self._settings.verdicts_topic,
                FIRST_READ_S,
            )

    def _goes_on_without(self, state: FollowState, warning: str | None) -> None:
        if warning is not None and self._without != state:
            log.warning("%s", warning)
        self._without = state
        self.first_read.set()

    async def _follow(self, backoff: Backoff) -> None:
        looks = follow_topic(self._settings, self._settings.verdicts_topic, EVERY_S)
        async with contextlib.aclosing(looks):  # type: ignore[type-var]
            began_s = self._clock_s()
            async for records in looks:
                self._take(records)
                # What was stored when this look began has been read; it began when the one before ended, or earlier.
                self._read_s, began_s = began_s, self._clock_s()
                self._without = None
                self.first_read.set()
                backoff.succeeded()

    def _take(self, records: Sequence[ConsumerRecord]) -> None:
        changed: set[str] = set()
        for record in records:
            incident_id = (record.key or b"").decode(errors="replace")
            before: Verdict | None = None
            if (machine := self._machines.pop(incident_id, None)) is not None:
                before = self._known[machine].pop(incident_id)
                changed.add(machine)
            verdict = read_verdict(record)
            if verdict is None:
                continue
            # Notes are for people, and long.
            self._known.setdefault(verdict.machine_id, {})[verdict.incident_id] = replace(verdict, note=None)
            self._machines[verdict.incident_id] = verdict.machine_id
            changed.add(verdict.machine_id)
            # After an outage all of it is read again.
            if self.first_read.is_set() and (before is None or before.verdict_id != verdict.verdict_id):
                self._notice_late(verdict)
        if not changed:
            return
        self._verdicts = self._verdicts.updated({one: list(self._known[one].values()) for one in changed})
        self._metrics.verdicts.set(len(self._machines))
        self._use(self._verdicts)

    def _notice_late(self, verdict: Verdict) -> None:
        """Say so where a verdict is known only after it began to count: frames until now were judged without it."""
        late_s = (self._now_us() - parse_rfc3339(verdict.time)) / MICROSECONDS
        if late_s <= VERDICT_DELAY_S:
            return
        self._metrics.verdicts_late.inc()
        log.warning(
            "the verdict %s on incident %s of machine %s was read %.0f s after it was given, and counts from %g s on: "
            "frames between were judged without it; is its giver's clock right?",
            verdict.verdict,
            verdict.incident_id[:12],
            verdict.machine_id,
            late_s,
            VERDICT_DELAY_S,
        )
