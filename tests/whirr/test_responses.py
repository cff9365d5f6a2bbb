"""A broker's responses come in pieces of any size, and are read whole."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from aiokafka import conn

import whirr.fetching  # noqa: F401 - it gives them theirs
from whirr.responses import ResponseReader


def reader() -> ResponseReader:
    made = asyncio.StreamReader(limit=2**16)
    ResponseReader.take_over(made)
    assert isinstance(made, ResponseReader)
    return made


@pytest.mark.parametrize("seed", range(5))
async def test_what_came_in_any_pieces_is_read_as_it_was_sent(seed: int) -> None:
    rng = Random(seed)
    sent = rng.randbytes(400_000)
    made, read, at = reader(), [], 0

    async def read_all() -> None:
        left = len(sent)
        while left:
            size = min(left, rng.choice([1, 4, 100, 70_000, 200_000]))
            read.append(await made.readexactly(size))
            assert len(read[-1]) == size
            left -= size

    reading = asyncio.create_task(read_all())
    while at < len(sent):
        size = rng.choice([1, 3, 4096, 150_000])
        made.feed_data(sent[at : at + size])
        at += size
        if rng.random() < 0.5:
            await asyncio.sleep(0)
    await reading
    assert b"".join(read) == sent


async def test_a_response_is_waited_for_until_it_is_whole() -> None:
    made = reader()
    reading = asyncio.create_task(made.readexactly(5))
    await asyncio.sleep(0)
    made.feed_data(b"abc")
    await asyncio.sleep(0)
    assert not reading.done()
    made.feed_data(b"defg")
    assert await reading == b"abcde"
    assert await made.readexactly(2) == b"fg"
    assert await made.readexactly(0) == b""


async def test_a_connection_that_ends_within_a_response_says_so() -> None:
    made = reader()
    made.feed_data(b"abc")
    reading = asyncio.create_task(made.readexactly(5))
    await asyncio.sleep(0)
    made.feed_eof()
    with pytest.raises(asyncio.IncompleteReadError):
        await reading


async def test_a_connection_that_fails_fails_what_is_read() -> None:
    made = reader()
    reading = asyncio.create_task(made.readexactly(5))
    await asyncio.sleep(0)
    made.set_exception(ConnectionResetError("reset"))
    with pytest.raises(ConnectionResetError):
        await reading


async def test_aiokafkas_connections_have_it() -> None:
    made = asyncio.StreamReader()
    protocol = conn.AIOKafkaProtocol(asyncio.get_running_loop().create_future(), made, loop=asyncio.get_running_loop())
    protocol.data_received(b"four")
    assert await made.readexactly(4) == b"four"
    assert isinstance(made, ResponseReader)


async def test_a_length_below_nothing_is_refused_at_once() -> None:
    made = reader()
    made.feed_data(b"x" * 40)
    with pytest.raises(ValueError, match="a response of -16 bytes"):
        await made.readexactly(-16)
    made.feed_eof()
    assert not made.at_eof()
    await made.readexactly(40)
    assert made.at_eof()
