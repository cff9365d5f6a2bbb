"""What a sweep works on: the scores that a replay wrote."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from backtest.alerting import as_normal
from backtest.streams import ScoredStream, read_streams
from schemas.errors import RecordingError

SUMMARY: Final = "summary.json"


@dataclass(frozen=True, slots=True)
class ReplayedScores:
    """What a replay scored.

    Attributes:
        streams: All its streams; where nothing is labelled, every frame is taken for normal.
        labelled: Whether anything is.
        thresholds: Each machine's alert threshold at the time.
        moving: Frames that move the alert rule.
        left_out: Frames that don't: late, idle, flat.
        every_s: How far apart recordings are known to be; 0 where that isn't known.
    """

    streams: list[ScoredStream]
    labelled: bool
    thresholds: dict[str, float]
    moving: int
    left_out: int
    every_s: float


def load_scores(folder: Path) -> ReplayedScores:
    """Return the scores in a folder that ``whirr replay --out`` wrote.

    Raises:
        RecordingError: There are no scores, they lack something, or none of them could move an alert.
    """
    streams, labelled = as_normal(read_streams(folder))
    moving = sum(len(stream.moving) for stream in streams)
    left_out = sum(map(len, streams)) - moving
    if not moving:
        raise RecordingError(
            f"{str(folder)!r} holds no frame that could move an alert; there are {left_out} late, idle or flat"
        )
    thresholds = {stream.machine: stream.threshold for stream in streams}
    return ReplayedScores(streams, labelled, thresholds, moving, left_out, _every_s(folder / SUMMARY))


def _every_s(summary: Path) -> float:
    try:
        return float(orjson.loads(summary.read_bytes()).get("every_s") or 0.0)
    except (OSError, ValueError, AttributeError):
        return 0.0
