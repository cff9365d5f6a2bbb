"""The watchdog looks once a second: at silent streams, answers, commits, the fetcher, models."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from faust.types import TP

from schemas.errors import ModelError
from stream_app.worker.champions import ModelWatcher
from stream_app.worker.health import Progress, Readiness
from stream_app.worker.open_transactions import OpenTransactions

if TYPE_CHECKING:
    from stream_app.worker.app import WorkerApp

log = logging.getLogger(__name__)

INTERVAL_S = 1.0
_ASK_S = 3.0


class Stalled(Exception):
    """Answers, commits, the fetcher or a start have not moved for too long; the supervisor must start a new worker."""


class Watchdog:
    """Looks after a running worker.

    Attributes:
        commit_age_s: How long acknowledged frames have waited for a commit to move.
    """

    def __init__(self, app: WorkerApp, models: ModelWatcher) -> None:
        self._app = app
        self._models = models
        self._commits = Progress()
        self._fetches = Progress()
        self._watched_since_us: dict[int, int] = {}
        self._start: tuple[int, int] | None = None
        self._start_moved_s = 0.0
        self._open_transactions = OpenTransactions()
        self._away = False
        self.commit_age_s = 0.0

    def reset(self) -> None:
        """Start over with new partitions."""
        self._commits.reset()
        self._fetches.reset()
        self._watched_since_us.clear()

    async def run(self) -> None:
        """Look until cancelled.

        Raises:
            Stalled: Something has not moved for ``commit_stall_s``.
        """
        settings = self._app.settings
        interval_s = min(INTERVAL_S, settings.commit_stall_s / 4)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._every(interval_s, self._look_at_progress))
            tasks.create_task(self._every(INTERVAL_S, self._look_at_silence))
            tasks.create_task(self._watch_models())

    async def _every(self, interval_s: float, look: Any) -> None:
        while True:
            await asyncio.sleep(interval_s)
            await look()

    def readiness(self) -> Readiness:
        """Return what holds now."""
        app = self._app
        assigned = not app.rebalancing and app._assignment is not None
        return Readiness(
            partitions_assigned=assigned,
            tables_recovered=assigned and bool(app.tables.actives_ready) and not app.in_recovery,
            models_loaded=bool(app.engine.router.routed),
            commits_moving=self.commit_age_s < app.settings.commit_stall_s / 2,
            frames_answered=app.processor.offsets.stuck_s() < app.settings.commit_stall_s / 2,
        )

    def details(self) -> dict[str, Any]:
        """Return what /ready says besides."""
        return {
            "partitions": sorted(self._partitions()),
            "commit_age_s": round(self.commit_age_s, 3),
            "oldest_unanswered_s": round(self._app.processor.offsets.oldest_s(), 3),
            "verdicts": self._app.verdicts.state,
            "learning_machines": self._app.states.learning_machines,
            "models": {routed.route.match: routed.route.model for routed in self._app.engine.router.routed},
        }

    def _partitions(self) -> set[int]:
        topic = self._app.settings.frames_topic
        return {tp.partition for tp in self._app._assignment or () if tp.topic == topic}

    async def _look_at_progress(self) -> None:
        app, topic = self._app, self._app.settings.frames_topic
        if app.rebalancing or app._assignment is None:
            self._look_at_start(time.monotonic())
            return
        self._start = None
        self._look_at_answers()
        committed = await self._asked(app.consumer.committed_offsets(topic, _ASK_S))
        now_s = time.monotonic()
        # No answer is no movement.
        answered = app.consumer.answered(topic)
        self.commit_age_s = self._commits.observe(now_s, answered, committed or {})
        app.metrics.commit_age_seconds.set(self.commit_age_s)
        ends = await self._asked(app.consumer.end_offsets(topic, _ASK_S))
        fetch_age_s = 0.0
        if ends is not None:
            positions = app.consumer.positions(topic)
            fetch_age_s = self._fetches.observe(now_s, self._to_be_fetched(ends), positions)
            answered = {**positions, **answered}
            app.metrics.show_lag({p: max(end - answered.get(p, end), 0) for p, end in ends.items()})
        limit_s = app.settings.commit_stall_s
        if self.commit_age_s > limit_s:
            raise Stalled(
                f"acknowledged frames have waited {self.commit_age_s:.0f} s for a commit; limit {limit_s:g} s"
            )
        if fetch_age_s > limit_s:
            raise Stalled(f"frames have waited {fetch_age_s:.0f} s to be fetched; limit {limit_s:g} s")

    def _look_at_answers(self) -> None:
        """Notice that frames were taken and none is answered: the computation, or what comes after it, hangs."""
        offsets, limit_s = self._app.processor.offsets, self._app.settings.commit_stall_s
        self._app.metrics.oldest_unanswered_seconds.set(offsets.oldest_s())
        age_s = offsets.stuck_s()
        if age_s > limit_s:
            raise Stalled(f"frames have waited {age_s:.0f} s without any being answered; limit {limit_s:g} s")

    def _look_at_start(self, now_s: float) -> None:
        """Notice a rebalance, or a recovery of states, that gets nowhere: its partitions would stand still for good."""
        app = self._app
        mark = app.consumer_generation_id, app.tables.recovery.active_remaining_total()
        if mark != self._start:
            self._start, self._start_moved_s = mark, now_s
        age_s, limit_s = now_s - self._start_moved_s, app.settings.commit_stall_s
        if age_s > limit_s:
            raise Stalled(
                f"partitions were not taken up for {age_s:.0f} s, with {mark[1]} records of states still to be read; "
                f"limit {limit_s:g} s"
            )

    def _to_be_fetched(self, ends: dict[int, int]) -> dict[int, int]:
        """Leave out the partitions that are held back while costly frames of theirs are worked on."""
        app, topic = self._app, self._app.settings.frames_topic
        working = app.processor.offsets.stuck_s() < app.settings.commit_stall_s / 2
        held = app.consumer.held_back(topic) if working else set()
        return {partition: end for partition, end in ends.items() if partition not in held}

    async def _asked(self, question: Any) -> dict[int, int] | None:
        try:
            answer: dict[int, int] = await question
        except Exception as error:  # whatever it is, the broker did not answer
            if not self._away:
                log.warning("Kafka at %s does not answer (%r); waiting for it", self._app.settings.bootstrap, error)
            self._away = True
            return None
        if self._away:
            log.info("Kafka at %s answers again", self._app.settings.bootstrap)
        self._away = False
        return answer

    async def _look_at_silence(self) -> None:
        app = self._app
        if self._away or not self.readiness().ready:
            self._watched_since_us.clear()
            return
        now_us = time.time_ns() // 1000
        self._watched_since_us = {
            p: self._watched_since_us.get(p, now_us) if self._caught_up(p) else now_us for p in self._seen()
        }
        limits = [r.route.silent_after_s for r in app.engine.router.routed if r.route.silent_after_s is not None]
        await app.processor.check_silence(self._watched_since_us, min(limits, default=None))

    def _seen(self) -> list[int]:
        """Return the partitions in which no open transaction hides frames."""
        consumer, topic, now_s = self._app.consumer, self._app.settings.frames_topic, time.monotonic()
        stable = {partition: consumer.highwater(TP(topic, partition)) for partition in self._partitions()}
        return [
            p
            for p, end in stable.items()
            if not self._open_transactions.hides(p, end, consumer.stored(topic, p), now_s)
        ]

    def _caught_up(self, partition: int) -> bool:
        app = self._app
        tp = TP(app.settings.frames_topic, partition)
        end = app.consumer.highwater(tp)
        # Taken, not answered: a costly frame may wait long for its turn, and must not switch the look at silence off.
        taken = app.processor.offsets.taken_upto(partition)
        return end is not None and app.consumer.past(tp, taken) >= end

    async def _watch_models(self) -> None:
        app = self._app
        while True:
            await asyncio.sleep(app.settings.model_poll_s)
            champions = await asyncio.to_thread(self._models.check)
            if champions is None:
                continue
            try:
                await app.compute.load(champions.router, champions.files, champions.beside)
            except ModelError as error:  # replaced once more in between: the next look finds that
                log.warning("%s", error)
                continue
            app.engine.router = champions.router
            app.metrics.show_models(champions.router)
