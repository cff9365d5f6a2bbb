"""The detectors, behind one contract.

A detector learns from windows of normal log-mel and gives a torch module that scores windows:

- ``forward(log_mel)`` takes float32 ``[window, channel, band, time]`` and returns ``score`` float32 ``[window]`` and
  ``band_error`` float32 ``[window, channel, band]``;
- a score is finite, at least 0, and larger is worse; ``band_error`` is what each band adds to it, and may be negative;
- normalisation is inside, so that a window of plain log-mel is all that the module needs;
- the same data, options and seed give the same module; the answer for a window doesn't depend on its batch.

The contract's tests run against every detector that :data:`DETECTORS` names.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final

from whirr.errors import SettingsError

if TYPE_CHECKING:
    from torch import nn

    from trainer.fit import EpochLoss
    from trainer.job import TrainConfig
    from trainer.spectrograms import Prepared

DEFAULT: Final = "conv_ae"
CANDIDATES: Final = ("pooled_gmm", "flutter_gmm", "flutter_nn", "twfr_gmm")  # of auto
DETECTORS: Final = MappingProxyType(
    {
        "conv_ae": "trainer.conv_ae.detector:ConvAutoEncoderDetector",
        "dense_ae": "trainer.dense_ae.detector:DenseAutoEncoderDetector",
        "idnn": "trainer.idnn.detector:InterpolationDetector",
        "mahalanobis": "trainer.mahalanobis.detector:MahalanobisDetector",
        "pooled": "trainer.pooled.detector:PooledDetector",
        "pooled_nn": "trainer.pooled.detector:NearestDetector",
        "pooled_gmm": "trainer.pooled.detector:PooledMixtureDetector",
        "flutter_nn": "trainer.pooled.detector:FlutterDetector",
        "flutter_gmm": "trainer.pooled.detector:FlutterMixtureDetector",
        "twfr_gmm": "trainer.twfr_gmm.detector:TimeWeightedDetector",
        "auto": "trainer.auto.detector:AutoDetector",
    }
)

OnEpoch = Callable[["EpochLoss"], None]


def _nothing_to_save(path: Path, decision_threshold: float) -> None:
    """Save nothing: a detector that isn't trained by gradient is as quickly fitted as loaded."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a detector gives.

    Attributes:
        module: Scores windows; see the module's docstring.
        why: One line on what was chosen from the data, or ''.
        history: Losses after each epoch, empty where there are no epochs.
        best: The epoch whose weights the module has, or None.
        save_checkpoint: Writes a checkpoint with the decision threshold in it, where ``has_checkpoint``.
        has_checkpoint: Whether there is one to write.
        refit: Gives a module with the same choices, fitted on ``train`` of other data, where choices were made.
        judge: Scores the held-out windows in place of ``module``, where that was fitted on them too.
        figures: What was found out about the normals, by name.
    """

    module: nn.Module
    why: str = ""
    history: tuple[EpochLoss, ...] = ()
    best: EpochLoss | None = None
    save_checkpoint: Callable[[Path, float], None] = field(default=_nothing_to_save)
    has_checkpoint: bool = False
    refit: Callable[[Prepared], nn.Module] | None = None
    judge: nn.Module | None = None
    figures: Mapping[str, float] = field(default_factory=dict)


class Detector(ABC):
    """Learns what is normal.

    Attributes:
        name: As in the model's metadata and on the command line.
        by_gradient: Whether epochs, batch and learning rate mean anything to it.
        sound_rate_hz: The highest rate at which it takes sound, unless the user says otherwise.
    """

    name: ClassVar[str]
    by_gradient: ClassVar[bool] = False
    sound_rate_hz: ClassVar[int] = 16_000

    @abstractmethod
    def fit(self, data: Prepared, config: TrainConfig, on_epoch: OnEpoch) -> Fitted:
        """Return what was learnt from ``data.train``; ``data.held_out`` may be used to choose.

        A detector that fits on it too gives a ``judge`` that has not seen it.
        """


def find_detector(name: str) -> Detector:
    """Return the detector of a name.

    Raises:
        SettingsError: There is none.
    """
    if name not in DETECTORS:
        raise SettingsError(f"detector is {name!r}; expected one of {', '.join(DETECTORS)}")
    module, _, attribute = DETECTORS[name].partition(":")
    found: Detector = getattr(import_module(module), attribute)()
    return found
