"""Summary: what a replay's frames and alerts amount to, by machine and in all; counted while they pass by."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backtest.replay.judging import Judged
from backtest.replay.store import Store
from recordings.cut import frame_samples
from schemas.alert import Alert
from schemas.times import format_rfc3339
from whirr.rates import per_day, per_day_interval

_OPENING = frozenset({"opened", "anomalous"})
_MICROSECONDS = 1_000_000


@dataclass(slots=True)
class _Fault:
    """A run of anomalous frames in one stream: when it began, and how long it took to be told, if it was."""

    onset_us: int
    delay_s: float | None = None


@dataclass(slots=True)
class _Machine:
    """What is counted of one machine."""

    frames: int = 0
    audio_s: float = 0.0
    status: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    unfamiliar: Counter[str] = field(default_factory=Counter)  # frames that the model was not trained for, by why
    over: Counter[str] = field(default_factory=Counter)  # frames above the threshold, by label
    alerts: int = 0
    incidents: int = 0
    false_alerts: int = 0
    unlabelled_alerts: int = 0
    sensor_alerts: int = 0
    normal_s: float = 0.0
    highest: float = 0.0  # score / threshold
    faults: list[_Fault] = field(default_factory=list)


class Tally:
    """Counts frames as they are judged: stream by stream, each in order."""

    def __init__(self) -> None:
        self._machines: defaultdict[str, _Machine] = defaultdict(_Machine)
        self._stream = -1
        self._fault: _Fault | None = None
        self._identity = hashlib.sha256()
        self._from_us: int | None = None
        self._until_us = 0
        self.frames = 0

    def add(self, judged: Judged) -> None:
        """Count a frame and its alerts."""
        row, score = judged.ordered.frame, judged.score
        machine = self._machines[score.machine_id]
        end_us = row.recorded_us + round(row.duration_s * _MICROSECONDS)
        self._identity.update(bytes.fromhex(row.frame_id))
        self._from_us = row.recorded_us if self._from_us is None else min(self._from_us, row.recorded_us)
        self._until_us = max(self._until_us, end_us)
        self.frames += 1
        label = judged.label or "none"
        machine.frames += 1
        machine.audio_s += row.duration_s
        machine.status[score.status] += 1
        machine.labels[label] += 1
        machine.unfamiliar.update(score.unfamiliar)
        machine.normal_s += row.duration_s if label == "normal" else 0.0
        ratio = score.score / score.threshold
        machine.over[label] += ratio > 1
        machine.highest = max(machine.highest, ratio)
        self._follow_fault(judged, machine)
        for alert in judged.alerts:
            self._count_alert(alert, label, end_us, machine)

    def _follow_fault(self, judged: Judged, machine: _Machine) -> None:
        row = judged.ordered.frame
        if row.stream != self._stream:
            self._stream, self._fault = row.stream, None
        if judged.label != "anomaly":
            self._fault = None
        elif self._fault is None:
            self._fault = _Fault(_onset_us(judged))
            machine.faults.append(self._fault)

    def _count_alert(self, alert: Alert, label: str, end_us: int, machine: _Machine) -> None:
        machine.alerts += 1
        if alert.state not in _OPENING:
            return
        if alert.kind == "sensor":
            machine.sensor_alerts += 1
            return
        machine.incidents += 1
        machine.false_alerts += label == "normal"
        machine.unlabelled_alerts += label == "none"
        if self._fault is not None and self._fault.delay_s is None:
            self._fault.delay_s = (end_us - self._fault.onset_us) / _MICROSECONDS

    def result(self, store: Store) -> dict[str, Any]:
        """Return the figures; those that labels are needed for are None without any."""
        ranked = _Ranked.of(store)
        machines = {name: _told(one, ranked.auc(name)) for name, one in sorted(self._machines.items())}
        together = _Machine()
        for one in self._machines.values():
            _merge(together, one)
        counts = store.counts()
        return {
            "files": counts.files,
            **_told(together, ranked.auc()),
            "auc_mean": _mean([one["auc"] for one in machines.values()]),
            "dead_letters": sum(letters.values()) if (letters := _letters(store)) else 0,
            "dead_letter_codes": letters,
            "left_out_s": round(_left_out_s(store), 3),
            "recorded_from": None if self._from_us is None else format_rfc3339(self._from_us),
            "recorded_until": None if self._from_us is None else format_rfc3339(self._until_us),
            "data_hash": self._identity.hexdigest(),
            "machines": machines,
        }


@dataclass(frozen=True, slots=True)
class _Ranked:
    """Labelled recordings' scores: whose, anomalous or not, and the mean over their frames, one entry a recording."""

    machines: NDArray[np.int64]
    anomalous: NDArray[np.bool_]
    scores: NDArray[np.float64]
    names: dict[str, int]

    @classmethod
    def of(cls, store: Store) -> _Ranked:
        """Return what the store holds."""
        query = (
            "SELECT s.id, s.machine, r.label = 'anomaly', (SELECT avg(f.score) FROM frames f WHERE f.file = r.id) "
            "FROM files r JOIN streams s ON s.id = r.stream WHERE r.label IS NOT NULL AND r.problem IS NULL"
        )
        names: dict[str, int] = {}
        parts: list[NDArray[np.float64]] = [np.zeros((0, 3))]
        for page in store.pages(query):
            rows = [
                (names.setdefault(machine, len(names)), anomalous, mean) for _, machine, anomalous, mean in page
                if mean is not None
            ]  # fmt: skip
            parts.append(np.array(rows, np.float64).reshape(-1, 3))
        together = np.concatenate(parts)
        return cls(together[:, 0].astype(np.int64), together[:, 1].astype(bool), together[:, 2], names)

    def auc(self, machine: str | None = None) -> float | None:
        """Return the area under the ROC curve over recordings, of one machine or all; None where one label lacks."""
        mine = slice(None) if machine is None else self.machines == self.names.get(machine, -1)
        anomalous, scores = self.anomalous[mine], self.scores[mine]
        return area_under_curve(scores[~anomalous], scores[anomalous])


def area_under_curve(normal: NDArray[np.float64], anomalous: NDArray[np.float64]) -> float | None:
    """Return the probability that an anomalous score is above a normal one, ties counting half (Mann and Whitney).

    Args:
        normal: float64 [recording].
        anomalous: float64 [recording].
    """
    if not len(normal) or not len(anomalous):
        return None
    ordered = np.sort(normal)
    below = np.searchsorted(ordered, anomalous, "left").sum() + np.searchsorted(ordered, anomalous, "right").sum()
    return float(below / 2 / len(normal) / len(anomalous))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _onset_us(judged: Judged) -> int:
    ordered = judged.ordered
    if ordered.onset_s is None or ordered.start_us is None:
        return ordered.frame.recorded_us
    return max(ordered.frame.recorded_us, ordered.start_us + round(ordered.onset_s * _MICROSECONDS))


def _merge(into: _Machine, one: _Machine) -> None:
    for name in ("frames", "audio_s", "alerts", "incidents", "false_alerts", "unlabelled_alerts", "sensor_alerts"):
        setattr(into, name, getattr(into, name) + getattr(one, name))
    for name in ("status", "labels", "over", "unfamiliar"):
        getattr(into, name).update(getattr(one, name))
    into.normal_s += one.normal_s
    into.highest = max(into.highest, one.highest)
    into.faults += one.faults


def _told(one: _Machine, auc: float | None) -> dict[str, Any]:
    delays = [fault.delay_s for fault in one.faults if fault.delay_s is not None]
    labelled = one.labels["normal"] + one.labels["anomaly"]
    anomalous, normal = one.labels["anomaly"], one.labels["normal"]
    return {
        "frames": one.frames,
        "audio_s": round(one.audio_s, 6),
        "scored": one.status["scored"],
        "late": one.status["late"],
        "idle": one.status["idle"],
        "unfamiliar": dict(one.unfamiliar),
        "alerts": one.alerts,
        "incidents": one.incidents,
        "sensor_alerts": one.sensor_alerts,
        "false_alerts": one.false_alerts if labelled else None,
        "unlabelled_alerts": one.unlabelled_alerts,
        "normal_s": round(one.normal_s, 6),
        "false_alerts_per_day": per_day(one.false_alerts, one.normal_s),
        "false_alerts_per_day_interval": per_day_interval(one.false_alerts, one.normal_s),
        "faults": len(one.faults) if labelled else None,
        "faults_found": len(delays) if labelled else None,
        "recall": len(delays) / len(one.faults) if one.faults else None,
        "delay_s_median": median(delays) if delays else None,
        "delay_s_max": max(delays, default=None),
        "frame_recall": one.over["anomaly"] / anomalous if anomalous else None,
        "frame_false_positive_rate": one.over["normal"] / normal if normal else None,
        "auc": auc,
        "normal_frames": normal,
        "anomalous_frames": anomalous,
        "highest_ratio": one.highest,
    }


def _letters(store: Store) -> dict[str, int]:
    return dict(store.db.execute("SELECT code, count(*) FROM letters GROUP BY code ORDER BY code").fetchall())


def _left_out_s(store: Store) -> float:
    query = "SELECT samples, rate_hz, frame_s, frames FROM files WHERE problem IS NULL AND samples IS NOT NULL"
    left: float = sum(
        max(0, samples - frames * frame_samples(frame_s, rate_hz)) / rate_hz
        for page in store.pages(query)
        for samples, rate_hz, frame_s, frames in page
        if frame_s is not None
    )
    return left
