"""The yardstick: two plain detectors on whole recordings, for which nothing is chosen at all.

A recording is, for each channel, the mean and the standard deviation over time of its log spectrum: 128 mel bands of
sound (8 kHz and above), every bin of a short-time spectrum of slower signals. Entries are standardised on the
recordings that train. ``baseline_lw`` is the Mahalanobis distance with Ledoit and Wolf's covariance, ``baseline_nn``
the Euclidean distance to the nearest recording that trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

SOUND_HZ: Final = 8_000
LEAST_ENERGY: Final = 1e-10
LEAST_DEVIATION: Final = 1e-6

Floats = NDArray[np.float64]


def ledoit_wolf(train: Floats, tested: Floats) -> Floats:
    """Return the squared Mahalanobis distance of each of ``tested``, float64 ``[recording, entry]``."""
    from sklearn.covariance import LedoitWolf

    distances: Floats = LedoitWolf().fit(train).mahalanobis(tested)
    return distances


def nearest(train: Floats, tested: Floats) -> Floats:
    """Return the distance of each of ``tested`` to its nearest neighbour, float64 ``[recording, entry]``."""
    return np.array([np.linalg.norm(train - one, axis=1).min() for one in tested])


BASELINES: Final[Mapping[str, Callable[[Floats, Floats], Floats]]] = MappingProxyType(
    {"baseline_lw": ledoit_wolf, "baseline_nn": nearest}
)


def baseline_scores(name: str, train: Sequence[Path], tested: Sequence[Path]) -> Floats:
    """Return the score of each recording of ``tested``; larger is worse."""
    learnt, heard = (np.stack([pooled(path) for path in part]) for part in (train, tested))
    mean, deviation = learnt.mean(axis=0), learnt.std(axis=0) + LEAST_DEVIATION
    return BASELINES[name]((learnt - mean) / deviation, (heard - mean) / deviation)


@lru_cache(4096)  # both baselines ask for the same
def pooled(path: Path) -> Floats:
    """Return a recording as one vector, float64 ``[entry]``."""
    import librosa
    import soundfile

    samples, rate_hz = soundfile.read(path, always_2d=True)
    entries = []
    for signal in (samples - samples.mean(axis=0)).T:
        if rate_hz >= SOUND_HZ:
            energy = librosa.feature.melspectrogram(
                y=signal, sr=rate_hz, n_fft=1024, hop_length=512, n_mels=128, center=False
            )
        else:
            energy = np.abs(librosa.stft(signal, n_fft=64, hop_length=16, center=False)[1:]) ** 2
        level = np.log(energy + LEAST_ENERGY)
        entries += [level.mean(axis=1), level.std(axis=1)]
    return np.concatenate(entries)
