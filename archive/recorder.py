"""The recorder: a consumer group that keeps a frames topic in an archive, for good.

At least once: a frame's offset is committed after its file and its line in the index are safe; what comes twice is kept
once. Memory is bounded: of frames, one batch; of what isn't in the index yet, half a minute of entries. Kafka or the
archive being away is said, and waited for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import partial
from itertools import chain
from typing import Any, Final, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from archive.archive import Archive
from archive.entries import ArchiveEntry
from archive.keeping import FileForm, KeptFrame, kept_frame
from archive.quotas import Pruned
from schemas.errors import AccessRefused, FrameRejected, ServiceUnavailable, SettingsError, WhirrError
from schemas.frame import FrameRecord
from whirr.fetching import unreadable_of
from whirr.kafka_clients import consumer_options, quiet_aiokafka, refusal, why_not_connected
from whirr.retries import Backoff, retrying
from whirr.settings import Settings

log = logging.getLogger(__name__)

FLUSH_S: Final = 30.0
TELL_S: Final = 60.0
PROBE_S: Final = 20.0  # after which silence is looked into
PRUNE_S: Final = 600.0
_MOST_WAITING: Final = 5_000  # entries that are not in the index yet
_BATCH_FRAMES: Final = 128
_THREADS: Final = 4
_MOST_TOLD: Final = 10_000  # machines that are counted one by one: ids may be made up
_PARTITION_BYTES: Final = 2 * 1024 * 1024
_FETCH_BYTES: Final = 16 * 1024 * 1024
_POLL_MS: Final = 500
_RETRY_S, _LONGEST_RETRY_S = 1.0, 30.0
_ANSWER_S: Final = 10.0
_GIVE_UP_S: Final = 5.0  # to keep what is at hand when partitions go to another recorder, or this one stops
Result = TypeVar("Result")


class Recorder(ConsumerRebalanceListener):  # type: ignore[misc]
    """Keeps the frames of a topic.

    Args:
        settings: Where Kafka and the topic are, and which consumer group this is one of.
        archive: Where frames go.
        machine: A pattern of machine ids; frames of others are passed over.
        form: How frames are kept.
        flush_s: How often the index is written, and offsets are committed.
        prune_s: How often the archive is pruned, by the one recorder of the group that has the first partition.
    """

    def __init__(
        self,
        settings: Settings,
        archive: Archive,
        machine: str = "*",
        form: FileForm = "flac",
        *,
        flush_s: float = FLUSH_S,
        prune_s: float = PRUNE_S,
    ) -> None:
        self._settings, self._archive, self._machine, self._form = settings, archive, machine, form
        self._flush_s, self._prune_s = flush_s, prune_s
        self._consumer: AIOKafkaConsumer | None = None
        self._pool = ThreadPoolExecutor(_THREADS, "keep")
        self._changing = asyncio.Lock()  # who holds it writes to the archive, or gives offsets up
        self._waiting: dict[str, ArchiveEntry] = {}
        self._reached: dict[TopicPartition, int] = {}
        self._stop = asyncio.Event()
        self._counts: Counter[str] = Counter()
        self._skipped: Counter[str] = Counter()
        self._machines: Counter[str] = Counter()
        self._audio_s = 0.0

    def stop(self) -> None:
        """End as soon as what is at hand is kept."""
        self._stop.set()

    def summary(self) -> dict[str, Any]:
        """Return what was done so far."""
        return {
            "kept": self._counts["kept"],
            "bytes": self._counts["bytes"],
            "bytes_sent": self._counts["bytes_sent"],
            "skipped": dict(self._skipped),
            "audio_s": round(self._audio_s, 6),
            "machines": dict(sorted(self._machines.items())),
            "archive": self._archive.url,
        }

    async def run(self) -> None:
        """Record until :meth:`stop`.

        Raises:
            AccessRefused: Kafka refuses this user.
        """
        others = [asyncio.create_task(self._tell()), asyncio.create_task(self._look_after())]
        try:
            while not self._stop.is_set():
                try:
                    await self._record()
                except _Stopped as error:
                    log.warning("%s; what waits for it will be read again", error)
                except ServiceUnavailable as error:
                    log.warning("%s; connecting again", error)
                except KafkaError as error:
                    raise_refusal(error, self._settings)
                    log.warning("Kafka: %r; connecting again", error)
                    await self._pause(_RETRY_S)
        finally:
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            self._pool.shutdown(wait=False, cancel_futures=True)

    async def _record(self) -> None:
        """Read and keep until :meth:`stop`, or until Kafka says what can't be passed over."""
        if not await self._connect():
            return
        assert self._consumer is not None
        flushed_s = heard_s = time.monotonic()
        try:
            while not self._stop.is_set():
                fetched = await self._consumer.getmany(timeout_ms=_POLL_MS, max_records=_BATCH_FRAMES)
                async with self._changing:
                    await self._keep([*chain.from_iterable(fetched.values())])
                    self._reached |= {place: records[-1].offset + 1 for place, records in fetched.items()}
                now_s = time.monotonic()
                if now_s - flushed_s >= self._flush_s or len(self._waiting) >= _MOST_WAITING:
                    async with self._changing:
                        await self._flush()
                    flushed_s = time.monotonic()
                if fetched:
                    heard_s = now_s
                elif now_s - heard_s >= PROBE_S:
                    await self._probe()
                    heard_s = time.monotonic()
        finally:
            await self._hand_over()
            await _stopped(self._consumer)
            self._consumer = None

    async def _connect(self) -> bool:
        """Join the group; return whether that came about before :meth:`stop`."""
        backoff = Backoff(_RETRY_S, _LONGEST_RETRY_S)
        while not self._stop.is_set():
            consumer = AIOKafkaConsumer(
                **consumer_options(self._settings),
                client_id="whirr-record",
                group_id=self._settings.recordings_group,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                max_partition_fetch_bytes=_PARTITION_BYTES,
                fetch_max_bytes=_FETCH_BYTES,
            )
            consumer.subscribe([self._settings.frames_topic], listener=self)
            try:
                with quiet_aiokafka():
                    await consumer.start()
            except (KafkaError, OSError, TimeoutError) as error:
                await _stopped(consumer)
                raise_refusal(error, self._settings)
                away = await why_not_connected(self._settings)
                if isinstance(away, AccessRefused):
                    raise away from None
                wait_s = backoff.failed()
                log.warning("%s; trying again in %.1f s", away, wait_s)
                await self._pause(wait_s)
                continue
            self._consumer = consumer
            if self._settings.frames_topic not in await consumer.topics():
                log.warning("there is no topic %r, or it is hidden from this user", self._settings.frames_topic)
            log.info(
                "recording %s into %s as group %s",
                self._settings.frames_topic, self._archive.url, self._settings.recordings_group,
            )  # fmt: skip
            return True
        return False

    async def _keep(self, records: Sequence[ConsumerRecord]) -> None:
        """Write the files of some records, in a few threads, each of which computes and writes some of them."""
        wanted = [record for record in records if self._wanted(record)]
        share = -(-len(wanted) // _THREADS) or 1
        parts = [wanted[at : at + share] for at in range(0, len(wanted), share)]
        found = await asyncio.gather(*(self._surely(partial(self._add_files, part)) for part in parts))
        for frame, entry in zip(wanted, chain.from_iterable(found), strict=True):
            if isinstance(entry, str):
                self._skipped[entry] += 1
                continue
            self._waiting[entry.frame_id] = entry
            told = entry.machine in self._machines or len(self._machines) < _MOST_TOLD
            self._machines[entry.machine if told else "…"] += 1
            self._counts.update(kept=1, bytes=entry.bytes, bytes_sent=len(frame.value or b""))
            self._audio_s += entry.duration_s

    def _add_files(self, records: Sequence[ConsumerRecord]) -> list[ArchiveEntry | str]:
        """Write the files of records; return the entry of each, or why nothing is kept of it."""
        kept = [self._kept(record) for record in records]
        frames = [one for one in kept if isinstance(one, KeptFrame)]
        if frames:
            self._archive.add_files(frames)
        return [one.entry if isinstance(one, KeptFrame) else one for one in kept]

    def _wanted(self, record: ConsumerRecord) -> bool:
        return self._machine == "*" or fnmatchcase((record.key or b"").decode(errors="replace"), self._machine)

    def _kept(self, record: ConsumerRecord) -> KeptFrame | str:
        """Return what is kept of a record, or why nothing is."""
        one = FrameRecord(
            record.key, record.value, tuple(record.headers), record.timestamp, record.topic, record.partition,
            record.offset, unreadable_of(record),
        )  # fmt: skip
        try:
            return kept_frame(one, self._form)
        except FrameRejected as error:
            return error.code
        except MemoryError:
            raise
        except Exception:  # or one frame would end the recording, and again after each start
            log.exception("frame %s[%d]@%d could not be kept", record.topic, record.partition, record.offset)
            return "processing_failed"

    async def _flush(self) -> None:
        """Write what waits into the index, and commit."""
        entries, reached = list(self._waiting.values()), dict(self._reached)
        await self._surely(lambda: self._archive.add_entries(entries))
        await self._commit(reached)
        self._waiting.clear()
        self._reached.clear()

    async def _commit(self, reached: dict[TopicPartition, int]) -> None:
        assert self._consumer is not None
        own = {place: offset for place, offset in reached.items() if place in self._consumer.assignment()}
        if not own:
            return
        try:
            async with asyncio.timeout(_ANSWER_S):
                await self._consumer.commit(own)
        except (KafkaError, IllegalStateError, TimeoutError) as error:  # it comes again, and is kept once
            raise_refusal(error, self._settings)
            log.warning("offsets could not be committed (%s); some frames may be read again", type(error).__name__)

    async def _hand_over(self) -> None:
        """Keep what is at hand if that can be done at once; else whoever comes next reads it again."""
        try:
            async with asyncio.timeout(_GIVE_UP_S):
                await self._changing.acquire()
        except TimeoutError:
            log.warning("the archive is away; what is not in its index will be read again")
            return
        try:
            entries, reached = list(self._waiting.values()), dict(self._reached)
            await asyncio.to_thread(self._archive.add_entries, entries)
            await self._commit(reached)
        except (ServiceUnavailable, KafkaError) as error:
            log.warning("%s; what is not in the index will be read again", error)
        finally:
            self._waiting.clear()
            self._reached.clear()
            self._changing.release()

    async def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        """Keep what is at hand before another recorder goes on."""
        if revoked and self._consumer is not None:
            await self._hand_over()

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        """Say what this recorder reads."""
        log.info("reads %d partitions of %s", len(assigned), self._settings.frames_topic)

    async def _surely(self, action: Callable[[], Result]) -> Result:
        """Do something with the archive, again and again while it is away.

        Raises:
            _Stopped: This was asked to stop meanwhile.
        """

        def told(error: Exception, failures: int, wait_s: float) -> None:
            if self._stop.is_set():
                raise _Stopped(str(error))
            if failures in (1, 3) or failures % 20 == 0:
                log.warning("%s; frames wait in Kafka, trying again in %.1f s", error, wait_s)

        again = retrying(ServiceUnavailable, _RETRY_S, _LONGEST_RETRY_S, told, self._pause)
        return await again(asyncio.get_running_loop().run_in_executor, self._pool, action)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    async def _tell(self) -> None:
        """Say now and then what was kept."""
        before: Counter[str] = Counter()
        while not self._stop.is_set():
            await self._pause(TELL_S)
            done = self._counts - before
            before = self._counts.copy()
            skipped = f"; skipped so far: {dict(self._skipped)}" if self._skipped else ""
            mb = done["bytes"] / 1e6
            log.info("kept %d frames (%.1f MB) since the last such line%s", done["kept"], mb, skipped)

    async def _probe(self) -> None:
        """Return if Kafka answers: a consumer that waits and one whose broker is gone look the same.

        Raises:
            ServiceUnavailable: It doesn't.
        """
        assert self._consumer is not None
        try:
            async with asyncio.timeout(_ANSWER_S):
                await self._consumer.end_offsets([TopicPartition(self._settings.frames_topic, 0)])
        except (KafkaError, TimeoutError):
            raise ServiceUnavailable(f"Kafka at {self._settings.bootstrap} does not answer") from None

    async def _look_after(self) -> None:
        """Prune the archive now and then."""
        said: list[str] = []
        await self._pause(min(self._prune_s, TELL_S))
        while not self._stop.is_set():
            if self._has_first():
                try:
                    done = await asyncio.to_thread(
                        self._archive.prune, time.time_ns() // 1000, lambda: not self._stop.is_set()
                    )
                except (ServiceUnavailable, SettingsError) as error:
                    log.warning("%s; the archive is pruned later", error)
                except Exception:  # or the archive would grow for ever, and nobody would know
                    log.exception("the archive could not be pruned; it is tried again later")
                else:
                    tell_pruned(done, said)
                    said = done.kept_over
            await self._pause(self._prune_s)

    def _has_first(self) -> bool:
        consumer = self._consumer
        return consumer is not None and any(place.partition == 0 for place in consumer.assignment())


async def _stopped(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer, in a task of its own: where the broker is gone, it may end in an error, cancelled, or never."""
    stopping = asyncio.create_task(consumer.stop())
    await asyncio.wait([stopping], timeout=_ANSWER_S)
    if not stopping.done():
        stopping.cancel()
    elif not stopping.cancelled() and (error := stopping.exception()) is not None:
        log.debug("the consumer could not leave its group (%r)", error)


class _Stopped(WhirrError):
    """Whoever waited for the archive was asked to stop."""


def tell_pruned(done: Pruned, said: Sequence[str] = ()) -> None:
    """Log what a round of pruning did, and what it could not do, unless that was said."""
    if done.aged or done.thinned or done.over:
        log.info(
            "pruned: %d frames were too old, %d repeats, %d above a quota (%.1f MB)",
            done.aged, done.thinned, done.over, done.bytes / 1e6,
        )  # fmt: skip
    for sentence in done.kept_over:
        if sentence not in said:
            log.warning("%s; unpin something, or raise the quota", sentence)


def raise_refusal(error: BaseException, settings: Settings) -> None:
    """Raise what a client's error means if Kafka refuses this user.

    Raises:
        AccessRefused: It does.
    """
    what = f"topic {settings.frames_topic!r} as group {settings.recordings_group!r}"
    if (refused := refusal(error, settings, "read", what)) is not None:
        raise refused from None
