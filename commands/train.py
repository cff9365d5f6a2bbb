"""``whirr train``: from a folder of normal recordings to a model file."""

from __future__ import annotations

import shlex
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands._config_file import take_options
from commands._options import (
    DATA,
    Bands,
    ColumnsOption,
    FrameS,
    Hop,
    Labels,
    Machine,
    NFft,
    OnErrorOption,
    PatternOption,
    Rate,
    Scale,
    WindowS,
    columns_of,
)
from commands._output import print_json, print_line, print_warning
from commands._thresholds import (
    AlertPercentile,
    FalseAlarmsPerDay,
    FalseAlerts,
    Percentile,
    RuleK,
    RuleN,
    ThresholdLevel,
    ThresholdMethod,
    allowed_per_30_days,
)
from commands._training_options import (
    TRAINING,
    Accelerator,
    Batch,
    Checkpoints,
    Epochs,
    HeldOutShare,
    Latent,
    LearningRate,
    MinDelta,
    Patience,
    Resume,
    Seed,
)
from schemas.errors import SettingsError
from trainer.detector import CANDIDATES, DEFAULT, DETECTORS
from whirr.durations import duration_s

if TYPE_CHECKING:
    from trainer.job import TrainConfig, TrainResult


def train(
    normal: Annotated[
        Path,
        typer.Option(help="Folder of normal recordings; DIR/<machine>/… names the machines.", rich_help_panel=DATA),
    ],
    out: Annotated[Path, typer.Option(help="The model file to write.", rich_help_panel=DATA)],
    config: Annotated[  # noqa: ARG001 (its callback takes it)
        Path | None,
        typer.Option(
            help="YAML file of options, by these names; what is given here wins over it.",
            callback=take_options,
            is_eager=True,
            dir_okay=False,
            exists=True,
        ),
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print all options as such a file, and train nothing.")
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="The model's name; default: the file's.", rich_help_panel=DATA)
    ] = None,
    detector: Annotated[
        str,
        typer.Option(help=f"What learns: {', '.join(DETECTORS)}.", show_default=True, rich_help_panel=TRAINING),
    ] = DEFAULT,
    candidates: Annotated[
        str | None,
        typer.Option(
            help=f"Detectors that auto combines, separated by commas; default: {','.join(CANDIDATES)}.",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    machine: Machine = None,
    pattern: PatternOption = None,
    labels: Labels = None,
    columns: ColumnsOption = None,
    on_error: OnErrorOption = "skip",
    rate: Rate = None,
    bands: Bands = None,
    n_fft: NFft = None,
    hop: Hop = None,
    scale: Scale = None,
    window_s: WindowS = None,
    frame_s: FrameS = None,
    percentile: Percentile = 95.0,
    threshold_method: ThresholdMethod = "tail",
    threshold_level: ThresholdLevel = "rule",
    alert_percentile: AlertPercentile = None,
    false_alerts: FalseAlerts = None,
    false_alarms_per_day: FalseAlarmsPerDay = None,
    k: RuleK = 3,
    n: RuleN = 5,
    held_out_share: HeldOutShare = 0.2,
    epochs: Epochs = 50,
    patience: Patience = 10,
    min_delta: MinDelta = 0.0,
    batch: Batch = 32,
    learning_rate: LearningRate = 1e-3,
    latent: Latent = 40,
    accelerator: Accelerator = "auto",
    seed: Seed = 0,
    checkpoints: Checkpoints = None,
    resume: Resume = False,
    reference: Annotated[
        str | None,
        typer.Option(
            help="Take reference statistics of so long (7d, 12h) from the feature store's history into the model.",
            rich_help_panel=DATA,
        ),
    ] = None,
    mlflow: Annotated[bool, typer.Option(help="Log the run in MLflow.", rich_help_panel=TRAINING)] = True,
    register: Annotated[
        bool, typer.Option("--register", help="Make it the newest version of the registered model of its name.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else.")] = False,
) -> None:
    """Train a detector on normal recordings (.wav .flac .ogg .mp3) and write one ONNX file.

    What suits the data is chosen, and printed, unless an option says otherwise. The last fifth of each machine's
    recordings, in the order of their names, is held out for the thresholds. What is labelled as an anomaly, by a word
    in its name or a folder's, or belongs to a test set, is left out.
    """
    from trainer.feature_choice import FeatureOptions
    from trainer.job import TrainConfig

    order = TrainConfig(
        normal=normal,
        out=out,
        name=name,
        detector=detector,
        candidates=CANDIDATES if candidates is None else tuple(one.strip() for one in candidates.split(",")),
        machine=machine,
        pattern=pattern,
        labels=labels,
        columns=columns_of(columns),
        on_error=on_error,
        features=FeatureOptions(rate_hz=rate, bands=bands, n_fft=n_fft, hop=hop, scale=scale, window_s=window_s),
        frame_s=frame_s,
        k=k,
        n=n,
        false_alerts_per_30_days=allowed_per_30_days(threshold_method, false_alerts, false_alarms_per_day),
        decision_percentile=percentile,
        threshold_method=threshold_method,
        threshold_level=threshold_level,
        alert_percentile=alert_percentile,
        held_out_share=held_out_share,
        epochs=epochs,
        patience=patience,
        min_delta=min_delta,
        batch=batch,
        learning_rate=learning_rate,
        latent=latent,
        accelerator=accelerator,
        seed=seed,
        checkpoints=checkpoints,
        resume=resume,
        reference_s=None if reference is None else duration_s(reference, "--reference"),
        mlflow=mlflow,
        register=register,
    )
    if out.is_dir() or out.suffix == ".ckpt":
        raise SettingsError(f"--out is {str(out)!r}; expected a file such as model.onnx")
    if print_config:
        _print_config(order)
        return
    from commands._training import PrintingObserver, QuietObserver
    from trainer.train import train_model

    try:
        with nullcontext(QuietObserver()) if as_json else PrintingObserver(order) as observer:
            result = train_model(order, observer)
    except KeyboardInterrupt:
        if checkpoints is not None and (checkpoints / "last.ckpt").is_file():
            again = shlex.join(["whirr", "train", "--config", str(checkpoints / "train.yaml"), "--resume"])
            print_warning(f"interrupted; this goes on after the last complete epoch: {again}")
        raise
    if as_json:
        print_json(_summary(result))
    elif result.metadata.run_id is not None:
        print_line(f"run        {result.metadata.run_id} in MLflow")
        if result.registered is not None:
            print_line(f"registered version {result.registered} of {result.metadata.name}")


def _print_config(order: TrainConfig) -> None:
    from trainer.options import to_yaml

    order.check()
    sys.stdout.write(to_yaml(order))


def _summary(result: TrainResult) -> dict[str, Any]:
    metadata, best = result.metadata, result.best
    return {
        "out": str(result.out),
        "checkpoint": None if result.checkpoint is None else str(result.checkpoint),
        "name": metadata.name,
        "version": metadata.version,
        "run_id": metadata.run_id,
        "registered": result.registered,
        "data_hash": metadata.data_hash,
        "features": metadata.features,
        "why": result.why,
        "recordings": result.recordings,
        "not_used": [{"name": problem.name, "reason": problem.reason} for problem in result.problems],
        "left_out": dict(result.left_out),
        "notes": list(result.notes),
        "stretches_left_out": result.stretches_left_out,
        "remarks": [{"name": remark.name, "reason": remark.reason} for remark in result.remarks],
        "doubts": result.doubts,
        "windows": result.windows,
        "held_out_windows": result.held_out_windows,
        "detector": metadata.detector,
        "detector_why": result.detector_why,
        "detector_figures": dict(result.detector_figures),
        "epochs": len(result.history),
        "best_epoch": None if best is None else best.epoch,
        "train_loss": None if best is None else best.train_loss,
        "held_out_loss": None if best is None else best.held_out_loss,
        "seconds": round(result.seconds, 3),
        "frame_s": metadata.calibration.frame_s,
        "thresholds": metadata.thresholds,
        "machine_thresholds": metadata.machine_thresholds,
        "calibration": metadata.calibration,
        "statistics_reference": metadata.statistics_reference,
        "false_alarms": result.check,
    }
