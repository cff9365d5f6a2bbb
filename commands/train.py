"""``whirr train``: from a folder of normal recordings to a model file."""

from __future__ import annotations

import shlex
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands._config_file import take_options
from commands._options import AsJson, takes
from commands._output import print_json, print_line, print_warning
from schemas.errors import SettingsError
from trainer.train_options import TrainConfig, to_yaml

if TYPE_CHECKING:
    from trainer.train_result import TrainResult


@takes(TrainConfig)
def train(
    order: TrainConfig,
    *,
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
    as_json: AsJson = False,
) -> None:
    """Train a detector on normal recordings and write one ONNX file.

    What suits the data is chosen, and printed, unless an option says otherwise. The last fifth of each machine's
    recordings, in the order of their names, is held out for the thresholds. What is labelled as an anomaly, by a word
    in its name or a folder's, or belongs to a test set, is left out.
    """
    if order.out.is_dir() or order.out.suffix == ".ckpt":
        raise SettingsError(f"--out is {str(order.out)!r}; expected a file such as model.onnx")
    if print_config:
        order.check()
        sys.stdout.write(to_yaml(order))
        return
    if unused := order.without_effect():
        names = ", ".join(f"--{name.replace('_', '-')}" for name in unused)
        print_warning(f"{names}: of no effect with detector {order.detector!r}; --detector conv_ae learns in epochs")
    from commands._training import PrintingTrainingObserver, QuietTrainingObserver
    from trainer.train import train_model

    try:
        with nullcontext(QuietTrainingObserver()) if as_json else PrintingTrainingObserver(order) as observer:
            result = train_model(order, observer)
    except KeyboardInterrupt:
        checkpoints = order.checkpoints
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
        "segments_left_out": result.segments_left_out,
        "not_learnt": result.strays,
        "remarks": [{"name": remark.name, "reason": remark.reason} for remark in result.remarks],
        "warnings": result.warnings,
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
