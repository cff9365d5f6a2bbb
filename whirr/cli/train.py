"""``whirr train``: from a folder of normal recordings to a model file."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.text import Text

from whirr.cli._output import print_json, stdout
from whirr.errors import SettingsError

if TYPE_CHECKING:
    from trainer.job import TrainResult

_DATA, _FEATURES, _TRAINING, _THRESHOLDS = "Data", "Features", "Training", "Thresholds"


def train(
    normal: Annotated[
        Path,
        typer.Option(help="Folder of normal recordings; DIR/<machine>/… names the machines.", rich_help_panel=_DATA),
    ],
    out: Annotated[Path, typer.Option(help="The model file to write.", rich_help_panel=_DATA)],
    name: Annotated[
        str | None, typer.Option(help="The model's name; default: the file's.", rich_help_panel=_DATA)
    ] = None,
    machine: Annotated[
        str | None, typer.Option(help="The machine that all recordings are of.", rich_help_panel=_DATA)
    ] = None,
    on_error: Annotated[
        Literal["skip", "fail"], typer.Option(help="What to do with files that can't be used.", rich_help_panel=_DATA)
    ] = "skip",
    rate: Annotated[int | None, typer.Option(help="Sample rate in Hz.", min=100, rich_help_panel=_FEATURES)] = None,
    bands: Annotated[int | None, typer.Option(help="Frequency bands.", min=1, rich_help_panel=_FEATURES)] = None,
    n_fft: Annotated[
        int | None, typer.Option("--n-fft", help="Samples in a spectrum.", min=16, rich_help_panel=_FEATURES)
    ] = None,
    hop: Annotated[
        int | None, typer.Option(help="Samples between two spectra.", min=1, rich_help_panel=_FEATURES)
    ] = None,
    scale: Annotated[
        Literal["mel", "linear"] | None, typer.Option(help="Scale of the bands.", rich_help_panel=_FEATURES)
    ] = None,
    window_s: Annotated[
        float | None, typer.Option(help="Length of a window in seconds.", min=0.01, rich_help_panel=_FEATURES)
    ] = None,
    frame_s: Annotated[
        float | None,
        typer.Option(
            help="Length in seconds of the frames that thresholds are made for; default: 1, or the shortest recording.",
            min=0.1,
            max=60,
            rich_help_panel=_THRESHOLDS,
        ),
    ] = None,
    percentile: Annotated[
        float, typer.Option(help="Of held-out normals: decision threshold.", rich_help_panel=_THRESHOLDS)
    ] = 95.0,
    false_alerts: Annotated[
        float, typer.Option(help="Allowed false alerts per machine and 30 days.", rich_help_panel=_THRESHOLDS)
    ] = 1.0,
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
    """Train a convolutional autoencoder on normal recordings (.wav .flac .ogg .mp3) and write one ONNX file.

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
        machine=machine,
        on_error=on_error,
        features=FeatureOptions(rate_hz=rate, bands=bands, n_fft=n_fft, hop=hop, scale=scale, window_s=window_s),
        frame_s=frame_s,
        false_alerts_per_30_days=false_alerts,
        decision_percentile=percentile,
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
    metadata = result.metadata
    return {
        "out": str(result.out),
        "checkpoint": str(result.checkpoint),
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
        "epochs": len(result.history),
        "best_epoch": result.best.epoch,
        "train_loss": result.best.train_loss,
        "held_out_loss": result.best.held_out_loss,
        "seconds": round(result.seconds, 3),
        "frame_s": metadata.calibration.frame_s,
        "thresholds": metadata.thresholds,
        "machine_thresholds": metadata.machine_thresholds,
    }
