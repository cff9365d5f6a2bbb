"""The season in its short form: a few machines' days through the real services, as they run in a plant.

A worker in a process of its own, the recorder, the trainer's service with MLflow, and a person who answers on the topic
of verdicts, around one broker. Recording time goes on in steps: the next frames are sent when everybody has heard, and
done, what follows from the last ones. So a week is played in a minute, and each part's delays in recording time (a
verdict counts after half a minute, a champion after a minute) are kept as in a plant.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from heapq import merge
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import orjson
from aiokafka import ConsumerRecord
from pydantic import TypeAdapter

from archive.archive import Archive, configured_archive
from archive.recorder import Recorder
from backtest.judging import Heeded
from backtest.replay.replay_options import ReplayConfig
from backtest.replay.routing import load
from backtest.replay.run import ReplayObserver, replay
from benchmarks.season.outcome import as_json, outcome
from benchmarks.season.person import DAY_US, Person
from benchmarks.season.stories import Fault, Story, overhauled, stories
from benchmarks.season.world import EVERY_S, LEARNT_WEAR, START_US, Told, frames_of, recorded
from schemas import Alert, FrameRecord, Score
from schemas.model_uri import MODEL_FILE
from schemas.times import parse_rfc3339
from schemas.verdict import Verdict
from stream_app.pipeline import Champion, Lineup, Model, backtest
from stream_app.worker.topic_setup import ensure_topics
from trainer.learning.executor import JobQueue
from trainer.learning.fleet import Fleet, Trained
from trainer.learning.kept_history import KeptHistory
from trainer.learning.learner import Decision, Job
from trainer.learning.learning_rule import LearningRule
from trainer.learning.learning_tags import parse_learning_tags
from trainer.learning.ordered_jobs import OrderedJobs
from trainer.learning.routed_models import RoutedModels, template_of
from trainer.learning.service import LearningService, alert_rule_of
from trainer.learning.spans import any_holds
from trainer.learning.training import JobOrder, JobOutcome, run_job
from trainer.registry import Registry
from whirr import process
from whirr.kafka_clients import commands_producer
from whirr.mlflow_client import TrackingServer, quiet
from whirr.settings import Route, Settings
from whirr.topic_reader import follow_topic
from whirr.topics import admin_client, create_topics, verdict_topic_specs
from whirr.verdicts import Word, give, newest

DAYS: Final = 5.2
STEP: Final = 8  # frames of a machine between two looks at what was done
DETECTOR: Final = "frame_spectrum"
DEADLINE_S: Final = 90.0  # for whatever is waited for
LOOK_S: Final = 0.1
_SCORE: Final = TypeAdapter(Score)
_ALERT: Final = TypeAdapter(Alert)
OF_WORKERS: Final = ("machine", "sensor")


def live_stories() -> tuple[Story, ...]:
    """Return a machine with a sudden fault and its repair, a healthy one, and one that wears and is left alone."""
    plant = {one.machine_id: one.spec for one in stories()}
    calm: dict[str, Any] = {"shifts": False, "season_db": 0.2, "season_detune": 0.0, "wander_db": 0.1}
    broken = Fault(what="outer_race", from_day=3.3, grown_days=0.1, repaired_day=3.7, strength_db=4)
    worn = Fault(
        kind="wear", what="outer_race", from_day=1.6, grown_days=2.3, repaired_day=None, strength_db=2, first=0.005
    )
    return (
        Story(spec=plant["motor-1"], faults=(broken,), events=(overhauled(3.7),), **calm),
        Story(spec=plant["fan-2"], **calm),
        Story(spec=plant["compressor-1"], faults=(worn,), **calm),
    )


def live_values(folder: Path, name: str = "whirr") -> dict[str, Any]:
    """Return the settings of the short form, by name: a day to learn, two to be mature, and looks that come soon.

    Args:
        folder: Takes what the services keep.
        name: Of the registered models, before the machine's.
    """
    return {
        # Silence is told by the wall clock.
        "route": (Route(match="*", model=f"models:/{name}.{{machine}}@champion", learning_h=48, silent_after_s=None),),
        "commit_interval_s": 0.1,
        "model_poll_s": 0.5,
        "feature_push": False,
        "worker_dir": folder / "worker",
        "recordings_url": str(folder / "heard"),
        "mlflow_tracking_uri": f"sqlite:///{folder / 'mlflow.db'}",
        "learn_min_h": 24.0,
        "learn_min_frames": 40,
        "learn_mature_h": 48.0,
        "learn_shadow_h": 12.0,
        "learn_frames": 80,
        "learn_detector": DETECTOR,
        "recordings_form": "as_sent",  # a FLAC is the same sound, but another frame
    }


@dataclass(slots=True)
class Lived:
    """What came of a season through the services.

    Attributes:
        told: Of each machine, with learning off and on.
        scores, alerts, verdicts: All that the topics held.
        replayed: The alerts of a replay of what was kept, with the same verdicts, and each champion in its time.
        done: What the trainer's service decided, ordered and was given, with the day.
    """

    told: dict[str, dict[str, Told]] = field(default_factory=dict)
    scores: list[Score] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    replayed: list[Alert] = field(default_factory=list)
    done: list[tuple[float, Decision | Job | Trained]] = field(default_factory=list)

    def amount(self, plant: Mapping[str, Story], days: float = DAYS) -> dict[str, dict[str, float | int | None]]:
        """Return what it amounts to with learning off and on, as ``make season`` prints it."""
        return {
            f"learning_{arm}": as_json(outcome(plant, {name: arms[arm] for name, arms in self.told.items()}, days))
            for arm in ("off", "on")
        }


class _HeardFleet(Fleet):
    """A fleet that counts what it is told, and keeps what it does."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.heard = self.ticks_at_rest = 0
        self.done: list[tuple[float, Decision | Job | Trained]] = []

    def hear(self, score: Score) -> None:
        self.heard += 1
        self.ticks_at_rest = 0
        super().hear(score)

    def alert(self, alert: Alert) -> None:
        self.heard += 1
        self.ticks_at_rest = 0
        super().alert(alert)

    def say(self, verdict: Verdict) -> None:
        self.heard += 1
        self.ticks_at_rest = 0
        super().say(verdict)

    def tick(self, now_us: int) -> list[Decision | Job | Trained]:
        done = super().tick(now_us)
        self.done += [((now_us - START_US) / DAY_US, one) for one in done]
        self.ticks_at_rest = 0 if done or self.running else self.ticks_at_rest + 1
        return done


class _OneThread:
    """An engine for jobs that are done in a second: a process would take longer to start."""

    places = 1

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "learn")

    def submit(self, order: JobOrder) -> Future[JobOutcome]:
        return self._pool.submit(run_job, order)

    def close(self) -> None:
        self._pool.shutdown()


class _Followed:
    """A topic that is read as it grows.

    Attributes:
        records: So far.
        looks: So often it was read up to its end.
        answers: Records that are no shadow's.
    """

    def __init__(self, settings: Settings, topic: str) -> None:
        self._settings, self._topic = settings, topic
        self.records: list[ConsumerRecord] = []
        self.looks = self.answers = 0

    async def run(self) -> None:
        async for found in follow_topic(self._settings, self._topic, LOOK_S):
            self.records += found
            self.answers += sum(b'"shadow":true' not in one.value for one in found)
            self.looks += 1


class _WorkerProcess:
    """``whirr worker``, as a supervisor would run it."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._log = folder / "worker.log"
        self._port = process.free_port()
        program = [sys.executable, "-m", "commands", "worker", "--web-port", str(self._port)]
        with self._log.open("wb") as output:
            self.process = process.start(program, output=output, env=_environment(settings))

    def check(self) -> None:
        """Raise with the end of its log if it has ended."""
        if self.process.poll() is not None:
            raise RuntimeError(f"the worker ended with exit code {self.process.returncode}:\n{self.log_tail()}")

    def log_tail(self) -> str:
        """Return its last lines."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])

    def is_ready(self) -> bool:
        """Whether /ready says so."""
        with contextlib.suppress(OSError):
            return bool(self._page("/ready"))
        return False

    def metrics(self) -> dict[str, float]:
        """Return all samples with their labels."""
        lines = self._page("/metrics").splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}

    def _page(self, page: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{page}", timeout=10) as answer:
            text: str = answer.read().decode()
            return text


class LiveSeason:
    """Plays some machines' days through the services.

    Args:
        settings: With a broker that is there, topics of its own, and :func:`live_values`.
        folder: For logs, and copies.
        plant: The machines.
        days: So many.
        seed: Of the sounds and of the person.
    """

    def __init__(
        self, settings: Settings, folder: Path, plant: Sequence[Story], days: float = DAYS, seed: int = 0
    ) -> None:
        self._settings, self._folder, self._plant = settings, folder, plant
        self._days, self._seed = days, seed
        self._now_us = START_US
        self._frames: list[FrameRecord] = []
        self._people = {one.machine_id: _person(one, seed) for one in plant}
        self._verdicts_given = 0
        self._archive: Archive = configured_archive(settings)
        self._scores = _Followed(settings, settings.scores_topic)
        self._alerts = _Followed(settings, settings.alerts_topic)
        self._told_alerts = 0
        rule = LearningRule.of(settings)
        queue = JobQueue(_OneThread(), settings.learn_jobs)
        self._trainings = OrderedJobs(settings, self._archive.url, queue, settings.learn_detector)
        heard = KeptHistory(self._archive, folder / "no-features", rule.false_drifts_per_30_days, self._clock)
        models = RoutedModels(settings, self._clock)
        self._fleet = _HeardFleet(rule, models, self._trainings, heard, alert_rule_of(settings))
        self._service = LearningService(settings, self._fleet, self._clock, tick_s=0.1, follow_s=LOOK_S)
        self._recorder = Recorder(settings, self._archive, form=settings.recordings_form, flush_s=0.05)

    def _clock(self) -> int:
        return self._now_us

    async def play(self) -> Lived:
        """Play, and return what came of it.

        Raises:
            TimeoutError: Something did not come about; the message says what.
            RuntimeError: The worker ended.
        """
        await ensure_topics(self._settings)
        async with admin_client(self._settings) as admin:
            await create_topics(admin, self._settings, verdict_topic_specs(self._settings))
        worker = _WorkerProcess(self._settings, self._folder)
        try:
            async with asyncio.TaskGroup() as tasks:
                following = [tasks.create_task(one.run()) for one in (self._scores, self._alerts)]
                services = [tasks.create_task(one.run()) for one in (self._service, self._recorder)]
                await self._until(worker, worker.is_ready, "the worker is ready")
                for step in self._steps():
                    await self._pass(worker, step)
                for task in following:
                    task.cancel()
                self._service.stop()
                self._recorder.stop()
                await asyncio.gather(*services)
        finally:
            self._trainings.close()
            process.stop(worker.process, 20.0)
        return await self._lived()

    def _steps(self) -> Iterator[list[FrameRecord]]:
        """Yield the next frames of all machines, in the order of time."""
        sounds = [_frames(one, self._days, self._seed) for one in self._plant]
        in_time = merge(*sounds, key=lambda one: one[0])
        for _, step in groupby(in_time, key=lambda one: (one[0] - START_US) // round(STEP * EVERY_S * 1e6)):
            yield [record for _, record in step]

    async def _pass(self, worker: _WorkerProcess, step: Sequence[FrameRecord]) -> None:
        """Send frames, and wait until all that follows from them is done."""
        self._frames += step
        await self._send(step)
        first_us, last_us = (step[place].timestamp_ms * 1000 for place in (0, -1))
        await self._until(worker, self._are_answered, f"{len(self._frames)} frames are answered")
        looks = self._alerts.looks
        await self._until(worker, lambda: self._alerts.looks > looks + 1, "the alerts are read")
        await self._until(worker, lambda: self._kept(first_us) == len(step), "the frames are kept")
        self._now_us = last_us + 1_000_000
        self._fleet.ticks_at_rest = 0  # those were of another time
        await self._rest(worker)
        if await self._answer(worker):
            await self._rest(worker)
        await self._until(worker, lambda: self._has_models(worker), "the worker has the models of the registry")

    async def _send(self, step: Sequence[FrameRecord]) -> None:
        async with commands_producer(self._settings, "whirr-season") as producer:
            for one in step:
                await producer.send(
                    self._settings.frames_topic, one.value, key=one.key, headers=list(one.headers)
                )  # stamped now: the recording times are old enough for Kafka to delete the records
            await producer.flush()

    def _are_answered(self) -> bool:
        return self._scores.answers >= len(self._frames)

    def _kept(self, from_us: int) -> int:
        return sum(len(self._archive.entries(one.machine_id, from_us)) for one in self._plant)

    async def _rest(self, worker: _WorkerProcess) -> None:
        """Wait until the service has heard all that there is, and has nothing to do."""

        def rests() -> bool:
            all_of_it = len(self._scores.records) + len(self._alerts.records) + self._verdicts_given
            return self._fleet.heard >= all_of_it and self._fleet.ticks_at_rest > 1

        await self._until(worker, rests, "the trainer has done what is to be done")

    async def _answer(self, worker: _WorkerProcess) -> bool:
        """Let people hear the alerts and say something; return whether anybody did."""
        new = [_ALERT.validate_json(one.value) for one in self._alerts.records[self._told_alerts :]]
        self._told_alerts += len(new)
        for alert in new:
            if alert.machine_id in self._people:
                self._people[alert.machine_id].hear(alert)
        said = [one for person in self._people.values() for one in person.answers(self._now_us)]
        for one in said:
            since_us = None if one.since is None else parse_rfc3339(one.since)
            word = Word(verdict=one.verdict, by=one.by, fault=one.fault, since_us=since_us)
            await give(self._settings, one.incident_id, word, now_us=self._now_us)
        self._verdicts_given += len(said)
        if said:
            given_s = time.monotonic()
            await self._until(
                worker,
                lambda: worker.metrics()["whirr_verdicts_age_seconds"] < time.monotonic() - given_s,
                "the worker knows the verdicts",
            )
        return bool(said)

    def _has_models(self, worker: _WorkerProcess) -> bool:
        metrics = worker.metrics()
        found = [learner.registry for learner in self._fleet.learners.values()]
        versions = [one.champion.metadata.version for one in found if one.champion is not None]
        shadows = sum(1 for one in found if one.challenger is not None or one.before is not None)
        used = [name for name, value in metrics.items() if name.startswith("whirr_model_info{") and value == 1]
        have = all(any(f'version="{version}"' in name for name in used) for version in versions)
        return have and metrics["whirr_shadow_models"] == shadows

    async def _until(self, worker: _WorkerProcess, holds: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + DEADLINE_S
        while not await asyncio.to_thread(holds):
            worker.check()
            if time.monotonic() > end:
                day = (self._now_us - START_US) / DAY_US
                raise TimeoutError(f"day {day:.2f}: not within {DEADLINE_S:g} s: {what}\n{worker.log_tail()}")
            await asyncio.sleep(LOOK_S)

    async def _lived(self) -> Lived:
        lived = Lived(
            scores=[_SCORE.validate_json(one.value) for one in self._scores.records],
            alerts=[_ALERT.validate_json(one.value) for one in self._alerts.records],
            verdicts=list((await newest(self._settings)).values()),
            done=self._fleet.done,
        )
        lived.replayed = await asyncio.to_thread(self._replay, lived.verdicts)
        for story in self._plant:
            lived.told[story.machine_id] = {"off": self._off(story), "on": self._on(story, lived)}
        return lived

    def _replay(self, said: Sequence[Verdict]) -> list[Alert]:
        """Return the alerts of a replay of the archive, as ``whirr replay --verdicts topic`` makes it."""
        entries = [entry for machine in self._archive.machines() for entry in self._archive.entries(machine)]
        self._archive.fetch(entries, self._folder / "fetched")
        config = ReplayConfig(folder=self._folder / "fetched", out=self._folder / "replayed", jobs=1)
        replay(config, load(self._settings.route, self._settings), ReplayObserver(), Heeded((), said))
        lines = (config.out / "alerts.jsonl").read_bytes().splitlines()
        return [_ALERT.validate_json(line) for line in lines]

    def _on(self, story: Story, lived: Lived) -> Told:
        name = story.machine_id
        own = [(day, one) for day, one in lived.done if _machine_of(one) == name]
        decided = [one.what for _, one in own if isinstance(one, Decision)]
        jobs = [(round(day, 2), _in_words(one)) for day, one in own]
        alerts = [one for one in lived.alerts if one.machine_id == name and one.kind in OF_WORKERS]
        return Told(
            alerts=sorted(alerts, key=lambda one: one.recorded_at),
            trained=sum(isinstance(one, Trained) and one.version is not None for _, one in own),
            promoted=decided.count("promote"),
            rolled_back=decided.count("roll_back"),
            wear_learnt=sum(_learnt(story, self._frames, one.tags) for one in self._versions(name)),
            jobs=jobs,
        )

    def _off(self, story: Story) -> Told:
        """Return what the machine's first model would have told alone, and without a person."""
        first = min(self._versions(story.machine_id), key=lambda one: one.version, default=None)
        if first is None:
            return Told()
        server = TrackingServer(self._settings)
        with quiet(), server.client() as client, tempfile.TemporaryDirectory(dir=self._folder) as folder:
            file = server.download(client, first.name, str(first.version), MODEL_FILE, Path(folder))
            lineup = Lineup((Champion(parse_rfc3339(first.tags["champion_from"]), Model.load(file)),))
        own = [one for one in self._frames if one.key == story.machine_id.encode()]
        told = backtest(own, {f"models:/{first.name}@champion": lineup}, self._settings.route)
        return Told(alerts=[one for one in told if isinstance(one, Alert)], trained=1, promoted=1)

    def _versions(self, machine_id: str) -> Sequence[Any]:
        template = template_of(self._settings, machine_id)
        assert template is not None
        return Registry(self._settings, self._clock).versions(template.uri(machine_id).name)


def _person(story: Story, seed: int) -> Person:
    """Return who looks after a machine: at the one that wears, nobody."""
    wears = any(fault.kind == "wear" for fault in story.faults)
    return Person(story, START_US, seed, answered=0.0 if wears else 1.0, wrong=0.0)


def _learnt(story: Story, frames: Sequence[FrameRecord], tags: Mapping[str, str]) -> bool:
    """Whether a version was learnt from frames of a fault, or of a wear, that can well be heard."""
    learnt = parse_learning_tags(tags)
    if learnt is None:
        return False
    moments = [one.timestamp_ms * 1000 for one in frames if one.key == story.machine_id.encode()]
    own = [at for at in moments if learnt.baseline.holds(at) and not any_holds(learnt.left_out, at)]
    return any(fault.severity((at - START_US) / DAY_US) >= LEARNT_WEAR for fault in story.faults for at in own)


def _frames(story: Story, days: float, seed: int) -> Iterator[tuple[int, FrameRecord]]:
    for at_us, value in frames_of(story, days, seed):
        yield at_us, recorded(story.machine_id, at_us, value)


def _machine_of(one: Decision | Job | Trained) -> str:
    return one.job.machine_id if isinstance(one, Trained) else one.machine_id


def _in_words(one: Decision | Job | Trained) -> str:
    match one:
        case Decision():
            return f"{one.what} {one.version}: {one.why}"
        case Job():
            return f"{one.cause}: {one.why}"
        case _:
            return f"trained version {one.version} {one.why}"


def _environment(settings: Settings) -> dict[str, str]:
    given = settings.model_dump(mode="json", exclude_none=True)
    texts = {name: value if isinstance(value, str) else orjson.dumps(value).decode() for name, value in given.items()}
    return {**os.environ, **{f"WHIRR_{name.upper()}": text for name, text in texts.items()}}
