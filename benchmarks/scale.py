"""``make bench-scale``: workers side by side, each held to a share of a core: throughput, lag, joining and leaving.

Each number of workers drains a topic of as many partitions, every partition with frames of as many machines. A worker
and its computing process are held together to a share of a core (:class:`benchmarks.processes.HeldToShare`: stopped
and let go on by signals, as ``cpulimit`` does it), so that what one worker takes is not taken from another while there
is processor time for all. What they really had is printed beside it, and so is what the broker used, which is no part
of any worker's share. Workers start without a limit, on an empty topic; the clock runs between two looks at their
metrics.

Then frames come at a steady pace while a third worker joins two others, and one of the first two leaves. Of each frame
it is known when it was sent and when its score could be read. How long a rebalance takes is how long any partition
stood still; others are the machines whose partition stays with its worker. A frame without a score is lost, one with
two was repeated.

Frames of a second at 16 kHz, the seed's autoencoder, scores and states written.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import re
import statistics
import time
import urllib.request
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any, Final, NamedTuple

import numpy as np
import orjson
from aiokafka import AIOKafkaConsumer

from benchmarks.environment import DEADLINE_S, NOW_US, Bench, Worker, make_producer, prepared, settings_for
from benchmarks.processes import HeldToShare, cpu_s, family
from schemas import frame_headers
from schemas.frame import frame_id
from stream_app.worker.sender import partition_of
from stream_app.worker.topic_setup import ensure_topics

MACHINES_A_PARTITION: Final = 5
DRAIN_S: Final = 120.0
_LOOK_S: Final = 0.25
_SELDOM_S: Final = 1.0  # while a worker is measured: its answer takes some of its share
_LAG = re.compile(r'whirr_lag_frames\{partition="(\d+)"\} (\S+)')


class Team:
    """Workers of one group.

    Attributes:
        bench: With settings of their own: topic, group, partitions.
    """

    def __init__(self, bench: Bench, topic: str, partitions: int, stack: ExitStack) -> None:
        own = settings_for(bench, topic).model_copy(
            update={"topic_partitions": partitions, "scores_topic": f"{topic}-scores"}
        )
        self.bench = bench._replace(settings=own)
        self.workers: dict[int, Worker] = {}
        self._stack, self._topic, self._partitions = stack, topic, partitions
        asyncio.run(ensure_topics(own))

    def start(self, number: int) -> Worker:
        """Start a worker; it leaves with the stack, or before (:meth:`leave`)."""
        more = {"WORKER_DIR": str(self.bench.folder / f"{self._topic}-{number}")}
        more["SCORES_TOPIC"] = self.bench.settings.scores_topic
        worker = Worker(self.bench, self.bench.calm, self._topic, self._topic, more=more)
        self.workers[number] = self._stack.enter_context(worker)
        return worker

    def leave(self, number: int) -> None:
        """Ask a worker to end, and return when it has."""
        self.workers.pop(number).__exit__()

    def owners(self) -> dict[int, int]:
        """Return which worker has each partition; those that are at none, or said to be at two, are left out."""
        owners: dict[int, int] = {}
        said: Counter[int] = Counter()
        for number, worker in self.workers.items():
            for partition in lag_of(worker):
                owners[partition] = number
                said[partition] += 1
        return {partition: number for partition, number in owners.items() if said[partition] == 1}

    def wait_until_all_work(self) -> None:
        """Return when every partition is at one worker, and every worker is ready and has some of them."""
        end_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < end_s:
            for worker in self.workers.values():
                worker.wait_until_ready()
            owners = self.owners()
            if len(owners) == self._partitions and set(owners.values()) == set(self.workers):
                return
            time.sleep(_LOOK_S)
        raise TimeoutError(f"{len(self.workers)} workers did not share {self._partitions} partitions: {self.owners()}")

    def scored(self) -> dict[int, float]:
        """Return how many frames each worker has answered."""
        return {number: worker.metrics()["scored"] for number, worker in self.workers.items()}

    def cpu_s(self) -> float:
        """Return the processor time that the workers have used."""
        return sum(cpu_s(pid) for worker in self.workers.values() for pid in family(worker.pid))

    def broker_cpu_s(self) -> float:
        """Return the processor time of the broker; 0 where it was not started here."""
        ours = {os.getpid(), *(pid for worker in self.workers.values() for pid in family(worker.pid))}
        return sum(cpu_s(pid) for pid in family(os.getpid()) if pid not in ours)


def lag_of(worker: Worker) -> dict[int, float]:
    """Return how many frames of each of its partitions a worker has not yet answered."""
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{worker.port}/metrics", timeout=5) as answer:
        return {int(partition): float(lag) for partition, lag in _LAG.findall(answer.read().decode())}
    return {}


def machines_by_partition(partitions: int) -> list[list[str]]:
    """Return names of as many machines for each partition, by where their key puts them."""
    found: list[list[str]] = [[] for _ in range(partitions)]
    number = 0
    while any(len(machines) < MACHINES_A_PARTITION for machines in found):
        name = f"pump-{number}"
        own = found[partition_of(name.encode(), partitions)]
        if len(own) < MACHINES_A_PARTITION:
            own.append(name)
        number += 1
    return found


class Sent(NamedTuple):
    """A frame that was sent: on which partition, and when (seconds since the epoch)."""

    partition: int
    at_s: float


class Traffic:
    """Sends frames, in turns to every machine of every partition, and knows their ids."""

    def __init__(self, bench: Bench, partitions: int) -> None:
        self._bench = bench
        columns = zip(*machines_by_partition(partitions), strict=True)
        self._machines = [name for column in columns for name in column]
        self._partitions = partitions
        self.sent: dict[str, Sent] = {}

    async def send(self, producer: Any, number: int, recorded_us: int) -> Any:
        """Hand a frame to a producer; ``number`` counts all of them."""
        place, value = number % len(self._machines), self._bench.values[number % len(self._bench.values)]
        machine = self._machines[place]
        headers = frame_headers(machine, None, recorded_us, value, number // len(self._machines), "audio/wav")
        self.sent[frame_id(machine, None, recorded_us, value)] = Sent(place % self._partitions, time.time())
        topic = self._bench.settings.frames_topic
        return await producer.send(topic, value, key=machine.encode(), headers=headers)

    async def fill(self, frames: int) -> None:
        """Send so many at once."""
        async with make_producer(self._bench) as producer:
            for begin in range(0, frames, 500):
                numbers = range(begin, min(begin + 500, frames))
                stored = [
                    await self.send(producer, number, NOW_US - 3_600_000_000 + number * 1000) for number in numbers
                ]
                await asyncio.gather(*stored)


class Throughput(NamedTuple):
    """What some workers did of a backlog.

    Attributes:
        frames_per_second: All of them together.
        share: Of a core, what each of them had on average.
        frames_per_cpu_second: Frames in a second of the workers' processor time.
        broker_share: Of a core, what the broker used meanwhile.
        lag: Frames that were left when the clock stopped.
        evenness: The slowest worker's frames over the fastest one's.
    """

    frames_per_second: float
    share: float
    frames_per_cpu_second: float
    broker_share: float
    lag: float
    evenness: float


def throughput(bench: Bench, workers: int, number: int, options: argparse.Namespace) -> Throughput:
    """Return what so many workers make of a backlog on as many partitions; ``number`` is the round's."""
    with ExitStack() as stack:
        team = Team(bench, f"bench-scale-{number}-{workers}", workers, stack)
        for member in range(workers):
            team.start(member)
        team.wait_until_all_work()
        for worker in team.workers.values():
            stack.enter_context(HeldToShare(worker.pid, options.share))
        traffic, frames = Traffic(team.bench, workers), options.frames * workers
        asyncio.run(traffic.fill(frames))
        began_s, before = time.perf_counter(), team.scored()
        cpu, broker = team.cpu_s(), team.broker_cpu_s()
        after = before
        while time.perf_counter() < began_s + options.seconds and max(after.values()) < options.frames * 0.95:
            time.sleep(_SELDOM_S)
            after = team.scored()
        took_s = time.perf_counter() - began_s
        done = [after[member] - before[member] for member in after]
        used_s, broker_s = team.cpu_s() - cpu, team.broker_cpu_s() - broker
        if took_s < options.seconds / 2 or min(done) <= 0:
            raise SystemExit(f"{frames} frames were too few: {took_s:.1f} s were left of them; give more with --frames")
        return Throughput(
            sum(done) / took_s,
            used_s / took_s / workers,
            sum(done) / used_s,
            broker_s / took_s,
            frames - sum(after.values()),
            min(done) / max(done),
        )


class Moment(NamedTuple):
    """A stretch of time, and who had which partition before and after it."""

    name: str
    from_s: float
    until_s: float
    before: Mapping[int, int]
    after: Mapping[int, int]


def rebalances(bench: Bench, rate: float, options: argparse.Namespace) -> dict[str, Any]:
    """Return what a worker's joining and another's leaving does to frames that come at a steady pace."""
    partitions = options.partitions
    with ExitStack() as stack:
        team = Team(bench, "bench-scale-rebalance", partitions, stack)
        held = {}
        for number in range(2):
            team.start(number)
        team.wait_until_all_work()
        for number, worker in team.workers.items():
            held[number] = stack.enter_context(ExitStack())
            held[number].enter_context(HeldToShare(worker.pid, options.share))
        return asyncio.run(_course(team, held, partitions, rate, options))


async def _course(
    team: Team, held: dict[int, ExitStack], partitions: int, rate: float, options: argparse.Namespace
) -> dict[str, Any]:
    traffic, stop = Traffic(team.bench, partitions), asyncio.Event()
    answered: dict[str, list[float]] = {}
    reader = AIOKafkaConsumer(
        team.bench.settings.scores_topic,
        bootstrap_servers=team.bench.settings.bootstrap,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=20,
    )
    moments = []
    async with make_producer(team.bench) as producer, reader:
        hearing = asyncio.create_task(_hear(reader, answered))
        sending = asyncio.create_task(_send(traffic, producer, rate, stop))
        await asyncio.sleep(options.settle)
        owners = await asyncio.to_thread(team.owners)
        moments.append(Moment("before", time.time() - options.settle / 2, time.time(), owners, owners))

        from_s = time.time()
        joined = team.start(2)
        await asyncio.to_thread(team.wait_until_all_work)
        held[2] = ExitStack()
        held[2].enter_context(HeldToShare(joined.pid, options.share))
        moments.append(await _moment("join", team, from_s, owners, options.settle))

        owners, from_s = moments[-1].after, time.time()
        held[0].close()  # a process that is stopped can't leave
        await asyncio.to_thread(team.leave, 0)
        await asyncio.to_thread(team.wait_until_all_work)
        moments.append(await _moment("leave", team, from_s, owners, options.settle))

        stop.set()
        await sending
        drained_by_s = time.time() + DRAIN_S
        while traffic.sent.keys() - answered.keys() and time.time() < drained_by_s:
            await asyncio.sleep(_LOOK_S)
        hearing.cancel()
    for one in held.values():
        one.close()
    return _figures(traffic.sent, answered, moments)


async def _moment(name: str, team: Team, from_s: float, before: Mapping[int, int], settle_s: float) -> Moment:
    await asyncio.sleep(settle_s)
    return Moment(name, from_s, time.time(), before, await asyncio.to_thread(team.owners))


async def _send(traffic: Traffic, producer: Any, rate: float, stop: asyncio.Event) -> None:
    began_s, number = time.perf_counter(), 0
    while not stop.is_set():
        await traffic.send(producer, number, time.time_ns() // 1000)
        number += 1
        await asyncio.sleep(max(began_s + number / rate - time.perf_counter(), 0))
    await producer.flush()


async def _hear(reader: AIOKafkaConsumer, answered: dict[str, list[float]]) -> None:
    async for record in reader:
        answered.setdefault(orjson.loads(record.value)["frame_id"], []).append(time.time())


def _figures(
    sent: Mapping[str, Sent], answered: Mapping[str, Sequence[float]], moments: Sequence[Moment]
) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "frames": len(sent),
        "lost": len(sent.keys() - answered.keys()),
        "unexpected": len(answered.keys() - sent.keys()),
        "repeated": sum(len(times_s) > 1 for times_s in answered.values()),
    }
    for moment in moments:
        if moment.name != "before":
            figures[f"rebalance_s_{moment.name}"] = round(_standstill_s(sent, answered, moment), 2)
            moved = {one for one in moment.before if moment.before[one] != moment.after.get(one)}
            figures[f"partitions_moved_{moment.name}"] = len(moved)
        stayed = [one for one, owner in moment.before.items() if moment.after.get(one) == owner]
        taken_ms = [
            1000 * (answered[identity][0] - one.at_s) if identity in answered else math.inf
            for identity, one in sent.items()
            if moment.from_s <= one.at_s < moment.until_s and one.partition in stayed
        ]
        for percentile in (50, 99):
            name = f"others_latency_ms_p{percentile}_{moment.name}"
            figures[name] = round(float(np.percentile(taken_ms, percentile)), 1) if taken_ms else None
        figures[f"lag_{moment.name}"] = _most_waiting(sent, answered, moment)
    return figures


def _standstill_s(sent: Mapping[str, Sent], answered: Mapping[str, Sequence[float]], moment: Moment) -> float:
    """Return the longest time within a moment in which nothing of some partition was answered."""
    times: dict[int, list[float]] = {}
    for identity, one in sent.items():
        own = times.setdefault(one.partition, [moment.from_s, moment.until_s])
        own += [at_s for at_s in answered.get(identity, ()) if moment.from_s <= at_s <= moment.until_s]
    return max((float(np.diff(np.sort(own)).max()) for own in times.values()), default=0.0)


def _most_waiting(sent: Mapping[str, Sent], answered: Mapping[str, Sequence[float]], moment: Moment) -> int:
    """Return how many frames waited for their answer at most, at any time of a moment."""
    events: list[tuple[float, int]] = [(one.at_s, 1) for one in sent.values()]
    events += [(times_s[0], -1) for identity, times_s in answered.items() if identity in sent]
    waiting = most = 0
    for at_s, change in sorted(events):
        waiting += change
        if moment.from_s <= at_s <= moment.until_s:
            most = max(most, waiting)
    return most


def measure(bench: Bench, options: argparse.Namespace) -> dict[str, Any]:
    """Print what each number of workers does; return the figures."""
    print(f"Each worker is held to {options.share:g} of a core by SIGSTOP and SIGCONT, on {os.cpu_count()} cores.")
    print("Frames a second, in all and a worker; the share of a core that each had, and frames a second of that;")
    print("the broker's cores; the slowest worker over the fastest; frames left when the clock stopped.")
    print("workers  frames/s  a worker    had  per CPU s  broker  even     lag")
    rounds = [_round(bench, number, options) for number in range(options.rounds)]
    found = {workers: _median([one[workers] for one in rounds]) for workers in rounds[0]}
    figures: dict[str, Any] = {
        "scale_workers": list(found),
        "scale_share": options.share,
        "scale_share_had": [round(one.share, 3) for one in found.values()],
        "scale_frames_per_second": [round(one.frames_per_second, 1) for one in found.values()],
        "scale_broker_share": [round(one.broker_share, 3) for one in found.values()],
        **_median_ratios(rounds),
    }
    if not options.no_rebalance:
        rate = options.load * 2 * min(one.frames_per_second / workers for workers, one in found.items())
        moved = rebalances(bench, rate, options)
        print(
            f"{moved['frames']} frames at {rate:.0f} a second on {options.partitions} partitions, "
            f"{options.load:.0%} of what two can:"
        )
        for name, value in moved.items():
            print(f"  {name:<30} {value}")
        figures |= moved
    return figures


def _round(bench: Bench, number: int, options: argparse.Namespace) -> dict[int, Throughput]:
    found: dict[int, Throughput] = {}
    for workers in sorted(set(options.workers)):
        one = found[workers] = throughput(bench, workers, number, options)
        print(
            f"{workers:>7} {one.frames_per_second:>9.0f} {one.frames_per_second / workers:>9.0f} {one.share:>6.2f} "
            f"{one.frames_per_cpu_second:>10.0f} {one.broker_share:>7.2f} {one.evenness:>5.2f} {one.lag:>7.0f}",
            flush=True,
        )
    return found


def _median(several: Sequence[Throughput]) -> Throughput:
    return Throughput(*(statistics.median(values) for values in zip(*several, strict=True)))


def _median_ratios(rounds: Sequence[Mapping[int, Throughput]]) -> dict[str, float]:
    """Return the medians of the ratios, each of one round."""
    ratios = [_ratios(one) for one in rounds]
    return {name: round(statistics.median(one[name] for one in ratios), 3) for name in ratios[0]}


def _ratios(found: Mapping[int, Throughput]) -> dict[str, float]:
    """Return how many times what one worker does the others do: as it was, and at one worker's processor time."""
    ratios: dict[str, float] = {}
    for workers, one in found.items():
        if workers > 1 and 1 in found:
            alone = found[1]
            ratios[f"scale_{workers}_vs_1"] = round(one.frames_per_second / alone.frames_per_second, 3)
            per_cpu = one.frames_per_cpu_second / alone.frames_per_cpu_second
            ratios[f"scale_{workers}_vs_1_per_cpu"] = round(workers * per_cpu, 3)
    return ratios


def main(arguments: Iterable[str] | None = None) -> None:
    """Print tables, then one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4], help="how many workers, one run each")
    parser.add_argument("--rounds", type=int, default=3, help="how often; the figures are medians")
    parser.add_argument("--share", type=float, default=0.4, help="of a core, that each worker is held to")
    parser.add_argument("--seconds", type=float, default=10.0, help="for how long throughput is measured")
    parser.add_argument("--frames", type=int, default=4000, help="backlog for each worker")
    parser.add_argument("--partitions", type=int, default=6, help="while workers join and leave")
    parser.add_argument("--load", type=float, default=0.5, help="share of what two workers can do, while one joins")
    parser.add_argument(
        "--settle", type=float, default=8.0, help="seconds before a worker joins, and after each change"
    )
    parser.add_argument("--no-rebalance", action="store_true", help="only measure throughput")
    options = parser.parse_args(None if arguments is None else list(arguments))
    with prepared() as bench:
        figures = measure(bench, options)
    print(orjson.dumps({"broker": bench.broker, **figures}).decode())


if __name__ == "__main__":
    main()
