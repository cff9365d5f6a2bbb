"""A training's order and its outcome, and how it is followed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from recordings.find import Problem
from recordings.naming import Naming
from schemas import ModelMetadata
from schemas.errors import SettingsError
from trainer.detector import CANDIDATES, DEFAULT, EpochLoss, find_detector
from trainer.false_alarms import FalseAlarmCheck
from trainer.feature_choice import Choice, FeatureOptions
from trainer.recordings import Found, OnError
from trainer.screening import LeftOut


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """What to train on, and how.

    Attributes:
        normal: Folder of normal recordings: see :func:`trainer.recordings.find_recordings`.
        out: The model file to write; a checkpoint of the same name ends in ``.ckpt``.
        name: The model's name; default: the file's, without suffix.
        detector: One of :data:`trainer.detector.DETECTORS`.
        candidates: Detectors that ``auto`` combines.
        machine: Whose recordings these are, in place of what the folders say.
        pattern: Template of paths that says where they name the machine.
        labels: CSV file of labels in place of those in paths.
        columns: Of tables: the columns to take as channels; empty: those that look like a signal.
        on_error: ``skip`` or ``fail`` for files that can't be used.
        features: What the user fixed of the features.
        frame_s: Length of the frames that thresholds are made for; default: 1 s, or the shortest recording if that is
            less, or a window if that is more.
        k, n: The alert rule that thresholds are made for.
        false_alerts_per_30_days: That the alert threshold allows per machine.
        decision_percentile: Of held-out normals' scores.
        threshold_method, threshold_level: How the alert threshold is made: see :mod:`trainer.thresholds`.
        alert_percentile: The alert threshold by the method ``percentile``, 90 to 99; default: 99.
        held_out_share: Of each machine's recordings.
        epochs: At most.
        patience: Epochs without a better held-out loss after which training ends; 0: never before the last.
        min_delta: How much lower a held-out loss has to be to count as better, in units of the loss.
        checkpoints: Folder for ``last.ckpt`` and ``best.ckpt``, written after each epoch.
        resume: Whether to go on from ``last.ckpt`` in that folder.
        reference_s: So many seconds of the feature store's history, up to now, give the model each machine's reference
            statistics; None for none.
        mlflow: Whether to log the run.
        register: Whether to make the model a version of the registered model of its name.
    """

    normal: Path
    out: Path
    name: Annotated[str | None, Field(pattern=r"^[A-Za-z0-9._-]{1,128}$")] = None
    detector: str = DEFAULT
    candidates: tuple[str, ...] = CANDIDATES
    machine: str | None = None
    pattern: str | None = None
    labels: Path | None = None
    columns: tuple[str, ...] = ()
    on_error: OnError = "skip"
    features: FeatureOptions = field(default_factory=FeatureOptions)
    frame_s: Annotated[float | None, Field(ge=0.1, le=60)] = None
    k: Annotated[int, Field(ge=1, le=64)] = 3
    n: Annotated[int, Field(ge=1, le=64)] = 5
    false_alerts_per_30_days: Annotated[float, Field(gt=0)] = 1.0
    decision_percentile: Annotated[float, Field(gt=0, lt=100)] = 95.0
    threshold_method: Literal["tail", "percentile"] = "tail"
    threshold_level: Literal["rule", "frame"] = "rule"
    alert_percentile: Annotated[float | None, Field(ge=90, le=99)] = None
    held_out_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    latent: Annotated[int, Field(ge=1, le=4096)] = 40
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-3
    epochs: Annotated[int, Field(ge=1)] = 50
    patience: Annotated[int, Field(ge=0)] = 10
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    batch: Annotated[int, Field(ge=1)] = 32
    accelerator: str = "auto"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    checkpoints: Path | None = None
    resume: bool = False
    reference_s: Annotated[float | None, Field(gt=0)] = None
    mlflow: bool = True
    register: bool = False

    @property
    def naming(self) -> Naming:
        """How the recordings are to be understood."""
        return Naming(machine=self.machine, pattern=self.pattern, labels=self.labels)

    @property
    def model_name(self) -> str:
        """The model's name: as given, else the file's without what a name may not hold."""
        return self.name or re.sub(r"[^A-Za-z0-9._-]", "-", self.out.stem)[:128] or "model"

    def check(self) -> None:
        """Hold each option against its range.

        Raises:
            SettingsError: An option is out of range; the message names each.
        """
        try:
            TypeAdapter(TrainConfig).validate_python(asdict(self))
        except ValidationError as error:
            lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
            raise SettingsError("; ".join(lines)) from None
        if not find_detector(self.detector).by_gradient and self.checkpoints is not None:
            raise SettingsError(f"detector {self.detector!r} has no epochs; expected no checkpoints with it")
        if self.resume and self.checkpoints is None:
            raise SettingsError("resume needs the folder of checkpoints to go on from")
        self._check_candidates()
        if self.k > self.n:
            raise SettingsError(f"k is {self.k}, n is {self.n}; expected k of n with k at most n")
        if self.alert_percentile is not None and self.threshold_method != "percentile":
            raise SettingsError(
                f"alert_percentile is {self.alert_percentile:g} and threshold_method is {self.threshold_method!r}; "
                "expected 'percentile'"
            )
        if self.register and not self.mlflow:
            raise SettingsError("register needs MLflow, which is off; expected mlflow with it")

    def _check_candidates(self) -> None:
        names = self.candidates
        if self.detector != "auto":
            if names != CANDIDATES:
                raise SettingsError(f"candidates are for detector 'auto'; detector is {self.detector!r}")
            return
        if not names or "auto" in names or len(set(names)) < len(names):
            raise SettingsError(f"candidates are {', '.join(names) or 'none'}; expected different ones, without auto")
        for name in names:
            find_detector(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What a training gave.

    Attributes:
        out: The model file.
        checkpoint: Of a detector that is trained by gradient, else None.
        metadata: What the model file says of itself.
        why: Why these features.
        detector_why: What the detector chose from the data, or ''.
        detector_figures: What the detector found out about the normals, by name.
        recordings: Used, whole or in part.
        problems: Files that were not used.
        left_out: How many recordings were left out, and why: of a test set, labelled as anomalies.
        notes: What a person should know of the machines that were found.
        windows: Training windows per epoch.
        history: Losses of each epoch, if there are any.
        best: The epoch whose weights were kept, or None.
        check: What the thresholds let through, expected and observed.
        seconds: From the first look at the folder to the model file.
        stretches_left_out: Stretches of recordings that were not used, and why.
        remarks: Recordings that were used and differ from the others in something.
        doubts: What makes a threshold hard to believe.
        registered: The version's number in the registry, or None.
    """

    out: Path
    checkpoint: Path | None
    metadata: ModelMetadata
    why: str
    detector_why: str
    recordings: int
    problems: tuple[Problem, ...]
    left_out: tuple[tuple[str, int], ...]
    notes: tuple[str, ...]
    windows: int
    held_out_windows: int
    history: tuple[EpochLoss, ...]
    best: EpochLoss | None
    check: FalseAlarmCheck
    seconds: float
    stretches_left_out: tuple[LeftOut, ...] = ()
    remarks: tuple[Problem, ...] = ()
    doubts: tuple[str, ...] = ()
    registered: int | None = None
    detector_figures: Mapping[str, float] = field(default_factory=dict)


class Observer:
    """Hears how a training goes on; the base class ignores it all."""

    def on_found(self, found: Found) -> None:
        """The folder has been looked through."""

    def on_features(self, choice: Choice, frame_s: float) -> None:
        """The features have been chosen."""

    def on_recording(self, done: int, of: int) -> None:
        """So many recordings have been read, those that can't be used among them; of a recording cut in two, parts."""

    def on_problems(self, problems: Sequence[Problem]) -> None:
        """All files have been read; these can't be used."""

    def on_screened(self, left_out: Sequence[LeftOut], remarks: Sequence[Problem]) -> None:
        """All files have been listened to; these stretches are not used, and these files differ from the others."""

    def on_windows(self, windows: int, held_out: int) -> None:
        """Spectrograms are ready: so many training windows an epoch, so many held out."""

    def on_epoch(self, loss: EpochLoss) -> None:
        """An epoch has ended."""

    def on_saved(self, result: TrainResult) -> None:
        """The model file is written; logging the run comes after."""
