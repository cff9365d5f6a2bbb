"""Kafka's record batches as a fetch brings them: every record that can be read, and what can't be, with the reason.

A client's own reader raises at the first record that it can't make sense of, for as long as Kafka keeps that record,
and it unpacks whatever a few bytes say they hold. Here no bytes raise, no batch unpacks to more than
:data:`MAX_UNPACKED_BYTES`, and nothing is given memory because a header says how much it needs.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple
from zlib import crc32

import cramjam

try:
    from google_crc32c import value as crc32c
except ImportError:  # a gateway consumes nothing; this one takes ten times as long
    from aiokafka.record.util import calc_crc32c as crc32c  # type: ignore[no-redef]

MAX_UNPACKED_BYTES: Final = 16 * 1024 * 1024
MAX_RECORDS: Final = 10_000  # the most that librdkafka puts into a batch unless told otherwise
CODECS: Final = {0: "none", 1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}

_LENGTH = struct.Struct(">qi")  # base offset, bytes that follow
_V2 = struct.Struct(">qiibIhiqqqhii")
_V1 = struct.Struct(">qiIbbq")
_V0 = struct.Struct(">qiIbb")
_INT = struct.Struct(">i")
_MAGIC_AT = 16
_CRC_COVERS_FROM = 21  # of a batch of format 2
_CODEC, _LOG_APPEND_TIME, _TRANSACTIONAL, _CONTROL = 0x07, 0x08, 0x10, 0x20
_XERIAL, _XERIAL_HEADER_BYTES = b"\x82SNAPPY\0", 16
_SNAPPY_MOST_RATIO = 32  # three bytes stand for at most 64
_TAIL_BYTES = 32
_ABORT = 0
_MAX_INT64 = (1 << 63) - 1

Headers = tuple[tuple[str, bytes | None], ...]


class Record(NamedTuple):
    """One record that could be read."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_type: int


class UnreadableRange(NamedTuple):
    """Records that can't be read.

    Attributes:
        first, last: Their offsets.
        timestamp_ms: When they were stored or made, as far as that can be told; else -1.
        code: One of ``schemas.ERROR_CODES``.
        detail: What is wrong.
    """

    first: int
    last: int
    timestamp_ms: int
    code: str
    detail: str


class Batch(NamedTuple):
    """One batch of a fetch, whole, its contents not looked at yet.

    Attributes:
        data: What was fetched.
        start, end: Where the batch is in ``data``.
        first: Its first offset.
        magic: Its format.
    """

    data: bytes
    start: int
    end: int
    first: int
    magic: int


class Damaged(Exception):
    """Bytes that mean nothing; the message says why."""


class TooLarge(Exception):
    """Unpacked it is larger than it may be.

    Attributes:
        beginning: As much of it as was unpacked.
    """

    def __init__(self, beginning: bytes = b"") -> None:
        super().__init__(f"it unpacks to more than {MAX_UNPACKED_BYTES} bytes")
        self.beginning = beginning


class BatchReader:
    """Reads what a fetch brought of one partition.

    Args:
        data: The bytes.
        position: The offset that was asked for; what is before is passed over.
        aborted: Producers' ids, each with the first offset of a transaction that was aborted; None to read aborted
            transactions like others.
        end: The partition's end; nothing that a batch says goes beyond. None if it is not known.

    Attributes:
        end: As given.
        position: The offset to go on from, past all that was given out and all that holds no record for a reader.
        unpacked_bytes: What compressed batches have come to so far.
    """

    def __init__(
        self,
        data: bytes,
        position: int,
        aborted: Sequence[tuple[int, int]] | None = None,
        end: int | None = None,
    ) -> None:
        self._data = data
        self._asked = position
        self.end = end
        self._starts = None if aborted is None else sorted(aborted, key=lambda one: one[1])
        self._aborting: set[int] = set()
        self.position = position
        self.unpacked_bytes = 0

    def __iter__(self) -> Iterator[Record | UnreadableRange]:
        """Yield what the batches hold, in the order of the offsets."""
        start, data = 0, self._data
        while start < len(data):
            batch = _batch_at(data, start)
            if batch is None:  # a fetch may end within a batch, but holds at least one
                if start == 0:
                    yield from self._lost(self._nothing_whole())
                return
            yield from self._contents(batch)
            start = batch.end

    def _contents(self, batch: Batch) -> Iterator[Record | UnreadableRange]:
        """Yield what one batch holds, and move the position past it."""
        try:
            found = self._records(batch) if batch.magic == 2 else self._messages(batch)
            for one in found:
                if isinstance(one, UnreadableRange):
                    yield from self._lost(one)
                elif one.offset >= self.position:
                    self.position = one.offset + 1
                    yield one
        except Damaged as error:
            yield from self._lost(self._whole(batch, "batch_unreadable", str(error)))
        except TooLarge as error:
            yield from self._lost(self._whole(batch, "batch_too_large", str(error)))

    def _lost(self, lost: UnreadableRange) -> Iterator[UnreadableRange]:
        """Yield what can't be read, and move the position past it; what lies before the offset asked for was told."""
        if lost.last >= self._asked:
            self._pass(lost.last)
            yield lost._replace(first=min(max(lost.first, self._asked), lost.last))

    def _pass(self, last: int) -> None:
        if self.end is not None:
            last = min(last, self.end - 1)
        self.position = max(self.position, last + 1)

    def _nothing_whole(self) -> UnreadableRange:
        """Return what is wrong with a fetch that holds no whole batch; the offset asked for is passed over."""
        if len(self._data) < _LENGTH.size:
            return UnreadableRange(self.position, self.position, -1, "batch_unreadable", "no batch begins there")
        _, length = _LENGTH.unpack_from(self._data)
        detail = f"the batch says that it has {length} bytes, and {len(self._data) - _LENGTH.size} came"
        return self._whole(Batch(self._data, 0, len(self._data), *_head(self._data, 0)), "batch_unreadable", detail)

    def _whole(self, batch: Batch, code: str, detail: str) -> UnreadableRange:
        """Return a whole batch as unreadable: up to where it says it ends, if that can be so."""
        last, timestamp_ms = batch.first, -1
        if batch.magic == 2 and batch.end - batch.start >= _V2.size:
            fields = _V2.unpack_from(batch.data, batch.start)
            delta, timestamp_ms, count = fields[6], fields[8], fields[12]
            if _crc_fits(batch, fields[4]) or delta == count - 1:
                last += max(delta, 0)
        if (behind := _batch_at(batch.data, batch.end)) is not None and behind.first > batch.first:
            last = min(last, behind.first - 1) if batch.magic == 2 else behind.first - 1
        if self.end is not None:
            last = min(last, self.end - 1)
        last = max(last, self.position)
        return UnreadableRange(min(max(batch.first, self.position), last), last, timestamp_ms, code, detail)

    def _records(self, batch: Batch) -> Iterator[Record | UnreadableRange]:
        """Yield what a batch of format 2 holds."""
        about = _about(batch)
        if self._is_hidden(batch, about):
            self._pass(about.last)
            return
        if about.records < 0:
            raise Damaged(f"it says that it has {about.records} records")
        if about.records > MAX_RECORDS:
            detail = f"it says that it has {about.records} records; at most {MAX_RECORDS} are taken"
            yield self._whole(batch, "batch_too_many", detail)
            return
        data, at, end, cut = batch.data, batch.start + _V2.size, batch.end, None
        if about.codec:
            try:
                data = unpack(about.codec, memoryview(data)[at:end])
            except TooLarge as error:
                data, cut = error.beginning, error
            at, end = 0, len(data)
            self.unpacked_bytes += end
        yield from _read_records(about, data, at, end, cut)
        self._pass(about.last)

    def _is_hidden(self, batch: Batch, about: _About) -> bool:
        """Whether a batch is no reader's: a transaction's marker, or of a transaction that was aborted."""
        if self._starts is None:
            return about.control
        while self._starts and self._starts[0][1] <= batch.first:
            self._aborting.add(self._starts.pop(0)[0])
        if about.control:
            if _is_abort(batch):
                self._aborting.discard(about.producer)
            return True
        return about.transactional and about.producer in self._aborting

    def _messages(self, batch: Batch) -> Iterator[Record | UnreadableRange]:
        """Yield what a message of format 0 or 1 holds: itself, or those that are packed into it."""
        if batch.magic not in (0, 1):
            raise Damaged(f"it is of format {batch.magic}; known are 0, 1 and 2")
        message = _message(batch.data, batch.start, batch.end)
        if not message.codec:
            yield message.record
            return
        if message.codec == 4 or message.record.value is None:
            raise Damaged("a message of messages without any, or packed as its format does not know")
        data = unpack(message.codec, memoryview(message.record.value))
        self.unpacked_bytes += len(data)
        inner = _inner_messages(data)
        # Format 1 counts the offsets inside from 0; the message around has the last one's.
        shift = message.record.offset - inner[-1].offset if batch.magic else 0
        for one in inner:
            stamped = message.record if message.record.timestamp_type else one
            yield one._replace(
                offset=min(one.offset + shift, message.record.offset),
                timestamp_ms=stamped.timestamp_ms,
                timestamp_type=message.record.timestamp_type,
            )


class _About(NamedTuple):
    """What a batch of format 2 says of itself."""

    first: int
    last: int
    codec: int
    control: bool
    transactional: bool
    producer: int
    first_ms: int
    append_ms: int | None
    records: int


class _Message(NamedTuple):
    codec: int
    record: Record


def unpack(codec: int, packed: memoryview) -> bytes:
    """Return a batch's records, unpacked.

    Args:
        codec: Kafka's number of it.
        packed: What came.

    Raises:
        Damaged: There is no such codec, or it can't be unpacked.
        TooLarge: It holds more than :data:`MAX_UNPACKED_BYTES`; the exception has what fits.
    """
    if codec == 2:
        return _unpack_snappy(bytes(packed))
    into = {1: cramjam.gzip.decompress_into, 3: cramjam.lz4.decompress_into, 4: cramjam.zstd.decompress_into}.get(codec)
    if into is None:
        raise Damaged(f"it is packed by codec {codec}; Kafka's are 0 to 4")
    # Memory that is not written to is none, so this costs what comes out of it, whatever a header says.
    room = bytearray(MAX_UNPACKED_BYTES + _TAIL_BYTES)
    tail = os.urandom(_TAIL_BYTES)
    room[MAX_UNPACKED_BYTES:] = tail
    try:
        size = into(bytes(packed), room)
    except Exception as error:  # whatever the library makes of foreign bytes
        if room[MAX_UNPACKED_BYTES:] != tail:
            raise TooLarge(bytes(memoryview(room)[:MAX_UNPACKED_BYTES])) from None
        raise Damaged(f"its {CODECS[codec]} can't be unpacked: {str(error)[:200]}") from None
    if size > MAX_UNPACKED_BYTES:
        raise TooLarge(bytes(memoryview(room)[:MAX_UNPACKED_BYTES]))
    return bytes(memoryview(room)[:size])


def _unpack_snappy(packed: bytes) -> bytes:
    if not packed.startswith(_XERIAL):
        return _snappy_block(packed, MAX_UNPACKED_BYTES)
    blocks, size, at = [], 0, _XERIAL_HEADER_BYTES
    while at < len(packed):
        if at + _INT.size > len(packed):
            raise Damaged("its snappy ends within a block's length")
        (length,) = _INT.unpack_from(packed, at)
        at += _INT.size
        if not 0 <= length <= len(packed) - at:
            raise Damaged(f"a block of its snappy says that it has {length} bytes, and {len(packed) - at} are left")
        try:
            blocks.append(_snappy_block(packed[at : at + length], MAX_UNPACKED_BYTES - size))
        except TooLarge:
            raise TooLarge(b"".join(blocks)) from None
        size += len(blocks[-1])
        at += length
    return b"".join(blocks)


def _snappy_block(packed: bytes, room: int) -> bytes:
    try:
        size = cramjam.snappy.decompress_raw_len(packed)
        if size > _SNAPPY_MOST_RATIO * len(packed):
            raise Damaged(f"its snappy says that {len(packed)} bytes hold {size}, which can't be")
        if size > room:
            raise TooLarge
        return bytes(cramjam.snappy.decompress_raw(packed)) if size else b""
    except (Damaged, TooLarge):
        raise
    except Exception as error:  # whatever the library makes of foreign bytes
        raise Damaged(f"its snappy can't be unpacked: {str(error)[:200]}") from None


def _head(data: bytes, start: int) -> tuple[int, int]:
    first, _ = _LENGTH.unpack_from(data, start)
    return first, data[start + _MAGIC_AT] if start + _MAGIC_AT < len(data) else -1


def _batch_at(data: bytes, start: int) -> Batch | None:
    """Return the batch that begins there, or None if it has not come whole."""
    if start + _LENGTH.size > len(data):
        return None
    _, length = _LENGTH.unpack_from(data, start)
    end = start + _LENGTH.size + length
    if length < _V0.size - _LENGTH.size or end > len(data):
        return None
    return Batch(data, start, end, *_head(data, start))


def _crc_fits(batch: Batch, crc: int) -> bool:
    return bool(crc32c(batch.data[batch.start + _CRC_COVERS_FROM : batch.end]) == crc)


def _about(batch: Batch) -> _About:
    if batch.end - batch.start < _V2.size:
        raise Damaged(f"it has {batch.end - batch.start} bytes; its head alone has {_V2.size}")
    fields = _V2.unpack_from(batch.data, batch.start)
    crc, attributes, delta, first_ms, max_ms, producer, count = *fields[4:10], fields[12]
    if not _crc_fits(batch, crc):
        raise Damaged("its checksum is wrong")
    if delta < 0:
        raise Damaged(f"its last offset is {-delta} before its first")
    return _About(
        first=batch.first,
        last=batch.first + delta,
        codec=attributes & _CODEC,
        control=bool(attributes & _CONTROL),
        transactional=bool(attributes & _TRANSACTIONAL),
        producer=producer,
        first_ms=first_ms,
        append_ms=max_ms if attributes & _LOG_APPEND_TIME else None,
        records=count,
    )


def _is_abort(batch: Batch) -> bool:
    """Whether a transaction's marker says that it was aborted."""
    try:
        at = batch.start + _V2.size
        length, at = _varint(batch.data, at)
        record = _record(_about(batch), batch.data, at, min(at + length, batch.end))
        return record.key is not None and struct.unpack_from(">hh", record.key)[1] == _ABORT
    except (Damaged, IndexError, struct.error):
        return False


def _read_records(
    about: _About, data: bytes, at: int, end: int, cut: TooLarge | None
) -> Iterator[Record | UnreadableRange]:
    """Yield the records of a batch; ``cut`` if only its beginning is there."""
    expected, taken = about.first, 0
    stamp_ms = about.first_ms if about.append_ms is None else about.append_ms
    wrong = None
    while taken < about.records and at < end and wrong is None:
        stop, start = at, at
        try:
            length, start = _varint(data, at)
            stop = start + length
            if length < 1 or stop > end:
                wrong = (
                    f"record {taken + 1} of {about.records} says that it has {length} bytes, and {end - start} are left"
                )
                continue
            record = _record(about, data, start, stop)
            if not expected <= record.offset <= about.last:
                wrong = f"record {taken + 1} of {about.records} says that it has offset {record.offset}, out of order"
                continue
            yield record
            expected = record.offset + 1
        except (Damaged, IndexError) as error:
            if stop == at:
                wrong = f"record {taken + 1} of {about.records} has no length"
                continue
            yield UnreadableRange(
                expected, expected, stamp_ms, "record_unreadable", str(error) or "the record ends too early"
            )
            expected += 1
        at = stop
        taken += 1
    if wrong is None and taken < about.records and expected <= about.last:
        wrong = f"it says that it has {about.records} records, and holds {taken}"
    if wrong is None and at < end:
        wrong = f"{end - at} bytes follow its last record"
    if cut is not None:
        yield UnreadableRange(min(expected, about.last), about.last, stamp_ms, "batch_too_large", str(cut))
    elif wrong is not None:
        yield UnreadableRange(min(expected, about.last), about.last, stamp_ms, "batch_unreadable", wrong)


def _record(about: _About, data: bytes, at: int, stop: int) -> Record:
    """Return the record that takes ``data[at:stop]``."""
    delta_ms, at = _varint(data, at + 1)
    delta, at = _varint(data, at)
    key, at = _bytes(data, at, stop)
    value, at = _bytes(data, at, stop)
    count, at = _varint(data, at)
    headers: Headers = ()
    if count:
        if not 0 < count <= (stop - at) // 2:
            raise Damaged(f"a record says that it has {count} headers, and {max(stop - at, 0)} bytes are left")
        headers, at = _headers(data, at, stop, count)
    if at != stop:
        raise Damaged(f"a record's parts come to {at - stop:+d} bytes of what it says it has")
    if about.append_ms is not None:
        return Record(about.first + delta, about.append_ms, key, value, headers, 1)
    timestamp_ms = min(max(about.first_ms + delta_ms, -_MAX_INT64), _MAX_INT64)
    return Record(about.first + delta, timestamp_ms, key, value, headers, 0)


def _headers(data: bytes, at: int, stop: int, count: int) -> tuple[Headers, int]:
    found: list[tuple[str, bytes | None]] = []
    for _ in range(count):
        # Lengths of one byte are read here: this is most of what reading a record costs.
        byte = data[at]
        if byte & 0x81 or (end := at + 1 + (byte >> 1)) > stop:
            name, at = _bytes(data, at, stop)
        else:
            name, at = data[at + 1 : end], end
        byte = data[at]
        if byte & 0x81 or (end := at + 1 + (byte >> 1)) > stop:
            raw, at = _bytes(data, at, stop)
        else:
            raw, at = data[at + 1 : end], end
        found.append(((name or b"").decode("utf-8", "replace"), raw))
    return tuple(found), at


def _bytes(data: bytes, at: int, stop: int) -> tuple[bytes | None, int]:
    length, at = _varint(data, at)
    if length < 0:
        return None, at
    end = at + length
    if end > stop:
        raise Damaged(f"a part of a record says that it has {length} bytes, and {max(stop - at, 0)} are left")
    return data[at:end], end


def _varint(data: bytes, at: int) -> tuple[int, int]:
    byte = data[at]
    at += 1
    if byte < 0x80:
        return (byte >> 1) ^ -(byte & 1), at
    number, shift = byte & 0x7F, 7
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), at
        shift += 7
        if shift > 63:
            raise Damaged("a number of more than 64 bits")


def _message(data: bytes, start: int, end: int) -> _Message:
    """Return the message of format 0 or 1 that takes ``data[start:end]``."""
    magic = data[start + _MAGIC_AT]
    head = _V1 if magic else _V0
    if magic > 1 or start + head.size > end:
        raise Damaged(f"a message of format {magic} in {end - start} bytes")
    offset, _, crc, _, attributes, *stamp = head.unpack_from(data, start)
    if crc32(memoryview(data)[start + _MAGIC_AT : end]) != crc:
        raise Damaged("its checksum is wrong")
    at, parts = start + head.size, []
    for _ in range(2):
        if at + _INT.size > end:
            raise Damaged("a message ends too early")
        (length,) = _INT.unpack_from(data, at)
        at += _INT.size
        if length > end - at:
            raise Damaged(f"a part of a message says that it has {length} bytes, and {end - at} are left")
        parts.append(None if length < 0 else data[at : at + length])
        at += max(length, 0)
    kind = 1 if magic and attributes & _LOG_APPEND_TIME else 0
    return _Message(attributes & _CODEC, Record(offset, stamp[0] if stamp else -1, parts[0], parts[1], (), kind))


def _inner_messages(data: bytes) -> list[Record]:
    found: list[Record] = []
    at = 0
    while at < len(data):
        batch = _batch_at(data, at)
        if batch is None or len(found) == MAX_RECORDS:
            raise Damaged(f"the messages in it can't be told apart, or are more than {MAX_RECORDS}")
        message = _message(data, at, batch.end)
        if message.codec:
            raise Damaged("a message of messages within another")
        found.append(message.record)
        at = batch.end
    if not found:
        raise Damaged("a message of messages without any")
    return found
