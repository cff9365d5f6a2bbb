"""The feature store under chaos: Redis, which comes and goes, and what must be in it in the end."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import feature_repo
from feature_repo import fields
from schemas import format_rfc3339
from tests.services import Redis
from whirr.settings import Settings

YAML = "feature_store.redis.yaml"
CAUGHT_UP_S = 150.0  # a store that came back is looked after once a minute


def place_store(folder: Path) -> Path:
    """Put a repository of the run's own into ``folder``; return its YAML file."""
    folder.mkdir(parents=True)
    return Path(shutil.copy(Path(feature_repo.__file__).parent / YAML, folder))


def variables(redis: Redis) -> Mapping[str, str]:
    """Return the environment that the YAML file needs."""
    address = urlsplit(redis.address)
    return {"FEAST_REDIS_CONNECTION_STRING": f"{address.hostname}:{address.port}"}


def apply(settings: Settings, redis: Redis) -> None:
    """Write the definitions into the store's registry."""
    from feature_repo import definitions as d
    from feature_repo.store import open_store

    os.environ.update(variables(redis))
    services = [d.machine_audio_v1, d.machine_health_v1, d.machine_overview_v1]
    wanted = [d.project, d.machine, d.history, d.push, d.machine_audio_features, d.machine_health, *services]
    open_store(settings, applied=False).feast.apply(wanted)


async def behind(settings: Settings, newest_us: Mapping[str, int]) -> list[str]:
    """Wait until every machine's features are those of its newest frame; return which are not in time, in words."""
    end = time.monotonic() + CAUGHT_UP_S
    while True:
        found = await asyncio.to_thread(_times_us, settings, list(newest_us))
        late = {machine_id: at_us for machine_id, at_us in newest_us.items() if found[machine_id] != at_us}
        if not late or time.monotonic() > end:
            return [
                f"features of {machine_id} are of {format_rfc3339(found[machine_id])}; "
                f"its newest frame is of {format_rfc3339(at_us)}"
                for machine_id, at_us in late.items()
            ]
        await asyncio.sleep(1.0)


def _times_us(settings: Settings, machine_ids: list[str]) -> dict[str, int]:
    """Return of what time each machine's features are, microseconds since the epoch; 0 where there are none."""
    from feature_repo.store import open_store

    view, known = next(iter(fields.VIEWS.items()))
    answer: Any = open_store(settings).feast.get_online_features(
        features=[f"{view}:{known[0].name}"], entity_rows=[{fields.ENTITY: one} for one in machine_ids]
    )
    stamps = answer.proto.results[-1].event_timestamps
    return {machine_id: stamps[index].ToMicroseconds() for index, machine_id in enumerate(machine_ids)}
