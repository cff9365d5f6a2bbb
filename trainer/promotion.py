"""The gate between challenger and champion: what a challenger must not be worse in.

Each version carries how many of its held-out normal frames exceeded its alert threshold, and of how many. The
challenger's share may exceed the champion's by what counting alone explains: 1.645 standard errors of the difference of
two binomial shares (one-sided 5 %), taken at their common share with one frame of each kind added, so that a count of
0 has an error too. Where there is labelled data, the challenger's AUC may be lower by at most 0.01.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from schemas import ModelMetadata

Judge = Callable[[Path], float]
"""Returns a model file's AUC on labelled recordings, 0 to 1."""

STANDARD_ERRORS = 1.645
AUC_TOLERANCE = 0.01


@dataclass(frozen=True, slots=True)
class FalseAlarmCount:
    """Held-out normal frames, and how many of them exceed the alert threshold."""

    normals: int
    above: int

    @property
    def rate(self) -> float:
        """The share that exceeds, 0 to 1."""
        return self.above / self.normals

    def __str__(self) -> str:
        return f"{self.rate:.2%} ({self.above} of {self.normals} held-out normal frames)"


def false_alarms(runs: Mapping[str | None, Sequence[NDArray[np.float64]]], metadata: ModelMetadata) -> FalseAlarmCount:
    """Count held-out normal frames above their machine's alert threshold.

    Args:
        runs: The frames' scores per machine (None: not named), one array [frame] a recording.
        metadata: With the thresholds.
    """
    normals = above = 0
    for machine, own in runs.items():
        scores = np.concatenate(own)
        normals += len(scores)
        above += int((scores > metadata.thresholds_for(machine or "").alert_threshold).sum())
    return FalseAlarmCount(normals, above)


def tolerance(champion: FalseAlarmCount, challenger: FalseAlarmCount) -> float:
    """Return by how much the challenger's share may exceed the champion's, as a share."""
    common = (champion.above + challenger.above + 1) / (champion.normals + challenger.normals + 2)
    return STANDARD_ERRORS * sqrt(common * (1 - common) * (1 / champion.normals + 1 / challenger.normals))


def worse_in_false_alarms(champion: FalseAlarmCount | None, challenger: FalseAlarmCount | None) -> str | None:
    """Return why the challenger must not be promoted, or None."""
    if champion is None or challenger is None:
        which = "challenger" if challenger is None else "champion"
        return f"the {which} carries no false-alarm rate on held-out normals; was it registered by `whirr train`?"
    allowed = tolerance(champion, challenger)
    if challenger.rate <= champion.rate + allowed:
        return None
    return (
        f"its false-alarm rate is {challenger}, the champion's {champion}; counting explains at most {allowed:.2%} more"
    )


def worse_in_auc(champion: float, challenger: float) -> str | None:
    """Return why the challenger must not be promoted, or None."""
    if challenger >= champion - AUC_TOLERANCE:
        return None
    return f"its AUC is {challenger:.4f}, the champion's {champion:.4f}; at most {AUC_TOLERANCE} less is allowed"
