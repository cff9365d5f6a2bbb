"""What people say of the plant's incidents while things fail: one of each word that does something."""

from __future__ import annotations

from collections.abc import Iterable

import orjson
from aiokafka import AIOKafkaProducer

from schemas import Verdict
from tests.verdicts import Word, said
from whirr.kafka_clients import client_options
from whirr.settings import Settings
from whirr.topics import admin_client, create_topics, verdict_topic_specs

SECOND_US = 1_000_000


def verdicts_on(machines: Iterable[tuple[str, str, int]], sensors: Iterable[tuple[str, str, int]]) -> list[Verdict]:
    """Return verdicts on some incidents: each given a second after it began, by recording time.

    Args:
        machines: Of machines: the machine, the incident and when it began, microseconds since the epoch.
        sensors: The same of their sensors.
    """
    found: list[Verdict] = []
    for number, (machine, incident_id, began_us) in enumerate(machines):
        at_us = began_us + SECOND_US
        words: list[Word] = [("false_alarm", at_us)]
        if number % 3 == 1:
            words = [("repaired", at_us, at_us)]
        elif number % 3 == 2:
            words.append(("withdrawn", at_us + 20 * SECOND_US))
        found.append(said(incident_id, *words, machine_id=machine, began_us=began_us))
    for machine, incident_id, began_us in sensors:
        at_us = began_us + SECOND_US
        found.append(said(incident_id, ("false_alarm", at_us), machine_id=machine, began_us=began_us, kind="sensor"))
    return found


async def publish(settings: Settings, verdicts: Iterable[Verdict]) -> None:
    """Write verdicts to their topic."""
    async with admin_client(settings) as admin:
        await create_topics(admin, settings, verdict_topic_specs(settings))
    async with AIOKafkaProducer(acks="all", enable_idempotence=True, **client_options(settings)) as producer:
        for one in verdicts:
            await producer.send_and_wait(settings.verdicts_topic, orjson.dumps(one), key=one.incident_id.encode())
