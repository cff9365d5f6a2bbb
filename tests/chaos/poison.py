"""Poison: records that no gateway of ours would send, put onto the frames topic among the others."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from random import Random
from typing import NamedTuple

import numpy as np
import soundfile
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from tests.chaos.plant import RATE_HZ
from whirr.settings import Settings

AGAIN_S = 0.5


class Poison(NamedTuple):
    """A record, and the reason that its dead letter must give."""

    identity: str
    key: bytes | None
    value: bytes
    reason: str


def poison(random: Random, machine_ids: list[str], count: int) -> Iterator[Poison]:
    """Yield ``count`` records that can't be used, in turn: noise bytes, a WAV file that ends early, no key."""
    makers = (_noise, _truncated, _without_key)
    for number in range(count):
        identity = f"poison-{random.getrandbits(64):016x}"
        key, value, reason = makers[number % len(makers)](random, random.choice(machine_ids).encode())
        yield Poison(identity, key, value, reason)


def _noise(random: Random, key: bytes) -> tuple[bytes | None, bytes, str]:
    return key, random.randbytes(random.randint(1, 4000)), "not_audio"


def _truncated(random: Random, key: bytes) -> tuple[bytes | None, bytes, str]:
    value = _wav()
    return key, value[: random.randint(len(value) // 4, len(value) - 100)], "truncated"


def _without_key(_: Random, __: bytes) -> tuple[bytes | None, bytes, str]:
    return None, _wav(), "key_missing"


def _wav() -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(RATE_HZ), RATE_HZ, format="WAV", subtype="PCM_16")
    return file.getvalue()


async def send(settings: Settings, records: list[Poison], deadline_s: float = 120.0) -> None:
    """Send records until each is acknowledged; one that is sent again has the same identity.

    Raises:
        TimeoutError: They are not acknowledged in time.
    """
    remaining = list(records)
    async with asyncio.timeout(deadline_s):
        while remaining:
            try:
                async with AIOKafkaProducer(bootstrap_servers=settings.bootstrap, acks="all") as producer:
                    while remaining:
                        one = remaining[0]
                        headers = [("ce_id", one.identity.encode())]
                        await producer.send_and_wait(settings.frames_topic, one.value, key=one.key, headers=headers)
                        del remaining[0]
            except (KafkaError, OSError):
                await asyncio.sleep(AGAIN_S)
