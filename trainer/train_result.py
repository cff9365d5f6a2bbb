"""A training's outcome, and how it is followed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from recordings.find import Problem
from schemas import ModelMetadata
from trainer.detector import EpochLoss
from trainer.false_alarms import FalseAlarmCheck
from trainer.feature_choice import Choice
from trainer.promotion import FalseAlarmCount
from trainer.recording_set import RecordingSet
from trainer.screening import LeftOut
from trainer.trimming import Stray
from whirr.label_spans import LabelSpan


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What a training gave.

    Attributes:
        out: The model file.
        checkpoint: Of a detector that is trained by gradient, else None.
        metadata: What the model file says of itself.
        why: Why these features.
        detector_why: What the detector chose from the data, or ''.
        labelled_by: The label spans that recordings were labelled by, or left out for.
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
        segments_left_out: Segments of recordings that were not used, and why.
        strays: Recordings that were not learnt, for they are unlike those before and after them.
        remarks: Recordings that were used and differ from the others in something.
        warnings: What makes a threshold hard to believe.
        registered: The version's number in the registry, or None.
        held_out_alarms: Held-out normals above the alert threshold; None where the run is not in MLflow.
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
    segments_left_out: tuple[LeftOut, ...] = ()
    strays: tuple[Stray, ...] = ()
    remarks: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()
    registered: int | None = None
    held_out_alarms: FalseAlarmCount | None = None
    labelled_by: tuple[LabelSpan, ...] = ()
    detector_figures: Mapping[str, float] = field(default_factory=dict)


class Observer:
    """Hears how a training goes on; the base class ignores it all."""

    def on_found(self, found: RecordingSet) -> None:
        """The folder has been looked through."""

    def on_features(self, choice: Choice, frame_s: float) -> None:
        """The features have been chosen."""

    def on_recording(self, done: int, of: int) -> None:
        """So many recordings have been read, those that can't be used among them; of a recording cut in two, parts."""

    def on_problems(self, problems: Sequence[Problem]) -> None:
        """All files have been read; these can't be used."""

    def on_screened(self, left_out: Sequence[LeftOut], remarks: Sequence[Problem]) -> None:
        """All files have been listened to; these segments are not used, and these files differ from the others."""

    def on_trimmed(self, strays: Sequence[Stray], judged: int, learnt: int) -> None:
        """Of so many recordings, or parts of them, these are not learnt: they are unlike their neighbours.

        So many more are as unlike, and learnt, since no more may be left out.
        """

    def on_windows(self, windows: int, held_out: int) -> None:
        """Spectrograms are ready: so many training windows an epoch, so many held out."""

    def on_epoch(self, loss: EpochLoss) -> None:
        """An epoch has ended."""

    def on_saved(self, result: TrainResult) -> None:
        """The model file is written; logging the run comes after."""
