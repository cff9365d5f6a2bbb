"""Several detectors as one graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.fusion import Fusion
from trainer.graph import Graph, Tensor


@dataclass(frozen=True, slots=True)
class Member:
    """A detector's graph, and how it takes a frame.

    Attributes:
        graph: The detector's.
        shape: Channels and bands.
        width: Columns of the windows that a frame is cut into for it, whose scores are averaged; None: it takes frames
            of any length as a whole.
    """

    graph: Graph
    shape: tuple[int, int]
    width: int | None

    def __call__(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Score frames: see :mod:`trainer.detector`."""
        if self.width is None:
            return self.graph.within(log_mel)
        score, band_error = self.graph.within(log_mel.cut(self.width))
        return score.joined(log_mel), band_error.joined(log_mel, *self.shape)


class FusedDetectors:
    """Scores a frame by its members' scores, fused.

    Args:
        members: What scores.
        fusion: Made from each member's scores of the same normals.
    """

    def __init__(self, members: Sequence[Member], fusion: Fusion) -> None:
        self._members, self._fusion = members, fusion

    def __call__(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Score frames: see :mod:`trainer.detector`."""
        return self._fusion([member(log_mel) for member in self._members])
