"""A hostile gateway: everything that nobody should send, put beside the honest machines' frames on the same topic.

It writes what a client's own API would not let it write, so it makes record batches byte by byte (Kafka's format 2).
Each record it sends has to be answered, by a score or by a dead letter, and none may cost an honest frame.
"""

from __future__ import annotations

import asyncio
import gzip
import io
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any, NamedTuple

import cramjam
import numpy as np
import soundfile
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import CorruptRecordException, KafkaError, NoError, for_code
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.util import calc_crc32c, encode_varint

from tests.chaos.plant import RATE_HZ
from whirr.settings import Settings

CODECS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
PREFIX = "hostile-"  # of its machine ids
AGAIN_S = 0.5
BOMB_BYTES = 400_000_000
WORST_FRAMES = 6
ENDLESS_IDS = 1_500
_AT_ONCE = 250
_MOST_BYTES = 4 * 1024 * 1024

Header = tuple[bytes, bytes | None]


class Batch(NamedTuple):
    """One record batch, and how many offsets it takes.

    Attributes:
        what: Its kind, for messages.
        data: As it goes to the broker.
        records: How many offsets it takes.
    """

    what: str
    data: bytes
    records: int = 1


class Sent(NamedTuple):
    """A record that the broker has: where, and of what kind."""

    partition: int
    offset: int
    what: str


def batches(random: Random) -> Iterator[Batch]:
    """Yield batches: frames in every codec, and what can't be read as a record or as a batch."""
    frame = _wav(random)
    for codec in CODECS:
        yield batch(f"a frame in {codec}", [record(_id(random), frame)], codec)
        yield batch(f"{codec} that is none", [record(_id(random), frame)], codec, packed=random.randbytes(500))
        cut = _packed(record(_id(random), frame), codec)
        yield batch(f"{codec} that ends early", [record(_id(random), frame)], codec, packed=cut[: len(cut) // 2])
    yield batch("a codec that is none", [record(_id(random), frame)], "none", number=random.choice((5, 6, 7)))
    yield batch("a header's name in no encoding", [record(_id(random), frame, [(b"\xff\xfe", b"x")])])
    yield batch("a header without a value", [record(_id(random), frame, [(b"", None), (b"ce_source", None)])])
    yield batch("a record of noise", [random.randbytes(200)])
    yield batch("a record that claims to be long", [_varint(1_000_000_000) + random.randbytes(50)])
    bad = [record(_id(random), frame, [(b"\xff", b"x")], offset=1), _varint(40) + random.randbytes(40)]
    good = [record(_id(random), frame, offset=0), *bad, record(_id(random), frame, offset=3)]
    yield batch("one record of noise among four", good)
    for codec in ("gzip", "lz4", "zstd"):
        yield batch(f"a bomb in {codec}", [record(_id(random), b"")], codec, packed=_bomb(codec))


def batch(
    what: str, records: Sequence[bytes], codec: str = "none", *, packed: bytes | None = None, number: int = 0
) -> Batch:
    """Return a record batch of format 2, with a checksum that is right whatever is in it.

    Args:
        what: Its kind, for messages.
        records: As :func:`record` makes them.
        codec: By which they are packed.
        packed: What to put in their place.
        number: A codec's number to claim instead.
    """
    now_ms = time.time_ns() // 1_000_000
    body = packed if packed is not None else _packed(b"".join(records), codec)
    count = len(records)
    attributes = number or CODECS.get(codec, 0)
    covered = struct.pack(">hiqqqhii", attributes, count - 1, now_ms, now_ms, -1, -1, -1, count) + body
    return Batch(what, struct.pack(">qiibI", 0, 9 + len(covered), -1, 2, calc_crc32c(covered)) + covered, count)


def record(key: bytes, value: bytes, headers: Sequence[Header] = (), offset: int = 0) -> bytes:
    """Return one record of a batch; ``offset`` is counted from the batch's first."""
    body = b"\0" + _varint(0) + _varint(offset)
    for part in (key, value):
        body += _varint(len(part)) + part
    body += _varint(len(headers))
    for name, raw in headers:
        body += _varint(len(name)) + name + (_varint(-1) if raw is None else _varint(len(raw)) + raw)
    return _varint(len(body)) + body


async def attack(settings: Settings, random: Random, deadline_s: float = 180.0) -> list[Sent]:
    """Send all of it, among it transactions that are aborted; return what the brokers have of it.

    Raises:
        TimeoutError: The brokers did not take it in time.
    """
    sent: list[Sent] = []
    async with asyncio.timeout(deadline_s):
        for one in batches(random):
            sent += await _again(
                lambda one=one: _send_batch(settings, one, random.randrange(settings.topic_partitions))
            )
        sent += await _again(lambda: _send_transactions(settings, random))
        sent += await _again(lambda: _send_worst(settings, random))
        for _ in range(ENDLESS_IDS // _AT_ONCE):
            sent += await _again(lambda: _send_ids(settings, random))
    return sent


async def _again(send: Any) -> list[Sent]:
    """Call until the brokers take it; what was sent before in vain is not answered for."""
    while True:
        try:
            found: list[Sent] = await send()
            return found
        except (KafkaError, OSError):
            await asyncio.sleep(AGAIN_S)


async def _send_batch(settings: Settings, one: Batch, partition: int) -> list[Sent]:
    """Send a batch as it is; what the broker looks through and refuses is no record, and wants no answer."""
    async with _producer(settings) as producer:
        await producer.partitions_for(settings.frames_topic)
        client = producer.client
        leader = client.cluster.leader_for_partition(TopicPartition(settings.frames_topic, partition))
        request = ProduceRequest(None, -1, 10_000, [(settings.frames_topic, [(partition, one.data)])])
        answer = await client.send(leader, request)
    stored = answer.to_object()["topics"][0]["partitions"][0]
    error = for_code(stored["error_code"])
    if error is not NoError:
        if error.retriable and error is not CorruptRecordException:
            raise error
        return []
    return [Sent(partition, stored["offset"] + index, one.what) for index in range(one.records)]


async def _send_transactions(settings: Settings, random: Random) -> list[Sent]:
    """Commit one transaction and abort another; the aborted frames are nobody's, so they want no answer."""
    async with _producer(settings, transactional_id=f"hostile-{random.getrandbits(32):x}") as producer:
        async with producer.transaction():
            stored = [await producer.send(settings.frames_topic, _wav(random), key=_id(random)) for _ in range(3)]
        committed = [await future for future in stored]
        await producer.begin_transaction()
        for _ in range(3):
            await producer.send(settings.frames_topic, _wav(random), key=_id(random))
        await producer.flush()
        await producer.abort_transaction()
    return [Sent(one.partition, one.offset, "a committed transaction") for one in committed]


async def _send_worst(settings: Settings, random: Random) -> list[Sent]:
    """Send a few thousand bytes each that cost as much computation as a frame can."""
    value = _silence()
    values = [(_id(random), value) for _ in range(WORST_FRAMES)]
    return await _send_frames(settings, values, "a costly frame")


async def _send_ids(settings: Settings, random: Random) -> list[Sent]:
    value = _wav(random)
    values = [(_id(random), value) for _ in range(_AT_ONCE)]
    return await _send_frames(settings, values, "a machine that is made up")


async def _send_frames(settings: Settings, frames: Sequence[tuple[bytes, bytes]], what: str) -> list[Sent]:
    async with _producer(settings) as producer:
        stored = [await producer.send(settings.frames_topic, value, key=key) for key, value in frames]
        return [Sent(one.partition, one.offset, what) for one in [await future for future in stored]]


def _producer(settings: Settings, **options: Any) -> AIOKafkaProducer:
    return AIOKafkaProducer(
        bootstrap_servers=settings.bootstrap,
        acks="all",
        max_request_size=_MOST_BYTES,
        request_timeout_ms=20_000,
        **options,
    )


def _id(random: Random) -> bytes:
    return f"{PREFIX}{random.getrandbits(48):012x}".encode()


def _wav(random: Random) -> bytes:
    noise = np.frombuffer(random.randbytes(2 * RATE_HZ), np.int16) // 64
    file = io.BytesIO()
    soundfile.write(file, noise, RATE_HZ, format="WAV", subtype="PCM_16")
    return file.getvalue()


def _silence() -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros((60 * 4166, 8), np.int16), 4166, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def _bomb(codec: str) -> bytes:
    if codec == "gzip":
        file = io.BytesIO()
        with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=9) as packing:
            for _ in range(BOMB_BYTES // 1_000_000):
                packing.write(bytes(1_000_000))
        return file.getvalue()
    return _packed(bytes(BOMB_BYTES // 8), codec)  # these two take all of it at once


def _packed(data: bytes, codec: str) -> bytes:
    if codec == "none":
        return data
    if codec == "gzip":
        return gzip.compress(data)
    packers: dict[str, Callable[[bytes], Any]] = {
        "snappy": cramjam.snappy.compress_raw,
        "lz4": cramjam.lz4.compress,
        "zstd": cramjam.zstd.compress,
    }
    return bytes(packers[codec](data))


def _varint(number: int) -> bytes:
    out = bytearray()
    encode_varint(number, out.append)
    return bytes(out)
