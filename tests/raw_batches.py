"""Record batches made by hand, as no client would make them, and how they get to a broker."""

from __future__ import annotations

import gzip
import struct
import time
from collections.abc import Callable, Sequence
from typing import Any

import cramjam
from aiokafka import AIOKafkaProducer
from aiokafka.record.util import calc_crc32c, encode_varint

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
NOW_MS = 1_767_225_600_000

RawHeaders = Sequence[tuple[bytes | None, bytes | None]]


def varint(number: int) -> bytes:
    out = bytearray()
    encode_varint(number, out.append)
    return bytes(out)


def sized(part: bytes | None) -> bytes:
    return varint(-1) if part is None else varint(len(part)) + part


def raw_record(
    key: bytes | None, value: bytes | None, headers: RawHeaders = (), offset: int = 0, delta_ms: int = 0
) -> bytes:
    body = b"\0" + varint(delta_ms) + varint(offset) + sized(key) + sized(value) + varint(len(headers))
    body += b"".join(sized(name) + sized(raw) for name, raw in headers)
    return varint(len(body)) + body


def packed(raw: bytes, codec: str) -> bytes:
    if codec == "none":
        return raw
    if codec == "gzip":
        return gzip.compress(raw, 6)
    if codec == "snappy-raw":
        return bytes(cramjam.snappy.compress_raw(raw))
    if codec == "snappy":
        blocks = [bytes(cramjam.snappy.compress_raw(raw[at : at + 32_768])) for at in range(0, len(raw), 32_768)]
        return b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1) + b"".join(struct.pack(">i", len(b)) + b for b in blocks)
    if codec == "lz4":
        compressor = cramjam.lz4.Compressor(level=1, content_checksum=False, block_linked=False)
        compressor.compress(raw)
        return bytes(compressor.finish())
    return bytes(cramjam.zstd.compress(raw))


def raw_batch(
    records: bytes,
    count: int = 1,
    codec: str = "none",
    *,
    first: int = 0,
    delta: int | None = None,
    attributes: int = 0,
    producer: int = -1,
    ts_ms: int | None = None,
    magic: int = 2,
    crc: int | None = None,
    payload: bytes | None = None,
) -> bytes:
    """A batch of format 2; ``payload`` stands in for the packed records."""
    body = packed(records, codec) if payload is None else payload
    attributes |= CODECS[codec.partition("-")[0]]
    at_ms = NOW_MS if ts_ms is None else ts_ms
    last = count - 1 if delta is None else delta
    covered = struct.pack(">hiqqqhii", attributes, last, at_ms, at_ms, producer, -1, -1, count) + body
    found = calc_crc32c(covered) if crc is None else crc
    return struct.pack(">qiibI", first, 9 + len(covered), -1, magic, found) + covered


def bomb(codec: str, size: int) -> bytes:
    """A batch of one record whose value is ``size`` zeros, made without having them all at once."""
    head = b"\0" + varint(0) + varint(0) + sized(b"bomb") + varint(size)
    tail = varint(0)
    length = varint(len(head) + size + len(tail))
    zeros = bytes(1 << 20)
    pieces = [length + head, *[zeros] * (size >> 20), bytes(size & 0xFFFFF), tail]
    if codec == "snappy":
        blocks = [bytes(cramjam.snappy.compress_raw(piece)) for piece in pieces]
        payload = b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1)
        payload += b"".join(struct.pack(">i", len(block)) + block for block in blocks)
    else:
        kinds: dict[str, Callable[[], Any]] = {
            "gzip": lambda: cramjam.gzip.Compressor(6),
            "lz4": lambda: cramjam.lz4.Compressor(level=1, content_checksum=False, block_linked=False),
            "zstd": lambda: cramjam.zstd.Compressor(3),
        }
        compressor = kinds[codec]()
        for piece in pieces:
            compressor.compress(piece)
        payload = bytes(compressor.finish())
    return raw_batch(b"", 1, codec, payload=payload, ts_ms=time.time_ns() // 1_000_000)


async def send_raw(bootstrap: str, topic: str, partition: int, batch: bytes) -> int:
    """Have the broker store a batch; return its first offset."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", max_request_size=64 << 20, request_timeout_ms=30_000
    )
    await producer.start()
    try:
        await producer.partitions_for(topic)
        builder = producer.create_batch()
        builder.append(timestamp=None, key=b"x", value=b"x")
        builder.close()
        builder._buffer = bytearray(batch)
        stored = await (await producer.send_batch(builder, topic, partition=partition))
        return int(stored.offset)
    finally:
        await producer.stop()
