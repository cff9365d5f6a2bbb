"""Several detectors as one torch module: the one that is most surprised speaks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

# Squareplus (J. T. Barron, 2021) keeps the order, and what lies far below the median near 0, as a softplus does; but
# square roots are exact, where an exponential's last bit depends on the place of a window in its batch.
SOFTNESS = 4.0
NORMAL_MAD = 1.4826  # a normal distribution's standard deviation over its median absolute deviation


class MostSurprised(nn.Module):
    """Scores a window by the largest of its members' scores, each standardised on normals that it was not fitted on.

    Args:
        members: Detectors' modules.
        unseen: Each member's scores of normals that it was not fitted on, float32 ``[window]``.
    """

    medians: Tensor
    deviations: Tensor

    def __init__(self, members: Sequence[nn.Module], unseen: Sequence[NDArray[np.float32]]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        medians = [float(np.median(scores)) for scores in unseen]
        deviations = [_deviation(scores, median) for scores, median in zip(unseen, medians, strict=True)]
        self.register_buffer("medians", torch.tensor(medians))
        self.register_buffer("deviations", torch.tensor(deviations))

    def forward(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Score windows: see :mod:`trainer.detector`; the bands are those of the member that speaks."""
        found = [member(log_mel) for member in self.members]
        scores = (torch.stack([score for score, _ in found]) - self.medians.unsqueeze(1)) / self.deviations.unsqueeze(1)
        speaks = functional.one_hot(scores.argmax(dim=0), len(found)).T.to(scores.dtype)
        errors = torch.stack([error for _, error in found]) / self.deviations.reshape(-1, 1, 1, 1)
        band_error = (errors * speaks.unsqueeze(2).unsqueeze(3)).sum(dim=0)
        surprise = (scores * speaks).sum(dim=0)
        return (surprise + (surprise.square() + SOFTNESS).sqrt()) / 2, band_error


def _deviation(scores: NDArray[np.float32], median: float) -> float:
    """Return a robust standard deviation, at least a hundredth of the median."""
    return max(NORMAL_MAD * float(np.median(np.abs(scores - median))), 0.01 * abs(median), 1e-6)
