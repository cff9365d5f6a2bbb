"""What a model says of archived frames: the pure core's scores, and how well these find confirmed faults."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from archive import Archive, ArchiveEntry
from schemas import FrameRecord, frame_headers
from stream_app.pipeline import Computed, Engine, Model, Router
from whirr.settings import Route

LEAST_NORMALS: Final = 20  # fewer give no AUC
_AT_ONCE: Final = 32


@dataclass(frozen=True, slots=True)
class FaultTest:
    """How a model judges the frames of confirmed faults.

    Attributes:
        frames: Of the faults, scored.
        covered: Share of them above the machine's alert threshold.
        normals: Normal frames that no model has learnt, scored.
        auc: Of the faults against those; None where they are too few.
    """

    frames: int
    covered: float
    normals: int
    auc: float | None


def archived_scores(
    model: Model, archive: Archive, entries: Sequence[ArchiveEntry]
) -> tuple[list[int], NDArray[np.float64]]:
    """Score frames as a worker would; those that are gone, or no frames for the model, are left out.

    Args:
        model: What scores.
        archive: Where they are.
        entries: Of one machine, in the order of time.

    Returns:
        The recording times of the frames that have a score, and the scores, float64 [frame].
    """
    engine = Engine(Router.from_routes([Route(match="*", model="model")], {"model": model}))
    times: list[int] = []
    scores: list[float] = []
    for records in _records(archive, entries):
        for computed in engine.compute(records):
            if isinstance(computed, Computed) and computed.sensor_fault is None:
                times.append(computed.frame.recorded_us)
                scores.append(computed.score)
    return times, np.array(scores, np.float64)


def fault_test(
    model: Model, archive: Archive, faults: Sequence[ArchiveEntry], normals: Sequence[ArchiveEntry]
) -> FaultTest | None:
    """Return how a model judges the frames of confirmed faults; None where none of them can be scored."""
    _, bad = archived_scores(model, archive, faults)
    if not len(bad):
        return None
    _, good = archived_scores(model, archive, normals)
    limit = model.metadata.thresholds_for(faults[0].machine).alert_threshold
    return FaultTest(len(bad), float((bad > limit).mean()), len(good), _auc(good, bad))


def _auc(normals: NDArray[np.float64], anomalies: NDArray[np.float64]) -> float | None:
    if len(normals) < LEAST_NORMALS:
        return None
    from sklearn.metrics import roc_auc_score  # takes a second

    labels = np.concatenate([np.zeros(len(normals)), np.ones(len(anomalies))])
    return float(roc_auc_score(labels, np.concatenate([normals, anomalies])))


def _records(archive: Archive, entries: Sequence[ArchiveEntry]) -> Iterator[list[FrameRecord]]:
    """Yield some frames at a time, as they came from Kafka."""
    rest = iter(entries)
    while some := list(islice(rest, _AT_ONCE)):
        with tempfile.TemporaryDirectory(prefix="whirr-score-") as folder:
            there = set(archive.fetch(some, Path(folder)).paths)
            paths = {one.path: Path(folder) / one.path for one in some}
            yield [_record(one, paths[one.path].read_bytes()) for one in some if paths[one.path] in there]


def _record(entry: ArchiveEntry, value: bytes) -> FrameRecord:
    headers = frame_headers(entry.machine, entry.source, entry.recorded_us, value, condition=entry.condition)
    return FrameRecord(entry.machine.encode(), value, tuple(headers), entry.recorded_us // 1000 + 1)
