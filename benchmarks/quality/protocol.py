"""One measurement: train on a row's normal recordings alone, and give each tested recording one score.

A recording's score is that of its windows (their mean, unless the model says median), of a one-channel model's signals
the worst. Nothing is chosen by
looking at labels.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.baseline import BASELINES, baseline_scores
from benchmarks.quality.designs import Design
from benchmarks.quality.rows import Split
from recordings import read_recording
from recordings.pattern import Pattern
from schemas.condition import UNKNOWN, Condition
from stream_app.pipeline import Model, resample, windows
from stream_app.pipeline.frame_score import frame_scores
from stream_app.pipeline.model import as_array
from trainer.reading import signals_of

MAX_FPR: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a detector made of a row's tested recordings, and what it cost.

    Attributes:
        normal, anomalous: A score for each recording, in order; larger is worse.
        version: Of the model's graph: the same training gives the same version.
        windows_per_second: That the model scores on one core, in batches of 64.
        size_kb: Of the model's file.
        training_s: From recordings to the model's file.
        why: What the detector chose from the normals.
    """

    normal: tuple[float, ...]
    anomalous: tuple[float, ...]
    version: str = ""
    windows_per_second: float = 0.0
    size_kb: float = 0.0
    training_s: float = 0.0
    why: str = ""

    def without(self, anomalous: Sequence[int]) -> Measured:
        """Return this without some of the anomalous recordings, given by their places."""
        left_out = set(anomalous)
        return replace(self, anomalous=tuple(s for i, s in enumerate(self.anomalous) if i not in left_out))

    @property
    def auc(self) -> float:
        """Area under the receiver operating characteristic."""
        return self._area(None)

    @property
    def pauc(self) -> float:
        """Its part up to a false positive rate of 0.1, standardised as scikit-learn does: 0.5 is chance, 1 perfect."""
        return self._area(MAX_FPR)

    def _area(self, max_fpr: float | None) -> float:
        from sklearn.metrics import roc_auc_score

        truth = [0] * len(self.normal) + [1] * len(self.anomalous)
        return float(roc_auc_score(truth, [*self.normal, *self.anomalous], max_fpr=max_fpr))


def contaminants(split: Split, share: float) -> list[int]:
    """Return the places of anomalous recordings, evenly spaced, that make up ``share`` of what trains with them in it.

    Empty where the row has too few: less than one, or more than half of the anomalous ones would train.
    """
    count = round(len(split.train) * share / (1 - share))
    if not 0 < count <= len(split.anomalous) / 2:
        return []
    return [int(place) for place in (np.arange(count) + 0.5) * len(split.anomalous) / count]


def contaminated(split: Split, places: Sequence[int]) -> Split:
    """Return a split with some anomalous recordings among those that train, evenly spread, in place of tested."""
    train = list(split.train)
    for number, place in enumerate(places):
        train.insert(round((number + 0.5) * len(split.train) / len(places)) + number, split.anomalous[place])
    return split._replace(train=train, anomalous=[path for i, path in enumerate(split.anomalous) if i not in places])


def measure(split: Split, detector: str, design: Design, seed: int, known: Measured | None = None) -> Measured:
    """Train and test.

    Args:
        split: The recordings.
        detector: Its name, or a baseline's.
        design: Options of the training.
        seed: For the training.
        known: What another seed gave. Where the training doesn't use its seed, the same graph comes out, and scores
            are those.
    """
    tested = [*split.normal, *split.anomalous]
    if detector in BASELINES:
        scores = [float(score) for score in baseline_scores(detector, split.train, tested)]
        return Measured(normal=tuple(scores[: len(split.normal)]), anomalous=tuple(scores[len(split.normal) :]))
    from trainer.train import TrainConfig, train_model

    with tempfile.TemporaryDirectory(prefix="whirr-quality-") as scratch:
        normal, out = Path(scratch, "normal"), Path(scratch, "model.onnx")
        naming = link_normals(split, normal)
        began_s = time.perf_counter()
        config = TrainConfig(normal=normal, out=out, detector=detector, seed=seed, mlflow=False, **naming, **design)
        result = train_model(config)
        training_s = time.perf_counter() - began_s
        model = Model.load(out)
        size_kb = out.stat().st_size / 1024
    if known is not None and known.version == result.metadata.version:
        return known
    scores = [recording_score(model, path, condition_of(path, split.told)) for path in tested]
    return Measured(
        normal=tuple(scores[: len(split.normal)]),
        anomalous=tuple(scores[len(split.normal) :]),
        version=result.metadata.version,
        windows_per_second=_windows_per_second(model),
        size_kb=size_kb,
        training_s=training_s,
        why=result.detector_why,
    )


def link_normals(split: Split, folder: Path) -> dict[str, Any]:
    """Make a folder of links to what a row trains on; return how its names are read, as options of a training."""
    folder.mkdir()
    for number, path in enumerate(split.train):  # another condition's names say that it is an anomaly
        name = f"{number:05d}{path.suffix}" if split.told is None else f"{number:05d}_{path.name}"
        (folder / f"normal_{name}").symlink_to(path.resolve())
    return {} if split.told is None else {"pattern": split.told}


def condition_of(path: Path, told: str | None) -> Condition:
    """Return how the machine ran, as a recording's name says it."""
    named = None if told is None else Pattern(told).read(path.stem, UTC)
    return UNKNOWN if named is None else named.condition


def recording_score(model: Model, path: Path, condition: Condition = UNKNOWN) -> float:
    """Return a whole recording's score, as the model takes a frame's; of a one-channel model's signals the worst."""
    config = model.metadata.features
    audio = read_recording(path)
    scores = []
    for signal in signals_of(audio.samples, config):
        log_mel = model.features.log_mel(resample(signal, audio.rate_hz, config.sample_rate_hz))
        cut = windows(log_mel, config)
        of_windows = model.score(cut, as_array([condition] * len(cut)))[0]
        scores.append(frame_scores(of_windows, model.metadata.frame_score))
    return float(max(scores))


def _windows_per_second(model: Model, seconds: float = 0.5) -> float:
    config = model.metadata.features
    shape = (64, config.channels, config.bands, config.window_columns)
    batch: NDArray[np.float32] = np.random.default_rng(0).normal(-8, 2, shape).astype(np.float32)
    model.score(batch)
    scored, began_s = 0, time.process_time()
    while time.process_time() < began_s + seconds:
        model.score(batch)
        scored += len(batch)
    return scored / (time.process_time() - began_s)
