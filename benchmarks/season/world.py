"""One machine's season, live: frames through the pure core, what it learns, and the person who answers."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.season.person import DAY_US, Person
from benchmarks.season.stories import RATE_HZ, Story
from edge_agent.simulator.machine import Machine
from recordings.encode import encode
from recordings.samples import SignalFormat
from schemas import Alert, FrameRecord, Score, frame_headers
from schemas.errors import RecordingError
from schemas.times import parse_rfc3339
from schemas.verdict import EarlierVerdict, Verdict
from stream_app.pipeline import Champion, Engine, Lineup, Model, Router, StreamState, Verdicts
from trainer.learning.anchor import Departure, departure
from trainer.learning.learner import Decision, Job, Learner, LearntVersion
from trainer.learning.learning_rule import LearningRule
from trainer.learning.spans import Span, any_holds
from whirr.settings import Route

EVERY_S: Final = 1800.0
FRAME_S: Final = 1.0
TRAIN_FRAMES: Final = 400
START_US: Final = 1_767_225_600_000_000  # 2026-01-01, a Thursday
ASK_EVERY: Final = 12  # frames between two looks at what is to be learnt
LEARNT_WEAR: Final = 0.25  # of its final severity: a frame with more must not be learnt


@dataclass(slots=True)
class Told:
    """What came of a season, with learning off or on.

    Attributes:
        alerts: Of the machine.
        trained, promoted, rolled_back: So many.
        learnt_days: Of the last training of each champion: the days of its frames.
        jobs: Why each training was made, with the day.
        departures: From the anchor, by day.
        course: Of each frame the day, the score as a share of the alert threshold, and the machine's state.
    """

    alerts: list[Alert] = field(default_factory=list)
    trained: int = 0
    promoted: int = 0
    rolled_back: int = 0
    wear_learnt: int = 0
    jobs: list[tuple[float, str]] = field(default_factory=list)
    departures: list[tuple[float, Departure]] = field(default_factory=list)
    course: list[tuple[float, float | None, str]] = field(default_factory=list)


class Heard:
    """What was kept of a machine: one file a frame."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.moments: list[int] = []
        self.paths: list[Path] = []

    def keep(self, recorded_us: int, value: bytes) -> None:
        """Keep a frame."""
        path = self.folder / f"{_stamp(recorded_us)}.wav"
        path.write_bytes(value)
        self.moments.append(recorded_us)
        self.paths.append(path)

    def within(self, job: Job, until_us: int | None = None) -> list[int]:
        """Return the places of the frames that a job may learn, thinned evenly to a number that is soon trained."""
        end_us = job.span.until_us if until_us is None else min(until_us, job.span.until_us or until_us)
        first = bisect_right(self.moments, job.span.from_us - 1)
        spans = [one.span for one in job.left_out]
        may = [
            place
            for place in range(first, len(self.moments))
            if (end_us is None or self.moments[place] < end_us) and not any_holds(spans, self.moments[place])
        ]
        if len(may) <= TRAIN_FRAMES:
            return may
        return [may[round(one)] for one in np.linspace(0, len(may) - 1, TRAIN_FRAMES)]


class MachineSeason:
    """One machine with its worker, its learner and the person who looks after it.

    Args:
        story: What happens to it.
        folder: For what is kept, and models.
        rule: When it learns.
        learning: Whether it goes on learning after its first model, and hears verdicts.
        seed: Of the sounds and of the person.
        detector: What is trained.
    """

    def __init__(
        self, story: Story, folder: Path, rule: LearningRule, *, learning: bool, seed: int, detector: str
    ) -> None:
        self.story, self._folder, self._learning, self._detector = story, folder, learning, detector
        self._route = Route(match=story.machine_id, model="models:/season@champion", learning_h=168)
        self._person = Person(story, START_US, seed)
        self._learner = Learner(story.machine_id, rule=rule)
        self._models: dict[int, Model] = {}
        self._champions: list[tuple[int, int]] = []  # from when, version
        self._engine: Engine | None = None
        self._state: StreamState | None = None
        self._numbers = 0
        self._verdicts: dict[str, Verdict] = {}
        self.told = Told()

    def take(self, record: FrameRecord, recorded_us: int) -> None:
        """Take one frame."""
        if self._engine is None:
            self._learner.heard(recorded_us)
            self.told.course.append(((recorded_us - START_US) / DAY_US, None, "learning"))
            return
        (computed,) = self._engine.compute([record])
        outcome = self._engine.advance(computed, self._state, recorded_us)  # type: ignore[arg-type]
        self._state = outcome.state or self._state
        for score in (outcome.score, outcome.shadow):
            if score is not None:
                self._learner.hear(score)
        if outcome.score is not None:
            self._note(outcome.score)
        for alert in outcome.alerts:
            self.told.alerts.append(alert)
            self._learner.alert(alert)
            self._person.hear(alert)

    def _note(self, score: Score) -> None:
        state = "normal"
        if score.idle_reason == "learning":
            state = "learning"
        elif self._state is not None and self._state.machine.incident_id:
            state = "alarm" if self._state.machine.alert.on else "changed"
        day = (parse_rfc3339(score.recorded_at) - START_US) / DAY_US
        self.told.course.append((day, score.score / score.threshold, state))

    def live(self, now_us: int, heard: Heard) -> None:
        """Answer alerts, train, promote: what happens between two frames."""
        if self._learning:
            if said := self._person.answers(now_us):
                for verdict in said:
                    self._learner.say(verdict)
                    self._say(verdict)
            change = self._learner.change(now_us)
            if change is not None:
                self._apply(change, now_us)
        first = self._learner.registry.champion is None
        if not (self._learning or first):
            return
        job = self._learner.job(now_us)
        if job is not None:
            self._train(job, now_us, heard)

    def _train(self, job: Job, now_us: int, heard: Heard) -> None:
        from trainer.train import TrainConfig, train_model

        day = (now_us - START_US) / DAY_US
        registry = self._learner.registry
        done = replace(registry, done=registry.done | {job.job_id})
        places, until_us = heard.within(job), None
        if job.anchored and registry.anchor is not None:
            left = self._departure(registry.anchor, heard, places)
            self.told.departures.append((round(day, 2), left))
            until_us = job.learnt_until_us(left.since_us)
            if until_us is not None:
                places = heard.within(job, until_us)
        self._numbers += 1
        number = self._numbers
        normal = self._folder / f"train-{number}"
        normal.mkdir(parents=True, exist_ok=True)
        for one in places:
            os.link(heard.paths[one], normal / heard.paths[one].name)
        out = self._folder / f"model-{number}.onnx"
        order = TrainConfig(
            normal=normal,
            out=out,
            machine=self.story.machine_id,
            detector=self._detector,
            every_s=EVERY_S,
            mlflow=False,
            accelerator="cpu",
        )
        try:
            metadata = train_model(order, live=job.live_until(until_us)).metadata
        except RecordingError as error:
            self.told.jobs.append((round(day, 2), f"{job.cause}: failed: {error}"))
            self._learner.registry = done
            return
        self.told.trained += 1
        model = self._models[number] = Model.load(out)
        own = metadata.thresholds_for(self.story.machine_id)
        days = len(job.live_until(until_us))
        threshold, early = f"{own.alert_threshold:.3g}", own.no_early or "yes"
        found = f"{len(places)} frames, {days} live days, threshold {threshold}, early: {early}"
        self.told.jobs.append((round(day, 2), f"{job.cause} ({job.why}): {found}"))
        version = LearntVersion(
            number=number,
            metadata=model.metadata,
            from_us=now_us,
            baseline=Span(job.span.from_us, until_us or job.span.until_us),
            job_id=job.job_id,
            left_out=tuple(one.span for one in job.left_out),
        )
        worst = max((self._wear((heard.moments[one] - START_US) / DAY_US) for one in places), default=0.0)
        if worst >= LEARNT_WEAR:
            self.told.wear_learnt += 1
        if job.direct:
            self._learner.registry = replace(done, champion=version, challenger=None, before=None, anchor=None)
            self.told.promoted += 1
            self._champions.append((now_us, number))
        else:
            self._learner.registry = replace(done, challenger=version, before=None)
        self._serve()

    def _wear(self, day: float) -> float:
        return max((fault.severity(day) for fault in self.story.faults), default=0.0)

    def _departure(self, anchor: LearntVersion, heard: Heard, places: Sequence[int]) -> Departure:
        engine = Engine(Router.from_routes([self._route], {self._route.model: self._models[anchor.number]}))
        moments = [heard.moments[one] for one in places]
        records = [recorded(self.story.machine_id, heard.moments[one], heard.paths[one].read_bytes()) for one in places]
        scores = [one.score for one in engine.compute(records)]  # type: ignore[union-attr]
        return departure(anchor.metadata.thresholds_for(self.story.machine_id), moments, scores)

    def _say(self, verdict: Verdict) -> None:
        before = self._verdicts.get(verdict.incident_id)
        earlier = (
            ()
            if before is None
            else (*before.before, EarlierVerdict(verdict=before.verdict, time=before.time, since=before.since))
        )
        self._verdicts[verdict.incident_id] = replace(verdict, before=earlier)
        if self._engine is not None:
            self._engine.verdicts = Verdicts(self._verdicts.values())

    def _apply(self, change: Decision, now_us: int) -> None:
        registry = self._learner.registry
        day = round((now_us - START_US) / DAY_US, 2)
        if not change.why.endswith("probation"):
            self.told.jobs.append((day, f"{change.what} {change.version}: {change.why}"))
        if change.what == "promote":
            assert registry.challenger is not None
            champion = replace(registry.challenger, from_us=now_us)
            self._learner.registry = replace(registry, champion=champion, challenger=None, before=registry.champion)
            self._champions.append((now_us, champion.number))
            self.told.promoted += 1
        elif change.what == "anchor":
            self._learner.registry = replace(registry, anchor=registry.champion)
            return
        elif change.what == "drop":
            of_before = registry.before is not None and registry.before.number == change.version
            kept = registry.challenger if of_before else None
            self._learner.registry = replace(registry, challenger=kept, before=None)
        else:
            assert registry.champion is not None
            assert registry.before is not None
            back = replace(registry.before, from_us=now_us)
            refused = registry.refused | {registry.champion.number}
            self._learner.registry = replace(registry, champion=back, before=None, refused=refused)
            self._champions.append((now_us, back.number))
            self.told.rolled_back += 1
        self._serve()

    def _serve(self) -> None:
        registry = self._learner.registry
        shadow = registry.challenger or registry.before
        lineup = Lineup(
            tuple(Champion(from_us, self._models[number]) for from_us, number in self._champions[-2:]),
            None if shadow is None else self._models[shadow.number],
        )
        self._engine = Engine(Router.from_routes([self._route], {self._route.model: lineup}))
        self._engine.verdicts = Verdicts(self._verdicts.values())


def play(story: Story, folder: Path, rule: LearningRule, *, days: float, seed: int, detector: str) -> dict[str, Told]:
    """Play a machine's season with learning off and on, on the same sounds; return what came of both."""
    arms = {
        name: MachineSeason(story, folder / name, rule, learning=name == "on", seed=seed, detector=detector)
        for name in ("off", "on")
    }
    heard = Heard(folder / "heard")
    for number, (recorded_us, value) in enumerate(frames_of(story, days, seed)):
        record = recorded(story.machine_id, recorded_us, value)
        heard.keep(recorded_us, value)
        for arm in arms.values():
            arm.take(record, recorded_us)
            if number % ASK_EVERY == 0:
                arm.live(recorded_us, heard)
    return {name: arm.told for name, arm in arms.items()}


def frames_of(story: Story, days: float, seed: int) -> Iterator[tuple[int, bytes]]:
    """Yield a machine's frames: when each was recorded, microseconds since the epoch, and a WAV file."""
    for number in range(int(days * 86_400 / EVERY_S)):
        day = number * EVERY_S / 86_400
        if day < story.installed_day or not story.runs(day):
            continue
        machine = Machine(story.at(day), seed=seed, rate_hz=RATE_HZ, run=f"frame {number}")
        samples = machine.read(round(FRAME_S * RATE_HZ))
        yield START_US + round(number * EVERY_S * 1e6), _wav(samples)


def recorded(machine_id: str, recorded_us: int, value: bytes) -> FrameRecord:
    """Return a frame's record."""
    headers = tuple(frame_headers(machine_id, None, recorded_us, value))
    return FrameRecord(machine_id.encode(), value, headers, timestamp_ms=recorded_us // 1000)


def _wav(samples: NDArray[np.float32]) -> bytes:
    whole = np.round(samples * 32767).astype(np.int16)
    return encode(whole, SignalFormat(RATE_HZ, len(whole), "pcm16"), "wav").value


def _stamp(recorded_us: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(recorded_us / 1e6, UTC).strftime("%Y%m%dT%H%M%SZ")
