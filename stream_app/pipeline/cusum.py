"""A lasting shift of a stream's score: a one-sided CUSUM, which finds what is too weak for the alert rule and stays.

Each frame's score is standardised by the model's normals, at most so much of it counts, and what exceeds the reference
value is added up; the sum never falls below 0. Divided by the test's threshold it is the **evidence**, 0 to
1: at 1 the stream has changed. It has done so since the evidence last was 0, and has settled again once the evidence
stayed below a half for a stated time. As a share of the threshold, evidence outlives a change of models.

Source: E. S. Page, "Continuous inspection schemes" (1954).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.model_metadata import EarlyTest

GROUPS: Final = 16  # of neighbouring bands
NEVER: Final = -(2**63)
STRONG: Final = 0.5

_MEMORY = 64  # frames that the bands' shares are averaged over
_NO_BANDS = np.zeros(GROUPS, np.float16)

Float16 = NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Shift:
    """What speaks for a lasting shift of a stream's score, in constant space.

    Attributes:
        evidence: Share of the test's threshold, 0 to 1.
        since_us: Recording time of the first frame since the evidence was 0; ``NEVER`` while it is.
        strong_us: Recording time of the last frame after which the evidence was a half or more.
        frames: So many since then, that one included.
        total: The sum of their scores.
        bands: The mean share of groups of bands in the excess over the shift's last frames, float16 ``[16]``; see
            :func:`grouped`.
        found: Whether it was reported: the stream has changed.
    """

    evidence: float = 0.0
    since_us: int = NEVER
    strong_us: int = NEVER
    frames: int = 0
    total: float = 0.0
    bands: Float16 = field(default_factory=lambda: _NO_BANDS)
    found: bool = False

    @property
    def score(self) -> float:
        """The mean score since the shift began; 0 while there is none."""
        return self.total / self.frames if self.frames else 0.0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Shift):
            return NotImplemented
        return self._numbers == other._numbers and bool(np.array_equal(self.bands, other.bands))

    __hash__ = None  # type: ignore[assignment]  # holds an array

    @property
    def _numbers(self) -> tuple[float, ...]:
        return self.evidence, self.since_us, self.strong_us, self.frames, self.total, self.found


NO_SHIFT: Final = Shift()


def moved(
    shift: Shift, score: float, shares: NDArray[np.floating], recorded_us: int, test: EarlyTest, settle_s: float
) -> Shift:
    """Return the shift after one more frame.

    Args:
        shift: As it stood.
        score: Of the frame.
        shares: Of groups of bands in its excess, ``[16]``, from :func:`grouped`; of no account while nothing speaks
            for a shift.
        recorded_us: When the frame was recorded, microseconds since the epoch.
        test: The machine's, from the model.
        settle_s: A shift settles after so many seconds of weak evidence.
    """
    standard = min((score - test.centre) / test.scale, test.most)
    evidence = min(max(shift.evidence + (standard - test.reference) / test.threshold, 0.0), 1.0)
    found = shift.found or evidence >= 1.0
    strong_us = recorded_us if evidence >= STRONG else shift.strong_us
    if not found and evidence == 0.0:
        return NO_SHIFT
    if shift.found and recorded_us - strong_us >= settle_s * 1e6:
        return NO_SHIFT
    since_us = recorded_us if shift.since_us == NEVER else shift.since_us
    frames = shift.frames + 1
    # Rounded to what the state holds, so that it is the same after it was read again.
    bands = (shift.bands + (shares - shift.bands) / min(frames, _MEMORY)).astype(np.float16)
    return Shift(
        evidence=evidence,
        since_us=since_us,
        strong_us=strong_us,
        frames=frames,
        total=shift.total + score,
        bands=bands,
        found=found,
    )


def adds_evidence(score: float, test: EarlyTest) -> bool:
    """Whether a frame's score speaks for a shift: it is above the reference value."""
    return (score - test.centre) / test.scale > test.reference


def grouped(excess: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the shares of up to 16 equal groups of neighbouring bands in a frame's excess, float64 ``[16]``.

    Args:
        excess: What each band adds beyond the normal mean, ``[band]``; what is negative doesn't count.
    """
    found = np.zeros(GROUPS)
    parts = np.add.reduceat(np.maximum(excess, 0.0), group_starts(len(excess)))
    total = float(parts.sum())
    if total > 0:
        found[: len(parts)] = parts / total
    return found


@lru_cache(maxsize=64)
def group_starts(bands: int) -> NDArray[np.int64]:
    """Return the first band of each group, int64 ``[group]``, not to be written to."""
    groups = min(GROUPS, bands)
    starts = np.arange(groups, dtype=np.int64) * bands // groups
    starts.setflags(write=False)
    return starts
