"""``whirr train``: from a folder of normal recordings to a model file."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from trainer.detector import CANDIDATES, DEFAULT, DETECTORS
from whirr.cli._options import DATA, Bands, FrameS, Hop, Machine, NFft, OnErrorOption, Rate, Scale, WindowS
from whirr.cli._output import print_json, stdout
from whirr.cli._thresholds import (
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
from whirr.errors import SettingsError

if TYPE_CHECKING:
    from trainer.job import TrainResult

_TRAINING = "Training"


def train(
    normal: Annotated[
        Path,
        typer.Option(help="Folder of normal recordings; DIR/<machine>/… names the machines.", rich_help_panel=DATA),
    ],
    out: Annotated[Path, typer.Option(help="The model file to write.", rich_help_panel=DATA)],
    name: Annotated[
        str | None, typer.Option(help="The model's name; default: the file's.", rich_help_panel=DATA)
    ] = None,
    detector: Annotated[
        str,
        typer.Option(help=f"What learns: {', '.join(DETECTORS)}.", show_default=True, rich_help_panel=_TRAINING),
    ] = DEFAULT,
    candidates: Annotated[
        str | None,
        typer.Option(
            help=f"Detectors that auto combines, separated by commas; default: {','.join(CANDIDATES)}.",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    machine: Machine = None,
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
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the data.", rich_help_panel=_TRAINING)] = 50,
    batch: Annotated[int, typer.Option(min=1, help="Windows in a batch.", rich_help_panel=_TRAINING)] = 32,
    learning_rate: Annotated[float, typer.Option(help="Of Adam.", rich_help_panel=_TRAINING)] = 1e-3,
    latent: Annotated[
        int, typer.Option(min=1, help="Maps of the innermost layer (z).", rich_help_panel=_TRAINING)
    ] = 40,
    accelerator: Annotated[
        str, typer.Option(help="cpu, gpu, mps … as Lightning names them.", rich_help_panel=_TRAINING)
    ] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same model.", rich_help_panel=_TRAINING)] = 0,
    mlflow: Annotated[bool, typer.Option(help="Log the run in MLflow.", rich_help_panel=_TRAINING)] = True,
    register: Annotated[
        bool, typer.Option("--register", help="Make it the newest version of the registered model of its name.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else.")] = False,
) -> None:
    """Train a detector on normal recordings (.wav .flac .ogg .mp3) and write one ONNX file.

    What suits the data is chosen, and printed, unless an option says otherwise. The last fifth of each machine's
    recordings, in the order of their names, is held out for the thresholds.
    """
    from trainer.feature_choice import FeatureOptions
    from trainer.train import Observer, TrainConfig, train_model
    from whirr.cli._training import PrintingObserver

    config = TrainConfig(
        normal=normal,
        out=out,
        name=name,
        detector=detector,
        candidates=CANDIDATES if candidates is None else tuple(one.strip() for one in candidates.split(",")),
        machine=machine,
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
        latent=latent,
        learning_rate=learning_rate,
        epochs=epochs,
        batch=batch,
        accelerator=accelerator,
        seed=seed,
        mlflow=mlflow,
        register=register,
    )
    if out.is_dir() or out.suffix == ".ckpt":
        raise SettingsError(f"--out is {str(out)!r}; expected a file such as model.onnx")
    with nullcontext(Observer()) if as_json else PrintingObserver(epochs) as observer:
        result = train_model(config, observer)
    if as_json:
        print_json(_summary(result))
    elif result.metadata.run_id is not None:
        stdout.print(Text(f"run        {result.metadata.run_id} in MLflow"))
        if result.registered is not None:
            stdout.print(Text(f"registered version {result.registered} of {result.metadata.name}"))


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
        "false_alarms": result.check,
    }
