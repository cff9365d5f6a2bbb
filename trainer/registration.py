"""Registration: a trained model becomes a version in MLflow's registry, with what explains it beside it."""

from __future__ import annotations

import platform
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from schemas import ModelMetadata
from schemas.champion_tags import term_tags
from schemas.condition import CONDITIONS, UNKNOWN, Condition
from schemas.errors import ServiceUnavailable
from schemas.model_uri import CHALLENGER, CHAMPION, DIGEST_TAG, MODEL_FILE
from stream_app.pipeline import golden_array
from stream_app.pipeline.model import CONDITION, INPUT, Model, as_array
from trainer.plots import loss_curve, score_histogram
from trainer.promotion import FalseAlarmCount, false_alarms
from trainer.train_result import TrainResult
from whirr import __version__
from whirr.mlflow_client import TrackingServer, is_missing, quiet
from whirr.settings import Settings

Runs = Mapping[str | None, Sequence[NDArray[np.float64]]]


def check_registry(settings: Settings, name: str | None = None) -> None:
    """Look whether a run can be logged, and a model registered, before there is one.

    Args:
        settings: For MLflow.
        name: Of the registered model; None for none.

    Raises:
        ServiceUnavailable: MLflow, or the folder that it keeps files in, can't be used.
        MissingExtra: It is a database, and what talks to one is not installed.
    """
    server = TrackingServer(settings)
    with quiet(), server.client() as client:
        experiment = client.get_experiment_by_name(settings.mlflow_experiment)
        if experiment is not None:
            if experiment.lifecycle_stage != "active":
                raise ServiceUnavailable(
                    f"MLflow at {server.shown}: experiment {settings.mlflow_experiment!r} is deleted; restore it "
                    "(`mlflow experiments restore`), or name another one: WHIRR_MLFLOW_EXPERIMENT"
                )
            server.check_place(experiment.artifact_location)
        if name is not None:
            client.search_model_versions(filter_string=f"name='{name}'", max_results=1)


def publish(
    result: TrainResult, runs: Runs, register: bool, settings: Settings, first_from_us: int | None = None
) -> TrainResult:
    """Add what explains a logged run to it, and register its model if asked.

    Args:
        result: Of the training; its run is in MLflow.
        runs: Held-out normal frames' scores per machine (None: not named), one array [frame] a recording.
        register: Whether to make the model a version of the registered model of its name.
        settings: For MLflow.
        first_from_us: As :func:`register_model` takes it.

    Returns:
        The result, with the version's number if there is one.

    Raises:
        ServiceUnavailable: MLflow can't be used; the model has been written before.
    """
    alarms = false_alarms(runs, result.metadata)
    try:
        with quiet(), TrackingServer(settings).client() as client:
            _explain(client, result, np.concatenate([run for own in runs.values() for run in own]))
            client.log_metric(result.metadata.run_id, "held_out_false_alarm_rate", alarms.rate)
            version = register_model(client, result.out, alarms, first_from_us) if register else None
    except ServiceUnavailable as error:
        raise ServiceUnavailable(f"{error}. The model is trained and saved in {str(result.out)!r}") from error
    return replace(result, registered=version, held_out_alarms=alarms)


def register_model(client: Any, file: Path, alarms: FalseAlarmCount, first_from_us: int | None = None) -> int:
    """Log a model file and make it the newest version of the registered model of its name; return its number.

    It becomes the challenger, and the champion too if there is none.

    Args:
        client: MLflow's.
        file: The model; its metadata names its run.
        alarms: What promotion judges it by.
        first_from_us: Should it be the first: recording time from which on frames are its, microseconds since the
            epoch; a machine that waits for its first model is learning until then, in a backtest too. Default: from
            when a worker sees it.

    Raises:
        ModelError: The file can't be used.
    """
    model = Model.load(file)
    name = model.metadata.name
    _ensure_registered(client, name)
    aliases = dict(client.get_registered_model(name).aliases)
    first = {} if CHAMPION in aliases or first_from_us is None else term_tags(first_from_us, ())
    version = add_version(client, file, alarms, first)
    client.set_registered_model_alias(name, CHALLENGER, str(version))
    if CHAMPION not in aliases:
        client.set_registered_model_alias(name, CHAMPION, str(version))
    return version


def add_version(client: Any, file: Path, alarms: FalseAlarmCount, tags: Mapping[str, str]) -> int:
    """Log a model file and make it the newest version of the registered model of its name, without an alias.

    The version appears with all of its tags, or not at all.

    Args:
        client: MLflow's.
        file: The model; its metadata names its run.
        alarms: What promotion judges it by.
        tags: More that it carries.

    Returns:
        The version's number.

    Raises:
        ModelError: The file can't be used.
    """
    model = Model.load(file)
    metadata = model.metadata
    logged = _log_model(client, file, metadata)
    _ensure_registered(client, metadata.name)
    version = client.create_model_version(
        metadata.name,
        source=logged.artifact_location,
        run_id=metadata.run_id,
        tags={**_tags(model, alarms), **tags},
        model_id=logged.model_id,
    )
    return int(version.version)


def _explain(client: Any, result: TrainResult, scores: NDArray[np.float64]) -> None:
    run_id = result.metadata.run_id
    client.log_dict(run_id, _environment(), "environment.json")
    if result.best is not None:
        client.log_figure(run_id, loss_curve(result.history, result.best), "plots/loss.png")
    client.log_figure(run_id, score_histogram(scores, result.metadata.thresholds), "plots/held_out_scores.png")


def _environment() -> dict[str, Any]:
    packages = {dist.metadata["Name"]: dist.version for dist in distributions()}
    return {
        "whirr": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
    }


def _log_model(client: Any, file: Path, metadata: ModelMetadata) -> Any:
    """Log the file as an MLflow model of the run that it names."""
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model as MlflowModel

    logged = client.create_logged_model(
        client.get_run(metadata.run_id).info.experiment_id,
        name=re.sub(r"\.", "-", metadata.name),  # the registry takes dots, the list of logged models does not
        source_run_id=metadata.run_id,
        model_type=metadata.detector,
    )
    client.log_outputs(metadata.run_id, [LoggedModelOutput(logged.model_id, 0)])
    described = MlflowModel(
        artifact_path=logged.artifact_location,
        model_uuid=logged.model_id,
        run_id=metadata.run_id,
        model_id=logged.model_id,
    )
    with tempfile.TemporaryDirectory(prefix="whirr-register-") as folder:
        path = Path(folder) / "model"
        write_mlflow_model(path, file, metadata, described)
        client.log_model_artifacts(logged.model_id, str(path))
    return client.finalize_logged_model(logged.model_id, "READY")


def write_mlflow_model(path: Path, file: Path, metadata: ModelMetadata, described: Any = None) -> None:
    """Write a model file as a folder that MLflow can load: signature, input example, metadata, requirements.

    Args:
        path: The folder to make.
        file: The model; it arrives byte for byte.
        metadata: What the file says of itself.
        described: An ``mlflow.models.Model`` to fill, for its ids.
    """
    import mlflow.onnx
    import onnx

    # Named, not inferred: to infer them MLflow loads the model in another process.
    requirements = [f"{name}=={_version(name)}" for name in ("onnx", "onnxruntime", "numpy")]
    mlflow.onnx.save_model(
        onnx.load(str(file)),
        str(path),
        mlflow_model=described,
        signature=_signature(metadata),
        input_example=_example(metadata),
        metadata=_summary(metadata),
        pip_requirements=requirements,
        onnx_execution_providers=["CPUExecutionProvider"],
        save_as_external_data=False,
    )
    shutil.copyfile(file, path / MODEL_FILE)  # MLflow has written it anew; digests must stay


def _signature(metadata: ModelMetadata) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    f = metadata.features
    columns = f.window_columns if f.time_axis == "fixed" else -1
    single = np.dtype(np.float32)
    stated = [TensorSpec(single, (-1, len(CONDITIONS)), CONDITION)] if metadata.conditions else []
    return ModelSignature(
        inputs=Schema([TensorSpec(single, (-1, f.channels, f.bands, columns), INPUT), *stated]),
        outputs=Schema(
            [TensorSpec(single, (-1,), "score"), TensorSpec(single, (-1, f.channels, f.bands), "band_error")]
        ),
    )


def _example(metadata: ModelMetadata) -> dict[str, NDArray[np.float32]]:
    """Return a window that was recorded; one of silence where the file carries none."""
    if metadata.golden:
        golden = metadata.golden[0]
        stated = {CONDITION: as_array([Condition(*(golden.condition or UNKNOWN))])} if metadata.conditions else {}
        return {INPUT: golden_array(golden)[np.newaxis], **stated}
    f = metadata.features
    stated = {CONDITION: as_array([UNKNOWN])} if metadata.conditions else {}
    return {INPUT: np.full((1, f.channels, f.bands, f.window_columns), np.log(f.floor), np.float32), **stated}


def _summary(metadata: ModelMetadata) -> dict[str, Any]:
    """Return the metadata without what is long: the windows are in the example, the rest is in the file."""
    summary: dict[str, Any] = asdict(replace(metadata, golden=[], normal_band_error=[]))
    del summary["golden"], summary["normal_band_error"]
    return summary


def _tags(model: Model, alarms: FalseAlarmCount) -> dict[str, str]:
    metadata = model.metadata
    return {
        "whirr_version": __version__,
        "model_version": metadata.version,
        "detector": metadata.detector,
        "data_hash": metadata.data_hash,
        "alert_threshold": repr(metadata.thresholds.alert_threshold),
        "decision_threshold": repr(metadata.thresholds.decision_threshold),
        "machine_thresholds": orjson.dumps(metadata.machine_thresholds).decode()[:5000],
        "held_out_normals": str(alarms.normals),
        "held_out_false_alarms": str(alarms.above),
        DIGEST_TAG: model.digest,
    }


def _ensure_registered(client: Any, name: str) -> None:
    try:
        client.get_registered_model(name)
    except Exception as error:
        if not is_missing(error):
            raise
        client.create_registered_model(name, description="Anomaly detector, trained by `whirr train`")


def _version(name: str) -> str:
    from importlib.metadata import version

    return version(name)
