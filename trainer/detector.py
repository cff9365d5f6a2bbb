"""The detectors, behind one contract.

A detector learns from windows of normal log-mel and gives a graph that scores windows:

- its input ``log_mel`` is float32 ``[window, channel, band, time]``; its outputs are ``score`` float32 ``[window]`` and
  ``band_error`` float32 ``[window, channel, band]``;
- a score is finite, at least 0, and larger is worse; ``band_error`` is what each band adds to it, and may be negative;
- normalisation is inside, so that a window of plain log-mel is all that the graph needs;
- the same data, options and seed give the same graph; the answer for a window doesn't depend on its batch.

The contract's tests run against every detector that :data:`DETECTORS` names.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from schemas.errors import MissingExtra, SettingsError

if TYPE_CHECKING:
    from trainer.graph import Graph
    from trainer.spectrograms import Prepared
    from trainer.train_options import TrainConfig

DEFAULT: Final = "auto"
FIRST: Final = "frame_spectrum"  # of those that need no more than the worker does
CANDIDATES: Final = ("frame_spectrum_ae",)  # of auto


@dataclass(frozen=True, slots=True)
class Home:
    """Where a detector is, and the packages that it needs besides those of the worker."""

    module: str
    name: str
    needs: tuple[str, ...] = ()


_GRADIENT = ("torch", "lightning", "onnxscript")
_MIXTURE = ("sklearn",)
DETECTORS: Final = MappingProxyType(
    {
        "conv_ae": Home("trainer.conv_ae.detector", "ConvAutoEncoderDetector", _GRADIENT),
        "pooled": Home("trainer.pooled.detector", "PooledDetector"),
        "pooled_gmm": Home("trainer.pooled.detector", "PooledMixtureDetector", _MIXTURE),
        "twfr_gmm": Home("trainer.twfr_gmm.detector", "TimeWeightedDetector", _MIXTURE),
        "contrast": Home("trainer.contrast.detector", "ContrastDetector", ("torch", "lightning")),
        "frame_spectrum": Home("trainer.frame_spectrum.detector", "FrameSpectrumDetector"),
        "frame_spectrum_ae": Home("trainer.frame_spectrum.detector", "FrameSpectrumAutoencoderDetector", ("torch",)),
        "auto": Home("trainer.auto.detector", "AutoDetector"),
    }
)
# Detectors that were the best of no machine: what takes their place, and since which version.
RETIRED: Final = MappingProxyType(
    {
        "dense_ae": ("frame_spectrum_ae", "0.3"),
        "idnn": ("frame_spectrum_ae", "0.3"),
        "mahalanobis": ("pooled", "0.3"),
        "pooled_nn": ("frame_spectrum", "0.3"),
        "flutter_nn": ("frame_spectrum", "0.3"),
        "flutter_gmm": ("frame_spectrum", "0.3"),
    }
)


@dataclass(frozen=True, slots=True)
class EpochLoss:
    """Mean squared errors after one epoch, in units of the training windows' variance; epochs count from 1."""

    epoch: int
    train_loss: float
    held_out_loss: float


OnEpoch = Callable[[EpochLoss], None]


def _nothing_to_save(path: Path, decision_threshold: float) -> None:
    """Save nothing: a detector that isn't trained by gradient is as quickly fitted as loaded."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a detector gives.

    Attributes:
        graph: Scores windows; see the module's docstring.
        why: One line on what was chosen from the data, or ''.
        history: Losses after each epoch, empty where there are no epochs.
        best: The epoch whose weights the graph has, or None.
        save_checkpoint: Writes a checkpoint with the decision threshold in it, where ``has_checkpoint``.
        has_checkpoint: Whether there is one to write.
        refit: Gives a graph with the same choices, fitted on ``train`` of other data, where choices were made.
        judge: Scores the held-out windows in place of ``graph``, where that was fitted on them too.
        figures: What was found out about the normals, by name.
        unseen: Scores of all normals' windows, each by a graph that was not fitted on it, float32 ``[window]``, of a
            detector that is fitted on the held-out ones too.
        unseen_runs: The same per machine (None: not named), one array a recording, in time order; None where windows
            were left out.
        unseen_recordings: The recording that each of those is from, per machine.
    """

    graph: Graph
    why: str = ""
    history: tuple[EpochLoss, ...] = ()
    best: EpochLoss | None = None
    save_checkpoint: Callable[[Path, float], None] = field(default=_nothing_to_save)
    has_checkpoint: bool = False
    refit: Callable[[Prepared], Graph] | None = None
    judge: Graph | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    unseen: NDArray[np.float32] | None = None
    unseen_runs: Mapping[str | None, Sequence[NDArray[np.float64]]] | None = None
    unseen_recordings: Mapping[str | None, Sequence[str]] = field(default_factory=dict)


class Detector(ABC):
    """Learns what is normal.

    Attributes:
        name: As in the model's metadata and on the command line.
        by_gradient: Whether epochs, batch and learning rate mean anything to it.
        sound_rate_hz: The highest rate at which it takes sound, unless the user says otherwise.
        whole_frames: Whether its graph takes a frame of any length, from a window's on, as one window. Such a detector
            is fitted on the held-out normals too, and gives a ``judge`` and ``unseen``.
    """

    name: ClassVar[str]
    by_gradient: ClassVar[bool] = False
    sound_rate_hz: ClassVar[int] = 16_000
    whole_frames: ClassVar[bool] = False

    @abstractmethod
    def fit(self, data: Prepared, config: TrainConfig, on_epoch: OnEpoch) -> Fitted:
        """Return what was learnt from ``data.train``; ``data.held_out`` may be used to choose.

        A detector that fits on it too gives a ``judge`` that has not seen it.
        """


def find_detector(name: str) -> Detector:
    """Return the detector of a name.

    Raises:
        SettingsError: There is none, or no longer.
        MissingExtra: Its packages are not installed.
    """
    if name in RETIRED:
        instead, version = RETIRED[name]
        raise SettingsError(
            f"detector is {name!r}, which there is no more since version {version}; expected {instead!r} in its place, "
            "or another (models that it trained are used as before)"
        )
    if name not in DETECTORS:
        raise SettingsError(f"detector is {name!r}; expected one of {', '.join(DETECTORS)}")
    home = DETECTORS[name]
    if not _is_here(home):
        without = ", ".join(other for other, its in DETECTORS.items() if _is_here(its) and other != "auto")
        otherwise = f"without it there are {without}: --detector {FIRST} --no-mlflow"
        raise MissingExtra(f"detector {name!r}", "train", otherwise)
    found: Detector = getattr(import_module(home.module), home.name)()
    return found


def _is_here(home: Home) -> bool:
    """Whether the packages that a detector needs are installed."""
    return all(find_spec(package) is not None for package in home.needs)
