"""What keeping frames costs: whirr record of what Kafka retains, the recorder, and thinning a day. Last line: JSON.

Frames of a second at 16 kHz are on the embedded broker before the clock starts; the two ways of recording are timed by
turns, so that both see the same machine.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import orjson
from aiokafka import AIOKafkaProducer

from archive.archive import Archive
from archive.entries import ArchiveEntry
from archive.keeping import FileForm, kept_frame
from archive.places import FolderLocation
from archive.quotas import Keep
from archive.recorder import Recorder
from archive.retained import record
from archive.thinning import thin
from backtest.replay.rescoring import Range, records_of
from recordings.encode import FileFormat, encode
from recordings.samples import SignalFormat
from schemas.frame import FrameRecord, frame_headers
from whirr.broker import EmbeddedBroker
from whirr.settings import Settings, load_settings

RATE_HZ = 16_000
START_US = 1_767_225_600_000_000
MACHINES = 10
ALL_STAYS = Keep(all_h=1e6, days=None, gb=None, machine_gb=None)


def frames(count: int, file_format: FileFormat) -> Iterator[FrameRecord]:
    rng = np.random.default_rng(0)
    for number in range(count):
        samples = rng.normal(0, 800, (1, RATE_HZ)).astype(np.int16)
        encoded = encode(samples, SignalFormat(RATE_HZ, 1, "pcm16"), file_format)
        machine, at_us = f"pump-{number % MACHINES}", START_US + number // MACHINES * 1_000_000
        headers = frame_headers(machine, "mic", at_us, encoded.value, content_type=encoded.content_type)
        yield FrameRecord(machine.encode(), encoded.value, tuple(headers), at_us // 1000)


async def produce(settings: Settings, records: list[FrameRecord]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=settings.bootstrap, linger_ms=20) as producer:
        sent = [
            await producer.send(
                settings.frames_topic, one.value, key=one.key, headers=list(one.headers), timestamp_ms=one.timestamp_ms
            )
            for one in records
        ]
        await asyncio.gather(*sent)


async def retained_per_s(settings: Settings, out: Path, count: int) -> float:
    began_s = time.perf_counter()
    told = await record(records_of(settings, Range(None, None)), out, None)
    assert told["written"] == count, told
    return count / (time.perf_counter() - began_s)


async def recorded_per_s(settings: Settings, out: Path, count: int, form: FileForm) -> float:
    """From the first frame kept to the last one committed; joining the group takes seconds, and happens once."""
    settings = settings.model_copy(update={"recordings_group": f"bench-{uuid4().hex}"})
    recorder = Recorder(settings, Archive(FolderLocation(out), ALL_STAYS), form=form, prune_s=1e6)
    task = asyncio.create_task(recorder.run())
    began_s = first = 0
    while (kept := int(recorder.summary()["kept"])) < count:
        if kept and not first:
            began_s, first = time.perf_counter_ns(), kept
        await asyncio.sleep(0.001)
    recorder.stop()
    await task
    return (count - first) / (time.perf_counter_ns() - began_s) * 1e9


def thinned_per_s(count: int) -> float:
    """How many frames of one stream's day are chosen from a second, by the defaults of the settings."""
    (one,) = frames(1, "flac")
    like, rng = kept_frame(one).entry, np.random.default_rng(0)

    def entry(number: int) -> ArchiveEntry:
        spectrum = tuple(int(band) for band in rng.integers(-60, -50, 16))
        values = {name: getattr(like, name) for name in like.__slots__}
        at_us = START_US + number * 86_400_000_000 // count
        return ArchiveEntry(
            **values | {"recorded_us": at_us, "spectrum": spectrum, "frame_id": f"{number * 2654435761 % 2**32:032x}"}
        )

    day, keep = [entry(number) for number in range(count)], Keep()
    began_s = time.perf_counter()
    assert len(thin(day, keep.a_day, START_US + 10**12)) == keep.a_day
    return count / (time.perf_counter() - began_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    found: dict[str, list[float]] = {}
    with EmbeddedBroker() as broker, tempfile.TemporaryDirectory() as folder:
        for file_format in ("wav", "flac"):
            topic = f"frames-{file_format}"
            settings = load_settings(kafka_bootstrap_servers=broker.bootstrap, frames_topic=topic)
            asyncio.run(produce(settings, list(frames(args.frames, file_format))))
            for number in range(args.rounds):
                here = Path(folder) / f"{file_format}-{number}"
                once = asyncio.run(retained_per_s(settings, here / "retained", args.frames))
                found.setdefault(f"retained_{file_format}", []).append(once)
                for form in ("flac", "as_sent") if file_format == "wav" else ("flac",):
                    name = f"recorder_{file_format}" + ("_as_sent" if form == "as_sent" else "")
                    rate = asyncio.run(recorded_per_s(settings, here / form, args.frames, form))
                    found.setdefault(name, []).append(rate)
                told = (f"{name} {rates[-1]:.0f}/s" for name, rates in found.items() if file_format in name)
                print(f"round {number}: {', '.join(told)}")
    figures = {f"{name}_frames_per_s": round(statistics.median(rates), 1) for name, rates in found.items()}
    figures["thinned_frames_per_s"] = round(thinned_per_s(20_000), 1)
    print(orjson.dumps(figures).decode())


if __name__ == "__main__":
    main()
