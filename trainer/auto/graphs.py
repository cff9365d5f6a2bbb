"""Several detectors as one graph: the one that is most surprised speaks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainer.graph import Float32, Graph, Tensor, concatenated

# Squareplus (J. T. Barron, 2021) keeps the order, and what lies far below the median near 0, as a softplus does; but
# square roots are exact, where an exponential's last bit depends on the place of a window in its batch.
SOFTNESS = 4.0
NORMAL_MAD = 1.4826  # a normal distribution's standard deviation over its median absolute deviation


class MostSurprised:
    """Scores a window by the largest of its members' scores, each standardised on normals that it was not fitted on.

    Args:
        members: Detectors' graphs.
        unseen: Each member's scores of normals that it was not fitted on, float32 ``[window]``.

    Attributes:
        medians, deviations: Of each member's scores of such normals, float32 ``[member]``.
    """

    def __init__(self, members: Sequence[Graph], unseen: Sequence[Float32]) -> None:
        self._members = members
        medians = [float(np.median(scores)) for scores in unseen]
        deviations = [_deviation(scores, median) for scores, median in zip(unseen, medians, strict=True)]
        self.medians: Float32 = np.array(medians, np.float32)
        self.deviations: Float32 = np.array(deviations, np.float32)

    def __call__(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Score windows: see :mod:`trainer.detector`; the bands are those of the member that speaks."""
        found = [member.within(log_mel) for member in self._members]
        together = concatenated([score.unsqueeze(0) for score, _ in found], axis=0)
        scores = (together - self.medians[:, np.newaxis]) / self.deviations[:, np.newaxis]
        speaks = scores.argmax(0).one_hot(len(found))
        errors = concatenated([error.unsqueeze(0) for _, error in found], axis=0)
        band_error = (errors / self.deviations.reshape(-1, 1, 1, 1) * speaks.unsqueeze(2, 3)).sum(0)
        surprise = (scores * speaks).sum(0)
        return (surprise + (surprise.square() + SOFTNESS).sqrt()) / 2.0, band_error


def _deviation(scores: Float32, median: float) -> float:
    """Return a robust standard deviation, at least a hundredth of the median."""
    return max(NORMAL_MAD * float(np.median(np.abs(scores - median))), 0.01 * abs(median), 1e-6)
