"""A proxy before the embedded broker, for what that lacks of Kafka's protocol.

Clients of every kind expect of a broker what Apache Kafka does. The embedded one differs, and each difference costs
somebody: a client that can't connect, a group that waits for half a minute, records that are never read. Each is set
right here, for all clients alike:

- ``ApiVersions`` comes with tagged fields that say nothing, which librdkafka up to 2.2 can't read (Debian's kcat), and
  versions of it that are not known are answered all the same. The answer is made anew, as Kafka makes it, and offers no
  later version of a request than what is understood here.
- ``InitProducerId`` is answered from version 3 on only, so that idempotent producers that ask by an earlier one fail.
- A ``Produce`` that wants no acknowledgement is answered, which shifts all later answers of that connection by one.
- Of two ``Produce`` to one partition at once the later record may be there before the earlier one; a reader passes it
  for ever. They go one after the other.
- A ``Fetch`` from within a batch of several records leaves out the rest of that batch, as after a commit there. It is
  moved back to the batch's first record, as Kafka does; clients skip what they didn't ask for.
- ``ListOffsets`` takes the last batch for one record when it is asked for the end, and answers 0 where no record is as
  late as a given time.
- ``JoinGroup`` before version 4 is answered with an error that only later ones know: come again with this member's id.
- ``JoinGroup`` lasts half the session timeout, 22 s with common clients. The timeout is at most that of 6 s here.

Requests of one connection are handled one after the other, as in Kafka. It runs as a program of its own and imports
nothing of Whirr.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import sys
from bisect import bisect_right
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

HOST: Final = "127.0.0.1"
LONGEST_SESSION_MS: Final = 6_000  # twice the interval between two heartbeats of most clients
MAX_FRAME_BYTES: Final = 128 * 1024 * 1024  # Kafka's own limit is 100 MiB

PRODUCE, FETCH, LIST_OFFSETS, JOIN_GROUP, API_VERSIONS, INIT_PRODUCER_ID = 0, 1, 2, 11, 18, 22
# The last version of each whose fields stand at fixed places: later ones are "flexible".
LAST_VERSION: Final = {PRODUCE: 8, FETCH: 11, LIST_OFFSETS: 5, JOIN_GROUP: 5, API_VERSIONS: 4, INIT_PRODUCER_ID: 1}

_UNSUPPORTED_VERSION: Final = 35
_MEMBER_ID_REQUIRED: Final = 79
_LATEST: Final = -1
_BEYOND: Final = 1 << 62
_WAIT_MS: Final = 1  # a fetch that does not wait is answered with nothing, not even of what is there

Place = tuple[bytes, int]
"""A topic's name and the number of a partition."""


class Cursor:
    """Reads a message's fields one after the other; ``struct.error`` or ``ValueError`` where it ends too early."""

    def __init__(self, data: bytes | bytearray, at: int = 0) -> None:
        self.data, self.at = data, at

    def int8(self) -> int:
        """Return the next byte as a number."""
        return self._take(">b", 1)

    def int16(self) -> int:
        """Return the number in the next 2 bytes."""
        return self._take(">h", 2)

    def int32(self) -> int:
        """Return the number in the next 4 bytes."""
        return self._take(">i", 4)

    def int64(self) -> int:
        """Return the number in the next 8 bytes."""
        return self._take(">q", 8)

    def bytes_(self, length: int) -> bytes:
        """Return as many bytes; those of a length below 0, which is how null is written, are none."""
        start, self.at = self.at, self.at + max(length, 0)
        if self.at > len(self.data):
            raise ValueError(f"the message ends at {len(self.data)}, a field at {self.at}")
        return bytes(self.data[start : self.at])

    def string(self) -> bytes:
        """Return the next text, which may be null, as bytes."""
        return self.bytes_(self.int16())

    def skip(self, length: int) -> None:
        """Leave out as many bytes."""
        self.at += max(length, 0)

    def count(self) -> range:
        """Return what counts the elements of the next array; none for null."""
        return range(max(self.int32(), 0))

    def _take(self, code: str, length: int) -> int:
        (value,) = struct.unpack_from(code, self.data, self.at)
        self.at += length
        return int(value)


def body(request: bytes | bytearray) -> Cursor:
    """Return a cursor at the body of a request: after key, version, correlation id and the client's name."""
    cursor = Cursor(request, 8)
    cursor.string()
    return cursor


@dataclass
class Batches:
    """Where batches of several records begin and end, by partition: a fetch from within one begins at its start."""

    _starts: dict[Place, list[int]] = field(default_factory=dict)
    _ends: dict[Place, list[int]] = field(default_factory=dict)

    def appended(self, place: Place, start: int, records: int) -> None:
        """Remember a batch that is now in the log."""
        starts, ends = self._starts.setdefault(place, []), self._ends.setdefault(place, [])
        if ends and start < ends[-1]:  # the topic was made anew
            starts.clear()
            ends.clear()
        if records > 1:
            starts.append(start)
            ends.append(start + records)

    def start_of(self, place: Place, offset: int) -> int:
        """Return the offset of the first record of the batch that ``offset`` is in."""
        starts = self._starts.get(place, [])
        index = bisect_right(starts, offset) - 1
        return starts[index] if index >= 0 and offset < self._ends[place][index] else offset


@dataclass
class Shared:
    """What all connections have in common."""

    port: int
    batches: Batches = field(default_factory=Batches)
    one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)


class Connection:
    """One client's connection, and one of its own to the broker."""

    def __init__(self, shared: Shared, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._shared, self._reader, self._writer = shared, reader, writer
        self._handlers: dict[int, Callable[[bytes, int], Awaitable[bytes | None]]] = {
            PRODUCE: self._produce,
            FETCH: self._fetch,
            LIST_OFFSETS: self._list_offsets,
            JOIN_GROUP: self._join_group,
            INIT_PRODUCER_ID: self._init_producer_id,
        }

    async def ask(self, request: bytes | bytearray) -> bytes:
        """Return the broker's answer to a request."""
        self._writer.write(struct.pack(">i", len(request)))
        self._writer.write(request)
        await self._writer.drain()
        answer = await read_frame(self._reader)
        if answer is None:
            raise ConnectionError("the embedded broker closed the connection")
        return answer

    async def answer(self, request: bytes) -> bytes | None:
        """Return the answer to a client's request; None where it wants none."""
        key, version, _ = struct.unpack_from(">hhi", request)
        if key == API_VERSIONS:
            return await self._api_versions(request, version)
        if version > LAST_VERSION.get(key, -1):  # of no concern here, or by a client that did not ask for versions
            return await self.ask(request)
        return await self._handlers[key](request, version)

    async def _fetch(self, request: bytes, version: int) -> bytes:
        return await self.ask(from_batch_starts(request, version, self._shared.batches))

    async def _init_producer_id(self, request: bytes, _version: int) -> bytes:
        return as_first_version(await self.ask(as_fourth_version(request)))

    async def _api_versions(self, request: bytes, version: int) -> bytes:
        correlation = request[4:8]
        answer = await self.ask(struct.pack(">hh", API_VERSIONS, 0) + correlation + struct.pack(">h", -1))
        return api_versions_answer(answer, version)

    async def _produce(self, request: bytes, version: int) -> bytes | None:
        wants_answer, records = batches_in(request, version)
        async with self._shared.one_at_a_time:
            answer = await self.ask(request)
        for place, start in appended_at(answer, version):
            self._shared.batches.appended(place, start, records.get(place, 1))
        return answer if wants_answer else None

    async def _join_group(self, request: bytes, version: int) -> bytes:
        request = with_short_session(request)
        answer = await self.ask(request)
        if version < 4 and (given := member_id_to_use(answer, version)):
            return await self.ask(with_member_id(request, version, given))
        return answer

    async def _list_offsets(self, request: bytes, version: int) -> bytes:
        answer = await self.ask(request)
        committed_only, times = times_asked_for(request, version)
        latest = [place for place, time_ms in times.items() if time_ms == _LATEST]
        ends = ends_in(await self.ask(ends_request(latest, committed_only)), committed_only) if latest else {}
        return with_offsets(answer, version, times, ends)


def api_versions_answer(answer: bytes, version: int) -> bytes:
    """Return the answer to ``ApiVersions`` of any version from the broker's one of version 0."""
    cursor = Cursor(answer, 4)
    error = cursor.int16()
    known = [(cursor.int16(), cursor.int16(), cursor.int16()) for _ in cursor.count()]
    apis = [(key, first, min(last, LAST_VERSION.get(key, last))) for key, first, last in known]
    if not 0 <= version <= LAST_VERSION[API_VERSIONS]:
        error, version = _UNSUPPORTED_VERSION, 0  # a client then asks again, by a version of the list (KIP-511)
    flexible = version >= 3
    parts = [answer[:4], struct.pack(">h", error)]
    parts.append(bytes([len(apis) + 1]) if flexible else struct.pack(">i", len(apis)))  # fewer than 127
    parts += [struct.pack(">hhh", *api) + (b"\0" if flexible else b"") for api in apis]
    if version >= 1:
        parts.append(struct.pack(">i", 0))
    return b"".join([*parts, b"\0" if flexible else b""])


def batches_in(request: bytes, version: int) -> tuple[bool, dict[Place, int]]:
    """Return whether a ``Produce`` wants an answer, and how many records it has for each partition."""
    cursor = body(request)
    if version >= 3:
        cursor.string()
    acks = cursor.int16()
    cursor.int32()
    records: dict[Place, int] = {}
    for _ in cursor.count():
        topic = cursor.string()
        for _ in cursor.count():
            partition, length = cursor.int32(), cursor.int32()
            if length >= _BATCH.size:
                *_, form, _checksum, _attributes, last = _BATCH.unpack_from(request, cursor.at)
                records[topic, partition] = last + 1 if form == 2 else 1
            cursor.skip(length)
    return acks != 0, records


# Of a batch: first offset, length, leader epoch, format, checksum, attributes, and how far its last record is.
_BATCH = struct.Struct(">qiibIhi")


def appended_at(answer: bytes, version: int) -> list[tuple[Place, int]]:
    """Return where a ``Produce`` was written to, from its answer."""
    cursor = Cursor(answer, 4)
    found = []
    for _ in cursor.count():
        topic = cursor.string()
        for _ in cursor.count():
            partition, error, start = cursor.int32(), cursor.int16(), cursor.int64()
            if error == 0:
                found.append(((topic, partition), start))
            cursor.skip((8 if version >= 2 else 0) + (8 if version >= 5 else 0))
            if version >= 8:
                for _ in cursor.count():
                    cursor.int32()
                    cursor.string()
                cursor.string()
    return found


def from_batch_starts(request: bytes, version: int, batches: Batches) -> bytes | bytearray:
    """Return a ``Fetch`` with each offset that is within a batch moved to the batch's start."""
    changed = bytearray(request)
    cursor = body(request)
    cursor.int32()
    at, wait_ms = cursor.at, cursor.int32()
    struct.pack_into(">i", changed, at, max(wait_ms, _WAIT_MS))
    cursor.skip(4 + (4 if version >= 3 else 0) + (1 if version >= 4 else 0) + (8 if version >= 7 else 0))
    for _ in cursor.count():
        topic = cursor.string()
        for _ in cursor.count():
            partition = cursor.int32()
            cursor.skip(4 if version >= 9 else 0)
            at, offset = cursor.at, cursor.int64()
            struct.pack_into(">q", changed, at, batches.start_of((topic, partition), offset))
            cursor.skip((8 if version >= 5 else 0) + 4)
    return changed


def times_asked_for(request: bytes, version: int) -> tuple[bool, dict[Place, int]]:
    """Return whether a ``ListOffsets`` leaves open transactions out, and each partition's time (-1 the end)."""
    cursor = body(request)
    cursor.int32()
    committed_only = bool(cursor.int8()) if version >= 2 else False
    times: dict[Place, int] = {}
    for _ in cursor.count():
        topic = cursor.string()
        for _ in cursor.count():
            partition = cursor.int32()
            cursor.skip(4 if version >= 4 else 0)
            times[topic, partition] = cursor.int64()
            cursor.skip(4 if version == 0 else 0)
    return committed_only, times


def ends_request(places: list[Place], committed_only: bool) -> bytes:
    """Return a ``Fetch`` (version 4) that reads nothing: its answer says where partitions end."""
    head = struct.pack(">hhihiiiibi", FETCH, 4, 0, -1, -1, _WAIT_MS, 0, 1, committed_only, len(places))
    parts = [
        struct.pack(">h", len(topic)) + topic + struct.pack(">iiqi", 1, partition, _BEYOND, 1)
        for topic, partition in places
    ]
    return head + b"".join(parts)


def ends_in(answer: bytes, committed_only: bool) -> dict[Place, int]:
    """Return the offset after the last record of each partition, from the answer to :func:`ends_request`."""
    cursor = Cursor(answer, 8)
    ends: dict[Place, int] = {}
    for _ in cursor.count():
        topic = cursor.string()
        for _ in cursor.count():
            partition, error, end, stable = cursor.int32(), cursor.int16(), cursor.int64(), cursor.int64()
            if error == 0:
                ends[topic, partition] = stable if committed_only else end
            cursor.skip(16 * len(cursor.count()))
            cursor.skip(cursor.int32())
    return ends


def with_offsets(answer: bytes, version: int, times: dict[Place, int], ends: dict[Place, int]) -> bytes:
    """Return the answer to a ``ListOffsets`` with the right ends, and -1 where no record is as late as was asked."""
    if version == 0:
        return answer
    changed = bytearray(answer)
    cursor = Cursor(answer, 8 if version >= 2 else 4)
    for _ in cursor.count():
        topic = cursor.string()
        for _ in cursor.count():
            place = topic, cursor.int32()
            error, found_ms, at = cursor.int16(), cursor.int64(), cursor.at
            cursor.skip(8 + (4 if version >= 4 else 0))
            if error == 0 and place in ends:
                struct.pack_into(">q", changed, at, ends[place])
            elif error == 0 and times.get(place, _LATEST) >= 0 and found_ms < 0:
                struct.pack_into(">q", changed, at, -1)
    return bytes(changed)


def with_short_session(request: bytes) -> bytes:
    """Return a ``JoinGroup`` whose session timeout is at most ``LONGEST_SESSION_MS``."""
    changed = bytearray(request)
    cursor = body(request)
    cursor.string()
    at, session_ms = cursor.at, cursor.int32()
    struct.pack_into(">i", changed, at, min(session_ms, LONGEST_SESSION_MS))
    return bytes(changed)


def member_id_to_use(answer: bytes, version: int) -> bytes:
    """Return the member's id that the answer to a ``JoinGroup`` wants it sent again with; empty where it wants none."""
    cursor = Cursor(answer, 8 if version >= 2 else 4)
    error = cursor.int16()
    cursor.int32()
    cursor.string()
    cursor.string()
    return cursor.string() if error == _MEMBER_ID_REQUIRED else b""


def with_member_id(request: bytes, version: int, member_id: bytes) -> bytes:
    """Return a ``JoinGroup`` with this member's id."""
    cursor = body(request)
    cursor.string()
    cursor.skip(8 if version >= 1 else 4)
    before = request[: cursor.at]
    cursor.string()
    return before + struct.pack(">h", len(member_id)) + member_id + request[cursor.at :]


def as_fourth_version(request: bytes) -> bytes:
    """Return an ``InitProducerId`` of version 0 or 1 as one of version 4."""
    cursor = body(request)
    head = struct.pack(">hh", INIT_PRODUCER_ID, 4) + request[4 : cursor.at] + b"\0"
    length = cursor.int16()
    transactional_id = cursor.bytes_(length)
    compact = b"\0" if length < 0 else unsigned_varint(length + 1) + transactional_id
    return head + compact + struct.pack(">iqhb", cursor.int32(), -1, -1, 0)


def as_first_version(answer: bytes) -> bytes:
    """Return the answer to :func:`as_fourth_version` as version 0 and 1 have it: without tags."""
    return answer[:4] + answer[5:21]


def unsigned_varint(value: int) -> bytes:
    """Return a number as the lengths of flexible versions are written."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


async def read_frame(reader: asyncio.StreamReader) -> bytes | None:
    """Return the next message without its length; None at the end, or where what comes is none of Kafka's."""
    try:
        (length,) = struct.unpack(">i", await reader.readexactly(4))
        return await reader.readexactly(length) if 4 <= length <= MAX_FRAME_BYTES else None
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


async def serve_client(shared: Shared, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one client until it, or the broker, closes the connection or sends what is no message."""
    # A message that can't be read ends the connection, as with Kafka.
    with contextlib.closing(writer), contextlib.suppress(OSError, struct.error, ValueError):
        upstream_reader, upstream_writer = await asyncio.open_connection(HOST, shared.port)
        with contextlib.closing(upstream_writer):
            connection = Connection(shared, upstream_reader, upstream_writer)
            while (request := await read_frame(reader)) is not None:
                if (answer := await connection.answer(request)) is not None:
                    writer.write(struct.pack(">i", len(answer)))
                    writer.write(answer)
                    await writer.drain()


async def serve(port: int, upstream_port: int) -> None:
    """Listen on ``port`` of this machine's own addresses for clients of the broker on ``upstream_port``."""
    shared = Shared(upstream_port)

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve_client(shared, reader, writer)

    server = await asyncio.start_server(client, HOST, port)
    async with contextlib.AsyncExitStack() as stack:
        with contextlib.suppress(OSError):  # "localhost" may mean this one first; a machine may not have it
            await stack.enter_async_context(await asyncio.start_server(client, "::1", port))
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
