"""What a machine's frames and alerts amount to, counted while they pass by: stream by stream, each in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from backtest.alerting import AlertFigures, LabelledWatch, total
from backtest.judging import Judged
from backtest.streams import OPENING, IncidentSpan, ScoredStream, StreamBuilder
from schemas.alert import Alert

_SUMMED: Final = (
    *("frames", "audio_s", "untold", "learning"),
    *("alerts", "incidents", "sensor_alerts", "early", "false_early"),
)


@dataclass(slots=True)
class MachineTally:
    """What came of one machine, or of several together.

    Attributes:
        frames, audio_s: Frames, and seconds of signal in them.
        status, labels, over: Frames by status, by label, and by label those above the threshold.
        unfamiliar: Frames that the model was not trained for, by why.
        untold: Frames without the speed or load that their model judges by.
        learning: Frames of a machine that no model judges yet.
        alerts: Alerts of any kind and state.
        incidents, sensor_alerts: Incidents of the machine, and of its sensor, that opened.
        early, false_early: Early findings, and those of them at frames labelled normal.
        highest: The largest score as a multiple of its threshold.
        figures: What its alarms amount to.
        findings: The same of incidents from their first level on: alarms and early findings.
        streams, spans, finding_spans: Its streams and incidents where they are kept, as :meth:`LabelledWatch.figures`
            takes them.
    """

    frames: int = 0
    audio_s: float = 0.0
    status: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    over: Counter[str] = field(default_factory=Counter)
    unfamiliar: Counter[str] = field(default_factory=Counter)
    untold: int = 0
    learning: int = 0
    alerts: int = 0
    incidents: int = 0
    sensor_alerts: int = 0
    early: int = 0
    false_early: int = 0
    highest: float = 0.0
    figures: AlertFigures = field(default_factory=AlertFigures)
    findings: AlertFigures = field(default_factory=AlertFigures)
    streams: list[ScoredStream] = field(default_factory=list)
    spans: list[IncidentSpan] = field(default_factory=list)
    finding_spans: list[IncidentSpan] = field(default_factory=list)

    def add(self, judged: Judged) -> None:
        """Count a frame and its alerts."""
        score, label = judged.score, judged.label or "none"
        self.frames += 1
        self.audio_s += judged.ordered.frame.duration_s
        self.status[score.status] += 1
        self.labels[label] += 1
        self.unfamiliar.update(score.unfamiliar)
        self.untold += judged.untold
        self.learning += score.idle_reason == "learning"
        ratio = score.score / score.threshold
        self.over[label] += ratio > 1
        self.highest = max(self.highest, ratio)
        for alert in judged.alerts:
            self._count(alert, label)

    def _count(self, alert: Alert, label: str) -> None:
        self.alerts += 1
        if alert.state == "changed":
            self.early += 1
            self.false_early += label == "normal"
        if alert.state in OPENING:
            self.sensor_alerts += alert.kind == "sensor"
            self.incidents += alert.kind == "machine"


def together(machines: Iterable[MachineTally]) -> MachineTally:
    """Return the sums over machines."""
    summed, listed = MachineTally(), list(machines)
    for one in listed:
        for name in _SUMMED:
            setattr(summed, name, getattr(summed, name) + getattr(one, name))
        for name in ("status", "labels", "over", "unfamiliar"):
            getattr(summed, name).update(getattr(one, name))
        summed.highest = max(summed.highest, one.highest)
    summed.figures = total(one.figures for one in listed)
    summed.findings = total(one.findings for one in listed)
    return summed


class Tally:
    """Counts frames as they are judged: machine by machine, stream by stream, each in order.

    Args:
        every_s: How far apart recordings are known to be; 0 where that isn't known.
        keep: Keep the streams of all machines; otherwise only those of one are in memory.
    """

    def __init__(self, every_s: float = 0.0, *, keep: bool = False) -> None:
        self.machines: dict[str, MachineTally] = {}
        self._every_s, self._keep = every_s, keep
        self._machine: MachineTally | None = None
        self._builder: StreamBuilder | None = None
        self._stream = -1

    def add(self, judged: Judged) -> None:
        """Count a frame and its alerts."""
        machine = self.machines.get(judged.score.machine_id)
        if machine is None:
            self.end()
            machine = self._machine = self.machines[judged.score.machine_id] = MachineTally()
        if self._builder is None or judged.ordered.frame.stream != self._stream:
            self._end_stream()
            self._stream, self._builder = judged.ordered.frame.stream, StreamBuilder()
        machine.add(judged)
        self._builder.add(judged)

    def end(self) -> None:
        """Take note that the machine's frames, or all frames, have passed."""
        self._end_stream()
        machine = self._machine
        if machine is not None:
            watch = LabelledWatch.of(machine.streams, self._every_s)
            machine.figures, machine.findings = watch.figures(machine.spans), watch.figures(machine.finding_spans)
            if not self._keep:
                machine.streams, machine.spans, machine.finding_spans = [], [], []
        self._machine = None

    def _end_stream(self) -> None:
        if self._builder is None or self._machine is None:
            return
        start = sum(map(len, self._machine.streams))
        self._machine.streams.append(self._builder.build())
        kept = ((self._machine.spans, self._builder.spans), (self._machine.finding_spans, self._builder.findings))
        for spans, found in kept:
            spans += [IncidentSpan(start + first, start + until) for first, until in found]
        self._builder = None
