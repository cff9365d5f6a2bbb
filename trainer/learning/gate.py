"""Whether a challenger takes over: what it and the champion would have alerted on the same live frames.

Both models' scores go through the pure core's rule, the alarm and the early finding, stream by stream. The challenger
takes over unless it is noisier (more alarms, where nobody confirmed a fault, than the champion raised or was promised)
or deafer: where a fault was confirmed, or an incident is still unanswered, it must have found what the champion found.

The archived frames of confirmed faults are a test before all that: whoever finds less of them than the champion isn't
heard any further.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Final

import numpy as np
from scipy import stats

from schemas import ModelMetadata, Score
from schemas.times import parse_rfc3339
from stream_app.pipeline.cusum import Shift, moved
from stream_app.pipeline.rule import Incident, Rule, step
from trainer.learning.spans import Span, any_holds
from whirr.durations import as_duration

AS_DEAF: Final = 0.8  # of the champion's frames in alarm or changed that a challenger must find, too
SURE: Final = 0.99
_NOTHING: Final = np.zeros(16)


@dataclass(slots=True)
class WouldAlert:
    """What one model would have alerted of one machine: its scores, through the worker's rule.

    Attributes:
        metadata: The model's.
        machine_id: Whose scores.
        rule: The route's.
        early_settle_s: Likewise.
        alarms: Recording time of each alarm's opening.
        found: Recording times of frames at which an incident was open, of either level.
        frames: Scored so far.
    """

    metadata: ModelMetadata
    machine_id: str
    rule: Rule = field(default_factory=Rule)
    early_settle_s: float = 600.0
    alarms: list[int] = field(default_factory=list)
    found: list[int] = field(default_factory=list)
    frames: int = 0
    first_us: int | None = None
    last_us: int | None = None
    _incidents: dict[str | None, Incident] = field(default_factory=dict)
    _shifts: dict[str | None, Shift] = field(default_factory=dict)

    def hear(self, score: Score) -> None:
        """Take a score of the model; those that move no alert state are left aside."""
        if score.status != "scored" or score.sensor_fault == "flat":
            return
        at_us = parse_rfc3339(score.recorded_at)
        self.frames += 1
        self.first_us = at_us if self.first_us is None else min(self.first_us, at_us)
        self.last_us = at_us if self.last_us is None else max(self.last_us, at_us)
        before = self._incidents.get(score.source, Incident())
        incident, transition = step(before, score.score / score.threshold, self.rule)
        if transition == "opened":
            self.alarms.append(at_us)
        self._incidents[score.source] = incident
        test = self.metadata.thresholds_for(self.machine_id).early
        shift = self._shifts.get(score.source, Shift())
        if test is not None and not score.unfamiliar:
            shift = moved(shift, score.score, _NOTHING, at_us, test, self.early_settle_s)
        self._shifts[score.source] = shift
        if incident.alert.on or shift.found:
            self.found.append(at_us)

    @property
    def span_s(self) -> float:
        """From its first scored frame to its last, in seconds."""
        return 0.0 if self.first_us is None or self.last_us is None else (self.last_us - self.first_us) / 1e6


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the gate says of a challenger.

    Attributes:
        passed: Whether it may take over.
        why: In words; what speaks against it, or what was compared.
        alarms: The champion's, and the challenger's, where no fault was confirmed.
    """

    passed: bool
    why: str
    alarms: tuple[int, int]


def judge(
    champion: WouldAlert,
    challenger: WouldAlert,
    *,
    faults: Sequence[Span],
    unanswered: Sequence[Span],
    normal: Sequence[Span],
    false_alarms_per_30_days: float,
) -> Judgement:
    """Return whether a challenger takes over after its time in shadow.

    Args:
        champion: What it would have alerted.
        challenger: What it would have alerted on the same frames.
        faults: Confirmed ones of the machine.
        unanswered: Its incidents that nobody has said anything of.
        normal: What people said was well: false alarms, and what follows a new normal.
        false_alarms_per_30_days: The promised rate.
    """
    here = [one for one in (*faults, *unanswered) if not _is_within(one, normal)]
    ours, theirs = (_outside(one.alarms, faults) for one in (champion, challenger))
    counts = len(ours), len(theirs)
    promised = most_alarms(false_alarms_per_30_days, challenger.span_s)
    if counts[1] > max(counts[0], promised):
        return Judgement(False, f"it would have raised {counts[1]} alarms, the champion {counts[0]}", counts)
    champions, challengers = (_inside(one.found, here) for one in (champion, challenger))
    if champions and len(challengers & champions) < AS_DEAF * len(champions):
        share = len(challengers & champions) / len(champions)
        what = "a confirmed fault" if any(any_holds(faults, at) for at in champions) else "an unanswered incident"
        return Judgement(False, f"it hears {share:.0%} of what the champion heard in {what}", counts)
    heard = as_duration(challenger.span_s)
    return Judgement(True, f"{counts[1]} alarms where the champion had {counts[0]}, in {heard}", counts)


def most_alarms(per_30_days: float, span_s: float) -> int:
    """Return how many alarms a promised rate explains in so many seconds, at 99 % (Poisson)."""
    expected = per_30_days * span_s / (30 * 86_400)
    return int(stats.poisson.ppf(SURE, expected)) if expected < inf else 0


def _outside(moments: Iterable[int], spans: Sequence[Span]) -> list[int]:
    return [at for at in moments if not any_holds(spans, at)]


def _inside(moments: Iterable[int], spans: Sequence[Span]) -> set[int]:
    return {at for at in moments if any_holds(spans, at)}


def _is_within(span: Span, others: Sequence[Span]) -> bool:
    return any(other.holds(span.from_us) for other in others)
