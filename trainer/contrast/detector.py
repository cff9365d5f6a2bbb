"""What the plant's own machines can teach, as a detector."""

from __future__ import annotations

from typing import Final

import numpy as np

from trainer.contrast.graphs import Contrast
from trainer.contrast.learning import Int, trained
from trainer.detector import Detector, Fitted, OnEpoch
from trainer.graph import Float32, build, evaluated
from trainer.pooled.graphs import PooledMahalanobis
from trainer.spectrograms import Prepared
from trainer.train_options import TrainConfig
from trainer.windows import thinned, training_windows, window_machines
from whirr.counts import counted

EMBEDDINGS: Final = 4  # each with rearranged bands of its own
LEAST_WINDOWS: Final = 8  # of a machine
MOST_WINDOWS: Final = 12_000  # of all machines together
MOST_UNSEEN: Final = 1_000  # held-out windows of a machine, to standardise its distances on


class ContrastDetector(Detector):
    """Embeddings that tell machines and rearranged spectra apart; one back end a machine."""

    name = "contrast"
    sound_rate_hz = 48_000

    def fit(self, data: Prepared, config: TrainConfig, on_epoch: OnEpoch) -> Fitted:  # noqa: ARG002
        """Train the embeddings on all machines at once, and estimate each machine's normals in them."""
        windows = training_windows(data.train, MOST_WINDOWS)
        names, machines = _numbered(window_machines(data.train, MOST_WINDOWS))
        fewest = int(np.bincount(machines).min())
        if fewest < LEAST_WINDOWS:
            whose = names[int(np.bincount(machines).argmin())] or "the machine"
            few = f"{counted(fewest, 'window')} of {whose}, expected at least {LEAST_WINDOWS}"
            others = "" if len(names) == 1 else "; leave it out, and the others are learnt"
            why = f"the whole model is pooled alone: {few}{others}"
            return Fitted(build(PooledMahalanobis(windows), data.shape), why)
        spectra = windows.mean(axis=3)
        embeddings = [trained(spectra, machines, EMBEDDINGS * config.seed + number) for number in range(EMBEDDINGS)]
        unseen = [_held_out(data, name) for name in names]
        scorer = Contrast(windows, machines, embeddings, unseen)
        told = [evaluated(scorer.pooled, own).argmin(axis=1) == one for one, own in enumerate(unseen)]
        figures = {"machines": float(len(names)), "told": float(np.concatenate(told).mean())}
        taught = counted(len(names), "machine")
        return Fitted(build(scorer, data.shape), f"{taught} and rearranged spectra", figures=figures)


def _numbered(machines: list[str | None]) -> tuple[list[str | None], Int]:
    """Return the machines in the order of their names, and each window's number among them."""
    names = sorted(set(machines), key=lambda name: name or "")
    return names, np.array([names.index(machine) for machine in machines], np.int64)


def _held_out(data: Prepared, machine: str | None) -> Float32:
    """Return a machine's held-out windows, float32 ``[window, channel, band, time]``; all, where it has none."""
    frames = data.held_out.frames
    own = [frame for frame in frames if frame.machine == machine] or frames
    places = np.concatenate([frame.first + np.arange(frame.signals * frame.windows) for frame in own])
    return np.asarray(data.held_out.windows[thinned(places, MOST_UNSEEN)])
