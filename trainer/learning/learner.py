"""What one machine needs next: a fold over what was heard and said of it, asked at any time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from schemas import Alert, ModelMetadata, Score
from schemas.times import parse_rfc3339
from schemas.verdict import Verdict
from stream_app.pipeline.rule import Rule
from stream_app.pipeline.statistics import STATISTICS
from trainer.learning.drift import DAY_US, DailyMedians, Drift, drifts
from trainer.learning.drift_incidents import DriftIncidents
from trainer.learning.gate import AS_DEAF, Judgement, WouldAlert, judge, most_alarms
from trainer.learning.learning_rule import HOUR_US, LearningRule
from trainer.learning.live_scores import LiveScores
from trainer.learning.machine_incidents import MachineIncidents, Unlearnable
from trainer.learning.spans import Span, any_holds, merged
from trainer.learning.stability import MOST_NEW
from trainer.live_days import LiveDay
from whirr.durations import as_duration

Cause = Literal["fault_learnt", "new_machine", "repaired", "new_normal", "false_alarm", "drift", "maturing", "schedule"]
What = Literal["challenge", "promote", "drop", "roll_back", "anchor"]
URGENCY: Final[tuple[Cause, ...]] = (
    "fault_learnt",  # what was learnt is wrong
    "new_machine",  # nothing hears a fault of it
    "repaired",
    "new_normal",
    "false_alarm",
    "drift",
    "maturing",
    "schedule",
)
LEAST_NEW: Final = 0.5  # of the time since the last training, for another one to be worth it


@dataclass(frozen=True, slots=True, kw_only=True)
class LearntVersion:
    """A trained model of one machine, as the registry knows it.

    Attributes:
        number: Of the registered version.
        metadata: The model's.
        from_us: Since when it is champion, or challenger, microseconds since the epoch.
        baseline: What of the machine's time it was learnt from.
        job_id: Of the job that trained it; '' for a model that a person trained.
        left_out: What of that time it was not learnt from.
        direct: Whether it takes over at once, with nothing to be compared with: as its job had it.
        faults_covered: The shares of the confirmed faults' frames that it finds, and that the champion of then found.
    """

    number: int
    metadata: ModelMetadata
    from_us: int
    baseline: Span
    job_id: str = ""
    left_out: tuple[Span, ...] = ()
    direct: bool = False
    faults_covered: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineModels:
    """What the registry holds of one machine.

    Attributes:
        champion: Serves now; None: the machine is learning.
        waiting: Trained by a job and neither challenger nor champion yet, nor dropped; the newest such one.
        challenger: In shadow.
        before: The champion before, while it goes on in shadow on probation of the present one.
        anchor: The first mature one of this baseline.
        refused: Numbers of versions that must not be promoted again.
        done: Ids of jobs that ended in a version, whatever became of that.
        unreadable: Why none of it can be read now, or '': nothing is decided then.
    """

    champion: LearntVersion | None = None
    waiting: LearntVersion | None = None
    challenger: LearntVersion | None = None
    before: LearntVersion | None = None
    anchor: LearntVersion | None = None
    refused: frozenset[int] = frozenset()
    done: frozenset[str] = frozenset()
    unreadable: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A training that a machine needs.

    Attributes:
        job_id: The same for the same need: a job that was done is not done again.
        machine_id: Whose.
        cause: Why, in a word.
        why: In a sentence.
        span: From when until when is learnt.
        left_out: What of that is not.
        anchored: Whether what has left the anchor is left out, too.
        direct: Whether its model takes over at once: there is none that could be compared.
        faults: Confirmed ones of the machine, whenever they were: they test what was learnt.
        accepted_us: Until then a person says that the machine is well, wherever it has come from its anchor.
        live: Days of that span, as the models that served scored them.
    """

    job_id: str
    machine_id: str
    cause: Cause
    why: str
    span: Span
    left_out: tuple[Unlearnable, ...] = ()
    anchored: bool = False
    direct: bool = False
    faults: tuple[Span, ...] = ()
    accepted_us: int | None = None
    live: tuple[LiveDay, ...] = ()

    def learnt_until_us(self, left_anchor_us: int | None) -> int | None:
        """Return where learning ends at a machine that has left its anchor: there, or where a person says it is well.

        Args:
            left_anchor_us: Since when it has; None: it has not, and the whole span is learnt.
        """
        return left_anchor_us if left_anchor_us is None else max(left_anchor_us, self.accepted_us or 0)

    def live_until(self, until_us: int | None) -> list[LiveDay]:
        """Return the live days that were over where learning ends; all, today's too, where that is the span's end."""
        if until_us is None or (self.span.until_us is not None and until_us >= self.span.until_us):
            return list(self.live)
        return [one for one in self.live if (one.day + 1) * DAY_US <= until_us]

    @property
    def urgency(self) -> int:
        """0 is the most urgent."""
        return URGENCY.index(self.cause)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A change of what serves a machine.

    ``challenge``: let a version that was trained score in shadow. ``promote``: make it champion. ``drop``: end its time
    in shadow. ``roll_back``: make the champion before champion again. ``anchor``: hold later ones against it.
    ``direct``: it begins a baseline, with nothing before it to compare it with.
    """

    what: What
    machine_id: str
    version: int
    why: str
    direct: bool = False


@dataclass(slots=True)
class _HeardVersion:
    """What a version would have alerted since it is heard."""

    number: int
    would: WouldAlert


@dataclass(slots=True)
class Learner:
    """One machine.

    Feed it scores, alerts and verdicts in any interleaving; each answer follows from what was heard until then.

    Attributes:
        machine_id: Which.
        rule: The numbers.
        alert_rule: The route's.
        registry: What the registry holds; kept up to date by the caller.
        incidents: Of the machine.
        drifting: What was told of its drifts, and is to be.
    """

    machine_id: str
    rule: LearningRule = field(default_factory=LearningRule)
    alert_rule: Rule = field(default_factory=Rule)
    registry: MachineModels = field(default_factory=MachineModels)
    incidents: MachineIncidents = field(default_factory=MachineIncidents)
    first_us: int | None = None
    last_us: int | None = None
    said_us: int = 0
    drifting: DriftIncidents = field(default_factory=DriftIncidents)
    _champion: _HeardVersion | None = None
    _shadow: _HeardVersion | None = None
    _days: DailyMedians = field(default_factory=lambda: DailyMedians(("score",)))
    _days_of: int = 0
    _looked_day: int = -1
    _frames_of: dict[int, int] = field(default_factory=dict)
    _live: LiveScores = field(init=False)

    def __post_init__(self) -> None:
        self._live = LiveScores(self.alert_rule.k, self.alert_rule.n)

    def hear(self, score: Score) -> None:
        """Take a score of the machine, the champion's or a shadow's."""
        at_us = parse_rfc3339(score.recorded_at)
        if score.shadow:
            self._hear_shadow(score, at_us)
            return
        if score.status == "scored" or score.idle_reason == "learning":
            self.heard(at_us)
        champion = self.registry.champion
        if champion is None or score.status != "scored" or score.model.version != champion.metadata.version:
            return
        self._live.add(at_us, score.source, score.score, champion.metadata.thresholds_for(self.machine_id))
        shadow = self._in_shadow
        if shadow is not None and at_us >= _compared_from_us(champion, shadow):
            if self._champion is None or self._champion.number != champion.number or self._shadow_is_new(shadow):
                self._champion = _HeardVersion(champion.number, self._would(champion))
            self._champion.would.hear(score)
        if champion.number != self._days_of:
            self._days, self._days_of = DailyMedians(("score",)), champion.number
        if not any_holds((one.span for one in self.incidents.unlearnable(self.rule.margin_us)), at_us):
            self._days.add(at_us, (score.score,))

    def _hear_shadow(self, score: Score, at_us: int) -> None:
        shadow, champion = self._in_shadow, self.registry.champion
        if shadow is None or champion is None or at_us < _compared_from_us(champion, shadow):
            return
        if score.model.version == shadow.metadata.version:
            if self._shadow is None or self._shadow.number != shadow.number:
                self._shadow = _HeardVersion(shadow.number, self._would(shadow))
            self._shadow.would.hear(score)

    @property
    def _in_shadow(self) -> LearntVersion | None:
        return self.registry.challenger or self.registry.before

    def heard(self, at_us: int) -> None:
        """Take note that the machine ran, and was recorded, at a time."""
        self.first_us = at_us if self.first_us is None else min(self.first_us, at_us)
        self.last_us = at_us if self.last_us is None else max(self.last_us, at_us)
        day = at_us // (24 * HOUR_US)
        self._frames_of[day] = self._frames_of.get(day, 0) + 1

    def alert(self, alert: Alert) -> None:
        """Take an alert of the machine."""
        self.incidents.hear(alert)
        if alert.kind == "drift" and alert.drift:  # one that doesn't say what has moved is no word of ours
            self.drifting.hear(alert)

    def say(self, verdict: Verdict) -> None:
        """Take a verdict on one of the machine's incidents."""
        self.incidents.say(verdict)
        if verdict.verdict == "false_alarm":
            self.said_us = max(self.said_us, parse_rfc3339(verdict.time))

    def begins_us(self) -> int | None:
        """Return when the machine's present baseline begins: where a person said so, else with its first frame."""
        asked, champion, known_us = self.incidents.asked(), self.registry.champion, self.first_us
        if known_us is not None and champion is not None and champion.job_id:
            known_us = min(known_us, champion.baseline.from_us)  # scores are not kept as long as recordings
        if asked is None or known_us is None:
            return known_us if asked is None else asked[0]
        return max(asked[0], known_us)  # what somebody says of the time before is no time that it was heard

    def frames_since(self, from_us: int) -> int:
        """Return how many frames were heard since a moment, to the day."""
        day = from_us // (24 * HOUR_US)
        return sum(count for one, count in self._frames_of.items() if one >= day)

    def drifts(self) -> list[Drift]:
        """Return what has drifted since the champion serves."""
        days, medians = self._days.days()
        by_name = {name: medians[:, number] for number, name in enumerate(self._days.names)}
        return drifts(days, by_name, false_per_30_days=self.rule.false_drifts_per_30_days)

    def job(self, now_us: int, share_of_new: float = 0.0, of_statistics: Sequence[Drift] = ()) -> Job | None:
        """Return the training that the machine needs now, the most urgent one; None: none.

        Args:
            now_us: The time.
            share_of_new: Of the last frames heard, how many are unlike all before (:mod:`.stability`).
            of_statistics: What of the machine's statistics has drifted since the champion's baseline.
        """
        registry = self.registry
        if registry.challenger is not None or registry.waiting is not None or registry.unreadable:
            return None  # one at a time
        if self.last_us is None:
            return None
        begins_us, champion = self.begins_us(), self.registry.champion
        if begins_us is None:
            return None
        if champion is None or self._is_over(champion):
            needs = self._first(now_us, begins_us, share_of_new)
        else:
            needs = self._next(now_us, champion, of_statistics)
        return next((one for one in needs if one.job_id not in self.registry.done), None)

    def may_drift(self, now_us: int) -> bool:
        """Whether it is time to look for a drift again: once a day, since a test counts on that."""
        return now_us // DAY_US != self._looked_day

    def look(self, now_us: int, of_statistics: Sequence[Drift]) -> None:
        """Look for a drift of the score, and take what of the statistics has drifted: once a day."""
        self._looked_day = now_us // DAY_US
        if (champion := self.registry.champion) is not None:
            days, _ = self._days.days()
            from_us = int(days[0]) * DAY_US if len(days) else None
            # All of them together are told wrongly as seldom as promised.
            level = self.rule.false_drifts_per_30_days / 30 / (1 + len(STATISTICS))
            found = self.drifts()
            self.drifting.look(self._looked_day, champion.number, found, of_statistics, level=level, from_us=from_us)

    def untold(self, now_us: int) -> list[Alert]:
        """Return what is to be told of the machine's drifts."""
        if self.registry.unreadable:
            return []
        champion, last_us = self.registry.champion, self.last_us or now_us
        if champion is not None and self._is_over(champion):
            champion = None  # what has moved from its baseline says nothing of the one that is learnt
        return list(self.drifting.untold(self.machine_id, champion, self.incidents, last_us, now_us))

    def change(self, now_us: int) -> Decision | None:
        """Return what is to become of what was trained, of the challenger, or of a new champion; None: nothing yet."""
        if (new := self.registry.waiting) is not None:
            if new.direct:
                return replace(self._decided("promote", new, "there is nothing to compare it with"), direct=True)
            return self._decided("challenge", new, "it was trained, and is heard in shadow now")
        if self.registry.challenger is not None:
            return self._judge_challenger(self.registry.challenger, now_us)
        champion = self.registry.champion
        return None if champion is None else self._look_after(champion, now_us)

    def _look_after(self, champion: LearntVersion, now_us: int) -> Decision | None:
        learnt_h, before = _hours(champion.baseline), self.registry.before
        if self.registry.anchor is None and learnt_h >= self.rule.mature_h:
            why = f"it was learnt from {as_duration(3600 * learnt_h)}, the first so long"
            return self._decided("anchor", champion, why)
        if before is not None and not self.on_probation(now_us):
            return self._decided("drop", before, f"version {champion.number} has stood its probation")
        return None if before is None else self._judge_champion(champion)

    def _decided(self, what: What, version: LearntVersion, why: str) -> Decision:
        return Decision(what=what, machine_id=self.machine_id, version=version.number, why=why)

    def on_probation(self, now_us: int) -> bool:
        """Whether the champion is so new that the one before goes on in shadow."""
        champion = self.registry.champion
        return (
            champion is not None
            and self.registry.before is not None
            and now_us < champion.from_us + self.rule.probation_h * HOUR_US
        )

    def _is_over(self, version: LearntVersion) -> bool:
        """Whether what a version was learnt from is over: a person says that it begins anew."""
        asked = self.incidents.asked()
        return asked is not None and version.baseline.from_us < asked[0]

    def _first(self, now_us: int, begins_us: int, share_of_new: float) -> Iterator[Job]:
        """Yield the first training of a machine that nothing hears a fault of, once enough was heard."""
        heard_h = (now_us - begins_us) / HOUR_US
        if heard_h < self.rule.learn_h or self.frames_since(begins_us) < self.rule.learn_frames:
            return
        unstable = share_of_new > MOST_NEW
        if unstable and heard_h < self.rule.unstable_factor * self.rule.learn_h:
            return
        why = f"heard for {as_duration(3600 * heard_h)}" + (", though new states keep coming" if unstable else "")
        asked = self.incidents.asked()
        cause: Cause = "new_machine" if asked is None else asked[1]
        yield self._made(cause, now_us, f"{begins_us}", why, direct=True)

    def _next(self, now_us: int, champion: LearntVersion, of_statistics: Sequence[Drift]) -> Iterator[Job]:
        """Yield the trainings that could make a better champion, the most urgent first."""
        rule, version = self.rule, f"{champion.number}"
        faults = [one.span for one in self.incidents.unlearnable(0) if one.why == "fault"]
        if any(one.meets(champion.baseline) and not any_holds(champion.left_out, one.from_us) for one in faults):
            yield self._made("fault_learnt", now_us, version, "it has learnt what was confirmed as a fault")
        if self.on_probation(now_us):
            return
        begun_us, learnt_us = champion.baseline.from_us, champion.baseline.until_us or now_us
        if learnt_us < self.said_us <= now_us - rule.verdict_h * HOUR_US:
            yield self._made("false_alarm", now_us, f"{self.said_us}", "a person says that an alarm was false")
        if self._learnable_us(Span(learnt_us, now_us)) < LEAST_NEW * (now_us - learnt_us):
            return  # most of what came since may not be learnt
        learnt_h, could_h = (learnt_us - begun_us) / HOUR_US, (now_us - begun_us) / HOUR_US
        for worst in sorted((*self.drifts(), *of_statistics), key=lambda one: one.p)[:1]:
            why = f"{worst.name} has moved by {worst.deviations:+.1f} deviations between days"
            yield self._made("drift", now_us, f"{version}:{worst.since_us}", why)
        if learnt_h < rule.mature_h and could_h >= rule.growth * learnt_h:
            why = f"learnt from {as_duration(3600 * learnt_h)} of {as_duration(3600 * could_h)}"
            yield self._made("maturing", now_us, version, why)
        if could_h - learnt_h >= rule.retrain_h:
            yield self._made("schedule", now_us, version, f"learnt {as_duration(3600 * (could_h - learnt_h))} ago")

    def _learnable_us(self, span: Span) -> int:
        """Return how much of a span may be learnt."""
        assert span.until_us is not None
        left_out = merged(one.span for one in self.incidents.unlearnable(self.rule.margin_us))
        cut = (
            max(min(one.until_us or span.until_us, span.until_us) - max(one.from_us, span.from_us), 0)
            for one in left_out
        )
        return span.until_us - span.from_us - sum(cut)

    def _made(self, cause: Cause, now_us: int, key: str, why: str, *, direct: bool = False) -> Job:
        begins_us = self.begins_us() or 0
        span = Span(begins_us, now_us)
        left_out = tuple(one for one in self.incidents.unlearnable(self.rule.margin_us) if one.span.meets(span))
        return Job(
            job_id=hashlib.sha256(f"{self.machine_id}\0{cause}\0{key}".encode()).hexdigest()[:32],
            machine_id=self.machine_id,
            cause=cause,
            why=why,
            span=span,
            left_out=left_out,
            anchored=self.registry.anchor is not None and not direct,
            direct=direct,
            faults=tuple(span for span, _ in self.incidents.faults()),
            accepted_us=self.incidents.accepted_us(),
            live=() if direct else self._live.days(begins_us, (one.span for one in left_out)),
        )

    def _judge_challenger(self, challenger: LearntVersion, now_us: int) -> Decision | None:
        if self._is_over(challenger):  # until it is gone, nothing that is normal now would be learnt
            return self._decided("drop", challenger, "a person says that the machine begins anew")
        if (covered := challenger.faults_covered) is not None and covered[0] < AS_DEAF * covered[1]:
            why = f"of the confirmed faults' frames it finds {covered[0]:.0%}, the champion {covered[1]:.0%}"
            return self._decided("drop", challenger, why)
        shadow_h = (now_us - challenger.from_us) / HOUR_US
        judgement = self._judgement(challenger)
        if shadow_h >= self.rule.shadow_h and judgement is not None and judgement.passed:
            if not self.rule.promote or challenger.number in self.registry.refused:
                return None
            return self._decided("promote", challenger, judgement.why)
        if shadow_h >= self.rule.shadow_most_h:
            why = "too few frames were heard" if judgement is None else judgement.why
            return self._decided("drop", challenger, why)
        return None

    def _judgement(self, challenger: LearntVersion) -> Judgement | None:
        """Return the gate's word on the challenger; None while too little was heard of both."""
        ours, theirs = self._champion, self._shadow
        if ours is None or theirs is None or theirs.number != challenger.number:
            return None
        if min(ours.would.frames, theirs.would.frames) < self.rule.shadow_frames:
            return None
        return judge(
            ours.would,
            theirs.would,
            faults=[span for span, _ in self.incidents.faults()],
            unanswered=self.incidents.spans_of(None),
            normal=self.incidents.spans_of("false_alarm", "new_normal"),
            false_alarms_per_30_days=self.rule.false_alarms_per_30_days,
        )

    def _judge_champion(self, champion: LearntVersion) -> Decision | None:
        """A new champion that alerts far more than its time in shadow let expect, where the one before doesn't."""
        ours, before = self._champion, self._shadow
        if ours is None or before is None:
            return None
        faults = [span for span, _ in self.incidents.faults()]
        alarms = [at for at in ours.would.alarms if not any_holds(faults, at)]
        allowed = most_alarms(self.rule.false_alarms_per_30_days, max(ours.would.span_s, 3600.0))
        others = set(before.would.found)
        lonely = [at for at in alarms if at not in others]
        if len(alarms) > max(allowed, 1) and len(lonely) > max(allowed, 1):
            why = f"{len(alarms)} alarms since it took over, {len(lonely)} of which the one before does not share"
            return self._decided("roll_back", champion, why)
        return None

    def _shadow_is_new(self, shadow: LearntVersion) -> bool:
        return self._shadow is None or self._shadow.number != shadow.number

    def _would(self, version: LearntVersion) -> WouldAlert:
        return WouldAlert(version.metadata, self.machine_id, self.alert_rule)


def _hours(span: Span) -> float:
    return 0.0 if span.until_us is None else (span.until_us - span.from_us) / HOUR_US


def _compared_from_us(champion: LearntVersion, shadow: LearntVersion) -> int:
    """Return since when both are heard: what the champion alerted before is no part of the comparison."""
    return max(champion.from_us, shadow.from_us)
