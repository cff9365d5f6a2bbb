"""Sending dead letters again, each to where it came from, and remembering which were.

What was replayed is noted on a small topic of its own beside the dead letters' (``….replayed``), after the broker has
the replayed record. A crash between the two leads to a repeat, which the frame's identity makes harmless, and never to
one that is forgotten. The dead letters themselves stay as they are, and no consumer's offsets are touched.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import orjson
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError

from schemas.errors import ServiceUnavailable
from schemas.frame import MAX_TIMESTAMP_MS
from schemas.times import format_rfc3339
from whirr.dead_letters import StoredDeadLetter
from whirr.kafka_clients import client_options, commands_producer, quiet_aiokafka, refusal, why_not_connected
from whirr.settings import Settings
from whirr.settings import notes_topic as name_of_notes
from whirr.topic_reader import read_topic

REPLAYED_FROM = "whirr_replayed_from"
MAX_REQUEST_BYTES = 2 * 1024 * 1024 + 128 * 1024
_REQUEST_TIMEOUT_MS = 10_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What a replay would do.

    Attributes:
        send: What to send, in the order in which the records first came.
        again: What was replayed before and is left out.
        unfit: What can't be sent as it was, and why.
    """

    send: Sequence[StoredDeadLetter]
    again: Sequence[StoredDeadLetter]
    unfit: Sequence[tuple[StoredDeadLetter, str]]


def notes_topic(settings: Settings) -> str:
    """Return the topic that says which dead letters were replayed."""
    return name_of_notes(settings.dead_letter_topic)


def why_unfit(letter: StoredDeadLetter) -> str | None:
    """Return why a dead letter can't be sent again as it was, or None if it can."""
    if letter.topic is None:
        return "it does not say which topic it came from"
    if letter.first_offset is not None:
        return "it stands for what could not be read"
    if letter.code == "answer_too_large":
        return "it is an answer of the worker's, and no frame"
    if letter.cut_from_bytes is not None:
        return f"its value was cut from {letter.cut_from_bytes} bytes"
    if letter.header("ce_time") is None and not 0 <= (letter.original_ms or -1) < MAX_TIMESTAMP_MS:
        return f"it has no ce_time and its record's timestamp is {letter.original_ms}"
    return None


async def plan(settings: Settings, letters: Sequence[StoredDeadLetter], *, again: bool = False) -> Plan:
    """Return what is to be sent of ``letters``; with ``again`` also what was replayed before.

    Raises:
        ServiceUnavailable: Kafka can't be reached.
        AccessRefused: This user may not see what was replayed before.
    """
    replayed = set() if again else await replayed_before(settings)
    ordered = sorted(letters, key=lambda one: (one.topic or "", one.original_partition or 0, one.original_offset or 0))
    before = [one for one in ordered if _name(one) in replayed]
    rest = [one for one in ordered if _name(one) not in replayed]
    reasons = [(one, why_unfit(one)) for one in rest]
    return Plan(
        [one for one, reason in reasons if reason is None],
        before,
        [(one, reason) for one, reason in reasons if reason is not None],
    )


async def replayed_before(settings: Settings) -> set[str]:
    """Return the names of the dead letters that were replayed."""
    # Who may not see it must not take it for empty: what was sent would be sent again.
    notes = read_topic(settings, notes_topic(settings), missing_ok=True, hidden_ok=False)
    return {note.key.decode(errors="replace") async for note in notes if note.key}


async def replay(settings: Settings, letters: Sequence[StoredDeadLetter]) -> AsyncIterator[StoredDeadLetter]:
    """Send dead letters, one after the other; yield each once the broker has it and it is noted.

    Key, value, headers and partition are the original's. A record without ``ce_time`` was recorded when its timestamp
    says, so it gets that as ``ce_time``: its identity and its place in time stay what they were.

    Raises:
        ServiceUnavailable: Kafka can't be reached, or did not acknowledge.
        AccessRefused: Kafka refuses this user.
    """
    await _make_notes_topic(settings)
    async with commands_producer(settings, "whirr-dlq-replay", max_request_size=MAX_REQUEST_BYTES) as producer:
        for letter in letters:
            assert letter.topic is not None
            try:
                known = await producer.partitions_for(letter.topic)
                partition = letter.original_partition if letter.original_partition in known else None
                await producer.send_and_wait(
                    letter.topic, letter.value, key=letter.key, partition=partition, headers=_headers(settings, letter)
                )
                note = orjson.dumps({"topic": letter.topic, "error": letter.code})
                await producer.send_and_wait(notes_topic(settings), note, key=_name(letter).encode())
            except (KafkaError, OSError, TimeoutError) as error:
                refused = refusal(error, settings, "write", f"topic {letter.topic!r}")
                shown = f"{type(error).__name__}: {error}".strip(": ")
                raise refused or ServiceUnavailable(
                    f"dead letter {letter.place} was not acknowledged by Kafka at {settings.bootstrap} ({shown})"
                ) from None
            yield letter


def _name(letter: StoredDeadLetter) -> str:
    """Return what sets a dead letter apart, also from one of a topic that was deleted and made anew."""
    return f"{letter.place}@{letter.stored_ms}"


def _headers(settings: Settings, letter: StoredDeadLetter) -> list[tuple[str, bytes]]:
    headers = [(name, raw) for name, raw in letter.headers if name != REPLAYED_FROM]
    if letter.header("ce_time") is None and letter.original_ms is not None:
        headers.append(("ce_time", format_rfc3339(letter.original_ms * 1000).encode()))
    return [*headers, (REPLAYED_FROM, f"{settings.dead_letter_topic}/{letter.place}".encode())]


async def _make_notes_topic(settings: Settings) -> None:
    with quiet_aiokafka():
        admin = AIOKafkaAdminClient(**client_options(settings), request_timeout_ms=_REQUEST_TIMEOUT_MS)
        try:
            await admin.start()
            if notes_topic(settings) in await admin.list_topics():
                return
            config = {"cleanup.policy": "compact"}
            wanted = NewTopic(notes_topic(settings), 1, settings.topic_replication, topic_configs=config)
            await admin.create_topics([wanted])
        except TopicAlreadyExistsError:
            pass
        except (KafkaError, OSError, TimeoutError) as error:
            refused = refusal(error, settings, "create", f"topic {notes_topic(settings)!r}")
            raise refused or await why_not_connected(settings) from None
        finally:
            await admin.close()
