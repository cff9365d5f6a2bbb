"""Several detectors as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trainer.auto.torch_model import MostSurprised
from trainer.detector import Detector, Fitted, OnEpoch, find_detector
from trainer.job import TrainConfig
from trainer.spectrograms import Prepared
from trainer.windows import FOLDS, MAX_WINDOWS, as_training_set, blocks, thinned

Float32 = NDArray[np.float32]

FAR: Final = 3.0  # standardised; of normally distributed scores one in 740 lies beyond


@dataclass(frozen=True, slots=True)
class _Candidate:
    """One candidate, cross-fitted.

    Attributes:
        name: The detector's.
        why: What it chose.
        module: Fitted on all normals.
        before: Fitted on all but the held-out ones.
        unseen: Scores of all normals, each by a module that was not fitted on it, float32 ``[window]``.
    """

    name: str
    why: str
    module: nn.Module
    before: nn.Module
    unseen: Float32


class AutoDetector(Detector):
    """Fits the candidates on all normals and lets the one speak that is most surprised.

    Normals are cut into five blocks in time order, the last of them the held-out ones. Each block is scored by
    candidates that were fitted on the others: that tells how surprising a score is for a candidate, and gives the
    held-out scores that thresholds are made from. So no normal is missing from what is fitted in the end.
    """

    name = "auto"
    sound_rate_hz = 48_000

    def fit(self, data: Prepared, config: TrainConfig, on_epoch: OnEpoch) -> Fitted:  # noqa: ARG002
        """Cross-fit each candidate, then fit it on all normals."""
        parts = [*blocks(data.train, FOLDS - 1), thinned(data.held_out.windows, MAX_WINDOWS // FOLDS)]
        found = [_cross_fit(name, parts, data, config) for name in config.candidates]
        unseen = [one.unseen for one in found]
        module = MostSurprised([one.module for one in found], unseen).eval()
        judge = MostSurprised([one.before for one in found], unseen).eval()
        figures = _figures(found, module)
        chosen = "; ".join(
            f"{one.name} ({one.why}; speaks on {figures[f'{one.name}.speaks']:.0%} of unseen normals)" for one in found
        )
        return Fitted(module, f"the most surprised of {chosen}", judge=judge, figures=figures)


def _cross_fit(name: str, parts: Sequence[Float32], data: Prepared, config: TrainConfig) -> _Candidate:
    """Return a candidate that has chosen its settings without the held-out normals, the last of the parts."""
    detector = find_detector(name)

    def without(left_out: int | None) -> Prepared:
        kept = [part for index, part in enumerate(parts) if index != left_out]
        return replace(data, train=as_training_set(np.concatenate(kept)))

    def fit(left_out: int | None) -> nn.Module:
        if first.refit is not None:
            return first.refit(without(left_out))
        return detector.fit(without(left_out), config, lambda _: None).module

    last = len(parts) - 1
    first = detector.fit(without(last), config, lambda _: None)
    unseen = [_scores(fit(index), parts[index]) for index in range(last)]
    unseen.append(_scores(first.module, parts[last]))
    return _Candidate(name, first.why, fit(None), first.module, np.concatenate(unseen))


def _figures(found: Sequence[_Candidate], module: MostSurprised) -> dict[str, float]:
    """Return what each candidate made of the normals that it had not seen."""
    unseen = np.stack([one.unseen for one in found])
    standardised = (unseen - module.medians.numpy()[:, None]) / module.deviations.numpy()[:, None]
    speaks = standardised.argmax(axis=0)
    figures: dict[str, float] = {}
    for index, one in enumerate(found):
        figures[f"{one.name}.median"] = float(module.medians[index])
        figures[f"{one.name}.deviation"] = float(module.deviations[index])
        figures[f"{one.name}.far"] = float((standardised[index] > FAR).mean())
        figures[f"{one.name}.speaks"] = float((speaks == index).mean())
    return figures


@torch.no_grad()
def _scores(module: nn.Module, windows: Float32) -> Float32:
    parts = [module(torch.from_numpy(np.array(windows[at : at + 256])))[0] for at in range(0, len(windows), 256)]
    return torch.cat(parts).numpy()
