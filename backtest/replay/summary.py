"""Summary: what a replay's frames and alerts amount to, by machine and in all."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np

from backtest.judging import Judged
from backtest.recording_metrics import auc
from backtest.score_store import ScoreStore
from backtest.tally import MachineTally, Tally, together
from recordings.cut import frame_samples
from schemas.times import MICROSECONDS, format_rfc3339


class ReplayTally(Tally):
    """Counts frames as they are judged, and remembers which they were and when."""

    def __init__(self, every_s: float = 0.0) -> None:
        super().__init__(every_s)
        self._identity = hashlib.sha256()
        self._from_us: int | None = None
        self._until_us = 0
        self.frames = 0

    def add(self, judged: Judged) -> None:
        """Count a frame and its alerts."""
        super().add(judged)
        row = judged.ordered.frame
        self._identity.update(bytes.fromhex(row.frame_id))
        self._from_us = row.recorded_us if self._from_us is None else min(self._from_us, row.recorded_us)
        self._until_us = max(self._until_us, row.recorded_us + round(row.duration_s * MICROSECONDS))
        self.frames += 1

    def result(self, store: ScoreStore) -> dict[str, Any]:
        """Return the figures; those that labels are needed for are None without any."""
        self.end()
        ranked = _Ranked(store)
        machines = {name: _figures(one, ranked.auc(name)) for name, one in sorted(self.machines.items())}
        counts = store.counts()
        return {
            "files": counts.files,
            **_figures(together(self.machines.values()), ranked.auc()),
            "auc_mean": _mean([one["auc"] for one in machines.values()]),
            "dead_letters": sum(letters.values()) if (letters := _letters(store)) else 0,
            "dead_letter_codes": letters,
            "left_out_s": round(_left_out_s(store), 3),
            "recorded_from": None if self._from_us is None else format_rfc3339(self._from_us),
            "recorded_until": None if self._from_us is None else format_rfc3339(self._until_us),
            "data_hash": self._identity.hexdigest(),
            "machines": machines,
        }


class _Ranked:
    """The scores of labelled recordings, ranked: of one machine, or of all together."""

    def __init__(self, store: ScoreStore) -> None:
        self._names: dict[str, int] = {}
        rows = ((self._names.setdefault(one.machine, len(self._names)), *one[2:4]) for one in store.recording_scores())
        self._rows = np.fromiter(rows, [("machine", "i8"), ("anomalous", "?"), ("score", "f8")])

    def auc(self, machine: str | None = None) -> float | None:
        """Return the area under the ROC curve over recordings, of one machine or all; None where one label lacks."""
        rows = self._rows
        if machine is not None:
            rows = rows[rows["machine"] == self._names.get(machine, -1)]
        return auc(rows["anomalous"], rows["score"])


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _figures(one: MachineTally, ranked: float | None) -> dict[str, Any]:
    figures, anomalous, normal = one.figures, one.labels["anomaly"], one.labels["normal"]
    labelled = anomalous + normal
    return {
        "frames": one.frames,
        "audio_s": round(one.audio_s, 6),
        "scored": one.status["scored"],
        "late": one.status["late"],
        "idle": one.status["idle"],
        "learning": one.learning,
        "unfamiliar": dict(one.unfamiliar),
        "condition_not_stated": one.untold,
        "alerts": one.alerts,
        "incidents": one.incidents,
        "sensor_alerts": one.sensor_alerts,
        "early_findings": one.early,
        "false_early": one.false_early if labelled else None,
        "false_alerts": figures.false_alerts if labelled else None,
        "unlabelled_alerts": figures.unlabelled_alerts,
        "normal_s": round(figures.normal_s, 6),
        "false_alerts_per_day": figures.false_alerts_a_day,
        "false_alerts_per_day_interval": figures.false_alerts_a_day_interval,
        "faults": figures.faults if labelled else None,
        "faults_found": figures.found if labelled else None,
        "faults_found_early": one.findings.found if labelled else None,
        "recall": figures.recall,
        "delay_s_median": figures.delay_s_median,
        "delay_s_max": figures.delay_s_max,
        "early_delay_s_median": one.findings.delay_s_median,
        "frame_recall": one.over["anomaly"] / anomalous if anomalous else None,
        "frame_false_positive_rate": one.over["normal"] / normal if normal else None,
        "auc": ranked,
        "normal_frames": normal,
        "anomalous_frames": anomalous,
        "highest_ratio": one.highest,
    }


def _letters(store: ScoreStore) -> dict[str, int]:
    return dict(store.db.execute("SELECT code, count(*) FROM letters GROUP BY code ORDER BY code").fetchall())


def _left_out_s(store: ScoreStore) -> float:
    query = "SELECT samples, rate_hz, frame_s, frames FROM files WHERE problem IS NULL AND samples IS NOT NULL"
    left: float = sum(
        max(0, samples - frames * frame_samples(frame_s, rate_hz)) / rate_hz
        for page in store.pages(query)
        for samples, rate_hz, frame_s, frames in page
        if frame_s is not None
    )
    return left
