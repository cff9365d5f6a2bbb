"""Several detectors as one graph: the mean of their standardised scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainer.frame_spectrum.graphs import eighth_root, squareplus, standards
from trainer.graph import Float32, Float64, Graph, Tensor


@dataclass(frozen=True, slots=True)
class Member:
    """A detector's graph, and how it takes a frame.

    Attributes:
        graph: The detector's.
        width: Columns of the windows that a frame is cut into for it, whose scores are averaged; None: it takes frames
            of any length as a whole.
    """

    graph: Graph
    width: int | None

    def __call__(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Score frames: see :mod:`trainer.detector`."""
        if self.width is None:
            return self.graph.within(log_mel)
        score, band_error = self.graph.within(log_mel.cut(self.width))
        _, channels, bands = self.graph.band_shape
        return score.joined(log_mel), band_error.joined(log_mel, channels, bands)


class Fused:
    """Scores a frame by the mean of its members' scores, each standardised on normals that it was not fitted on.

    The eighth roots of scores are standardised: one member's large surprise doesn't drown the others.

    Args:
        members: What scores.
        unseen: Each member's scores of the same normal windows, none of which it was fitted on, float ``[window]``.

    Attributes:
        medians, deviations: Of the roots of each member's scores of such normals, float64 ``[member]``.
    """

    def __init__(self, members: Sequence[Member], unseen: Sequence[Float32]) -> None:
        self._members = members
        roots = eighth_root(np.stack(unseen).astype(np.float64))
        median, deviation = standards(roots)
        self.medians: Float64 = median[:, 0]
        self.deviations: Float64 = deviation[:, 0]
        middle, spread = standards(((roots - median) / deviation).mean(axis=0))
        self._middle, self._spread = float(middle[0]), float(spread[0])

    def __call__(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Score frames: see :mod:`trainer.detector`; a member's bands count as much as it is surprised."""
        total: Tensor | None = None
        bands: Tensor | None = None
        for member, median, deviation in zip(self._members, self.medians, self.deviations, strict=True):
            score, band_error = member(log_mel)
            standard = (score.sqrt().sqrt().sqrt() - median) / deviation
            weight = squareplus(standard) / (score + 1e-12) / len(self._members)
            own = band_error * weight.unsqueeze(1, 2)
            total = standard if total is None else total + standard
            bands = own if bands is None else bands + own
        assert total is not None
        assert bands is not None
        return squareplus((total / len(self._members) - self._middle) / self._spread), bands
