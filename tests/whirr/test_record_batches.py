"""No bytes of a batch raise, or take memory beyond the limit; what can't be read is told, and no more than that."""

from __future__ import annotations

import resource
import struct
import subprocess
import sys
import tracemalloc
from itertools import pairwise
from zlib import crc32

import cramjam
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from schemas import ERROR_CODES
from tests.raw_batches import NOW_MS, bomb, packed, raw_batch, raw_record, sized, varint
from whirr.record_batches import MAX_RECORDS, MAX_UNPACKED_BYTES, BatchReader, Record, UnreadableRange

HEADERS = (("ce_time", b"2026-01-01T00:00:00Z"), ("site", None), ("", b""))
ALL = ["none", "gzip", "snappy", "snappy-raw", "lz4", "zstd"]


def read(data: bytes, position: int = 0, **options: object) -> tuple[list[Record | UnreadableRange], int]:
    reader = BatchReader(data, position, **options)  # type: ignore[arg-type]
    return list(reader), reader.position


def records(count: int, size: int = 100) -> bytes:
    return b"".join(raw_record(b"pump-%d" % at, bytes([at]) * size, (), at) for at in range(count))


def lost(data: bytes, position: int = 0, **options: object) -> UnreadableRange:
    (only,), _ = read(data, position, **options)
    assert isinstance(only, UnreadableRange)
    assert only.code in ERROR_CODES
    return only


@pytest.mark.parametrize("codec", ALL)
def test_every_codec(codec: str) -> None:
    found, position = read(raw_batch(records(50, 2000), 50, codec, first=7))
    assert [one.offset for one in found if isinstance(one, Record)] == list(range(7, 57))
    assert [one.value for one in found if isinstance(one, Record)] == [bytes([at]) * 2000 for at in range(50)]
    assert position == 57


@pytest.mark.parametrize("codec", [0, 1, 2, 3, 4])
def test_what_the_usual_client_writes(codec: int) -> None:
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 20)
    for at in range(3):
        builder.append(at, NOW_MS + at, b"pump", b"x" * 300 * at, list(HEADERS))
    found, _ = read(bytes(builder.build()))
    assert found == [Record(at, NOW_MS + at, b"pump", b"x" * 300 * at, HEADERS, 0) for at in range(3)]


def test_formats_of_old() -> None:
    for magic, codec in ((0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (1, 3)):
        builder = LegacyRecordBatchBuilder(magic, codec, 1 << 20)
        for at in range(3):
            builder.append(at, NOW_MS + at, b"pump", b"x" * 99)
        built = bytearray(builder.build())
        if codec:
            built[:8] = struct.pack(">q", 2)  # as a broker does: the last one's offset
        found, position = read(bytes(built))
        assert [(one.offset, one.key, one.value) for one in found if isinstance(one, Record)] == [
            (at, b"pump", b"x" * 99) for at in range(3)
        ], (magic, codec)
        assert position == 3
    message = struct.pack(">bbq", 1, 4, NOW_MS) + sized_int(None) + sized_int(b"x")
    wrapped = struct.pack(">qiI", 4, 4 + len(message), crc32(message)) + message
    assert lost(wrapped).code == "batch_unreadable"


def sized_int(part: bytes | None) -> bytes:
    return struct.pack(">i", -1) if part is None else struct.pack(">i", len(part)) + part


def test_header_names_that_are_no_text_are_used_with_replacement() -> None:
    (one,), _ = read(raw_batch(raw_record(b"pump", b"v", [(b"\xff\xfe", b"x"), (b"", None), (None, b"y")])))
    assert isinstance(one, Record)
    assert one.headers == (("��", b"x"), ("", None), ("", b"y"))


def test_one_damaged_record_costs_only_itself() -> None:
    bad_headers = b"\0" + varint(0) + varint(1) + sized(b"k") + sized(b"v") + varint(1_000_000)
    too_long_key = b"\0" + varint(0) + varint(1) + varint(99) + b"k"
    too_short = b"\0" + varint(0) + varint(1) + sized(b"k") + sized(b"v") + varint(0) + b"more"
    huge_number = b"\0" + b"\xff" * 11
    negative = b"\0" + varint(0) + varint(1) + sized(b"k") + sized(b"v") + varint(-3)
    for body in (bad_headers, too_long_key, too_short, huge_number, negative, b"\0"):
        data = raw_record(b"a", b"1") + varint(len(body)) + body + raw_record(b"c", b"3", (), 2)
        for codec in ("none", "zstd"):
            found, position = read(raw_batch(data, 3, codec, first=10))
            assert [type(one) for one in found] == [Record, UnreadableRange, Record], body
            assert found[1][:2] == (11, 11)
            assert found[1].code == "record_unreadable"  # type: ignore[union-attr]
            assert position == 13


def test_batches_that_can_t_be_read_at_all() -> None:
    good = raw_batch(records(2), 2, first=12)
    cases = {
        "checksum": raw_batch(records(2), 2, first=10, crc=1),
        "codec 7": raw_batch(records(2), 2, first=10, attributes=7),
        "codec 5": raw_batch(records(2), 2, first=10, attributes=5),
        "format 9": raw_batch(records(2), 2, first=10, magic=9),
        "format 255": raw_batch(records(2), 2, first=10, magic=-1),
        "gzip": raw_batch(b"", 2, "gzip", first=10, payload=b"no gzip"),
        "snappy": raw_batch(b"", 2, "snappy", first=10, payload=b"\xff\xff\xff\xff\x0f"),
        "block": raw_batch(b"", 2, "snappy", first=10, payload=packed(b"x" * 9, "snappy")[:16] + b"\xff\xff\xff\xff"),
        "lz4": raw_batch(b"", 2, "lz4", first=10, payload=packed(b"x" * 999, "lz4")[:-9]),
        "zstd": raw_batch(b"", 2, "zstd", first=10, payload=b""),
    }
    for what, batch in cases.items():
        found, position = read(batch + good, 10)
        assert isinstance(found[0], UnreadableRange), what
        assert found[0][:2] == (10, 11), what
        assert found[0].code == "batch_unreadable"
        assert [one.offset for one in found[1:] if isinstance(one, Record)] == [12, 13], what
        assert position == 14
        assert read(batch)[1] >= 11, "alone it is passed, too"


@pytest.mark.parametrize("codec", ["none", "gzip"])
def test_counts_that_lie(codec: str) -> None:
    found, position = read(raw_batch(records(3), 5, codec))
    assert [one[0] for one in found] == [0, 1, 2, 3]
    assert found[3][:2] == (3, 4)
    assert position == 5
    found, position = read(raw_batch(records(3), 2, codec))
    assert [type(one) for one in found] == [Record, Record, UnreadableRange]
    assert position == 2
    assert lost(raw_batch(records(3), -1, codec, delta=2))[:4:3] == (0, "batch_unreadable")
    assert lost(raw_batch(records(3), 3, codec, delta=-7)).code == "batch_unreadable"
    found, position = read(raw_batch(records(3), 3, codec, delta=2_000_000_000), end=40)
    assert [one[0] for one in found] == [0, 1, 2]
    assert position == 40, "nothing is beyond the partition's end"
    found, _ = read(raw_batch(raw_record(b"a", b"1", (), 1) + raw_record(b"b", b"2", (), 0), 2, codec))
    assert [type(one) for one in found] == [Record, UnreadableRange]


def test_compaction_leaves_gaps_and_they_are_none_of_ours() -> None:
    data = raw_record(b"a", b"1", (), 3) + raw_record(b"b", b"2", (), 7)
    found, position = read(raw_batch(data, 2, first=100, delta=19))
    assert [one[0] for one in found] == [103, 107]
    assert position == 120
    assert read(raw_batch(b"", 0, first=100, delta=19)) == ([], 120)


def test_reading_begins_and_ends_where_the_fetch_does() -> None:
    data = raw_batch(records(5), 5) + raw_batch(records(5), 5, first=5)
    assert [one[0] for one in read(data, 3)[0]] == [3, 4, 5, 6, 7, 8, 9]
    assert [one[0] for one in read(data[:-1], 3)[0]] == [3, 4], "a fetch may end within a batch"
    cut = raw_batch(records(5), 5, first=20)[:-1]
    assert lost(cut, 20)[:2] == (20, 24), "but not within its first"
    assert lost(b"\0" * 5, 20)[:2] == (20, 20)
    assert lost(b"\0" * 70, 20)[:2] == (20, 20)
    damaged = raw_batch(records(5), 5, first=20, crc=1)
    assert lost(damaged, 22)[:2] == (22, 24), "what was passed before is not told again"


def marker(kind: int, first: int, producer: int) -> bytes:
    return raw_batch(
        raw_record(struct.pack(">hh", 0, kind), b"\0" * 6), 1, first=first, attributes=0x30, producer=producer
    )


def test_only_what_is_committed() -> None:
    data = (
        raw_batch(records(2), 2, first=0, attributes=0x10, producer=1)
        + raw_batch(records(2), 2, first=2, attributes=0x10, producer=2)
        + marker(0, 4, 1)
        + raw_batch(records(1), 1, first=5, attributes=0x10, producer=1)
        + marker(1, 6, 2)
        + marker(1, 7, 1)
    )
    found, position = read(data, aborted=[(1, 0)])
    assert [one[0] for one in found] == [2, 3, 5]
    assert position == 8, "markers are passed"
    assert [one[0] for one in read(data)[0]] == [0, 1, 2, 3, 5]
    aborted = raw_batch(b"", 2, "gzip", first=0, attributes=0x10, producer=1, payload=b"no gzip")
    assert read(aborted, aborted=[(1, 0)]) == ([], 2), "what was taken back need not be readable"


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_a_bomb_is_told_and_what_was_before_it_is_read(codec: str) -> None:
    size = 8 * MAX_UNPACKED_BYTES
    data = bomb(codec, size) + raw_batch(records(1), 1, first=1)
    tracemalloc.start()
    try:
        found, position = read(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(found[0], UnreadableRange)
    assert found[0].code == "batch_too_large"
    assert str(MAX_UNPACKED_BYTES) in found[0].detail
    assert [one[0] for one in found] == [0, 1]
    assert position == 2
    assert peak < 3 * MAX_UNPACKED_BYTES
    leading = records(3) + raw_record(b"bomb", bytes(2 * MAX_UNPACKED_BYTES), (), 3) + raw_record(b"e", b"", (), 4)
    found, position = read(raw_batch(leading, 5, codec))
    assert [type(one) for one in found] == [Record, Record, Record, UnreadableRange]
    assert found[3][:2] == (3, 4)
    assert position == 5


def test_a_header_s_claim_gets_no_memory() -> None:
    claims = {
        "snappy": varint_unsigned(1 << 31) + b"\0" * 20,
        "lz4": b"\x04\x22\x4d\x18\x7c\x70" + struct.pack("<Q", 1 << 40) + b"\0" * 20,
        "zstd": b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 1 << 40) + b"\0" * 20,
    }
    for codec, payload in claims.items():
        tracemalloc.start()
        assert lost(raw_batch(b"", 1, codec, payload=payload)).code in ("batch_unreadable", "batch_too_large")
        assert tracemalloc.get_traced_memory()[1] < 2 * MAX_UNPACKED_BYTES
        tracemalloc.stop()


def varint_unsigned(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def test_a_million_records_in_one_small_batch() -> None:
    many = b"".join(raw_record(None, b"", (), at) for at in range(MAX_RECORDS + 1))
    found, position = read(raw_batch(many, MAX_RECORDS + 1, "zstd"))
    assert [one.code for one in found if isinstance(one, UnreadableRange)] == ["batch_too_many"]
    assert position == MAX_RECORDS + 1
    assert lost(raw_batch(many[:99], 1_000_000, "zstd"))[:2] == (0, 999_999)
    most = b"".join(raw_record(b"p", b"v", (), at) for at in range(MAX_RECORDS))
    assert len(read(raw_batch(most, MAX_RECORDS, "lz4"))[0]) == MAX_RECORDS


_BOMBS = """
import resource, sys
from tests.raw_batches import bomb
from whirr.record_batches import BatchReader
bombs = [bomb(codec, 1_000_000_000) for codec in ("gzip", "lz4", "zstd", "snappy")]
before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for data in bombs:
    assert [one.code for one in BatchReader(data, 0)] == ["batch_too_large"]
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb)
"""


@pytest.mark.slow
def test_a_gigabyte_takes_a_few_megabytes() -> None:
    done = subprocess.run([sys.executable, "-c", _BOMBS], capture_output=True, text=True, check=True, timeout=110)
    assert int(done.stdout) < 4 * MAX_UNPACKED_BYTES / 1024


def test_times_of_any_kind() -> None:
    for ts_ms in (-1, -(1 << 63), (1 << 63) - 1):
        (one,), _ = read(raw_batch(raw_record(b"k", b"v", (), 0, 2), 1, ts_ms=ts_ms))
        assert isinstance(one, Record)
        assert -(1 << 63) <= one.timestamp_ms < 1 << 63
    (one,), _ = read(raw_batch(raw_record(b"k", b"v", (), 0, 5), 1, attributes=8))
    assert (one.timestamp_ms, one.timestamp_type) == (NOW_MS, 1)  # type: ignore[union-attr]


SOUND = [raw_batch(records(3, 40), 3, codec, first=at) for at, codec in enumerate(ALL)] + [
    marker(0, 3, 1),
    raw_batch(raw_record(b"k", b"v", [(b"n", b"h")] * 3), 1, attributes=0x10, producer=1),
]


def _checked(data: bytes, position: int) -> None:
    reader = BatchReader(data, position, [(1, 0)])
    found = []
    for one in reader:
        found.append(one)
        assert reader.position > one[0], "whoever stops here goes on behind it"
    assert reader.unpacked_bytes <= MAX_UNPACKED_BYTES * (1 + len(data) // 61)
    assert all(isinstance(one, Record | UnreadableRange) for one in found)
    ends = [one.last if isinstance(one, UnreadableRange) else one.offset for one in found]
    assert all(a <= b for a, b in pairwise(ends))
    assert all(one.first <= one.last for one in found if isinstance(one, UnreadableRange))
    assert reader.position >= position
    assert reader.position > max(ends, default=-1)


@given(st.binary(max_size=300), st.integers(0, 1 << 40))
def test_no_bytes_stop_it(data: bytes, position: int) -> None:
    _checked(data, position)


@given(st.sampled_from(SOUND), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6), st.booleans())
def test_nor_do_bytes_that_are_nearly_right(data: bytes, changes: list[tuple[int, int]], mended: bool) -> None:
    """With a checksum that fits, what is behind it is looked at."""
    changed = bytearray(data + SOUND[0])
    for at, value in changes:
        changed[at % len(changed)] = value
    if mended:
        from aiokafka.record.util import calc_crc32c

        changed[17:21] = struct.pack(">I", calc_crc32c(bytes(changed[21 : len(data)])))
        changed[8:12] = struct.pack(">i", len(data) - 12)
    _checked(bytes(changed), 0)


@given(st.sampled_from(["none", "gzip", "snappy", "snappy-raw", "lz4", "zstd"]), st.binary(max_size=200))
def test_nor_does_what_they_unpack_to(codec: str, inside: bytes) -> None:
    _checked(raw_batch(inside, 3, codec), 0)
    _checked(raw_batch(b"", 3, codec, payload=inside), 0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2**22
    assert cramjam.__version__
