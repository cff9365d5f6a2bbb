"""Training, from a folder of normal recordings to a model file: what ``whirr train`` and the demo call."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_repo.store import history_folder
from recordings.find import checked_folder
from schemas import Calibration, FeatureConfig, GoldenWindow, ModelMetadata, StatisticsReference, format_rfc3339
from schemas.condition import UNKNOWN, Condition
from schemas.errors import MissingExtra, ServiceUnavailable
from schemas.model_metadata import MAX_NAME, MAX_NOT_LEARNT, NotLearnt
from stream_app.pipeline.model import Model, golden_window
from trainer.baselines import baselines
from trainer.checkpoints import last_checkpoint
from trainer.conditions import Ranges, fit_conditioned, without_conditions
from trainer.dataset import HeldOutSet
from trainer.day_to_day import by_day
from trainer.detector import Fitted, find_detector
from trainer.early import with_early_tests
from trainer.exceedance import Runs
from trainer.false_alarms import FalseAlarmCheck, check_false_alarms
from trainer.feature_choice import Choice, choose_features, frame_length
from trainer.graph import Float32, Graph
from trainer.live_days import LiveDay, held_to_days
from trainer.recording_set import RecordingSet, data_hash, find_recordings, split
from trainer.screening import Screened, check_enough, screen, warnings
from trainer.spectrograms import Prepared, prepare
from trainer.thresholds import Calibrated, calibrate, raised_for_days
from trainer.train_options import TrainConfig
from trainer.train_result import Observer, TrainResult
from trainer.trimming import Stray, trim
from trainer.window_bursts import steadier
from trainer.windows import thinned
from whirr.label_spans import label_groups
from whirr.outputs import check_file, check_folder
from whirr.settings import Settings, load_settings

__all__ = ["Observer", "TrainConfig", "TrainResult", "train_model"]

PERCENTILES = (1, 5, 25, 50, 75, 90, 95, 99, 100)
GOLDEN_WINDOWS = 8
GOLDEN_LENGTH = 10  # windows: where a frame is one, a minute of it would make the file large


@dataclass(frozen=True, slots=True)
class _Inputs:
    """What a training stands on."""

    screened: Screened
    choice: Choice
    calibration: Calibration
    prepared: Prepared
    strays: tuple[Stray, ...]
    reference: dict[str, StatisticsReference]


@dataclass(frozen=True, slots=True)
class _Trained:
    """What a detector gave, and what it says of the held-out normals."""

    fitted: Fitted
    scores: Float32  # [window], by a graph that has not seen them
    held_out: HeldOutSet  # which those are, with the frame score that was chosen
    band_error: Float32  # [window, channel, band], likewise
    calibrated: Calibrated
    check: FalseAlarmCheck
    percentiles: dict[str, float]
    ranges: Ranges  # by condition that the graph takes

    @property
    def graph(self) -> Graph:
        """What is saved."""
        return self.fitted.graph


def train_model(
    config: TrainConfig,
    observer: Observer | None = None,
    settings: Settings | None = None,
    run_tags: Mapping[str, str] | None = None,
    live: Sequence[LiveDay] = (),
) -> TrainResult:
    """Train a model on normal recordings, write it, and log the run.

    Args:
        config: What and how.
        observer: Hears how it goes on.
        settings: For MLflow; default: those in force.
        run_tags: That the run in MLflow carries.
        live: Normal days of the one machine, as models before this one scored them live.

    Raises:
        SettingsError: An option is out of its range, or options contradict each other; or there is no checkpoint to
            resume from, or it is of another training.
        RecordingError: The folder holds too little that can be used, or mostly sensor faults; or a file can't be used
            and ``on_error`` is ``fail``.
        ModelError: The exported graph doesn't give the trained module's scores.
        FeatureStoreError: Reference statistics are wanted, and the history has none.
        ServiceUnavailable: MLflow can't be used, as is noticed before training; or not any more, and then the model has
            been written before.
        MissingExtra: The packages of the detector or of MLflow are not installed.
    """
    config.check()
    last_checkpoint(config)
    observer = observer or Observer()
    settings = settings or load_settings()
    checked_folder(config.normal, "normal recordings")
    _check_ends(config, settings)
    started_at, started = datetime.now(UTC), time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="whirr-train-") as folder:
        inputs = _prepare(config, Path(folder), observer, settings, started_at)
        trained = _train(config, inputs, observer, Path(folder), live)
        metadata = _metadata(config, inputs, trained, started_at)
    result = _result(config, inputs, trained, metadata, time.perf_counter() - started)
    _save(result, trained)
    observer.on_saved(result)
    if not config.mlflow:
        return result
    result = _track(config, result, trained, started_at, settings, run_tags)
    from trainer.registration import publish

    return publish(result, trained.held_out.frame_scores(trained.scores), config.register, settings)


def _check_ends(config: TrainConfig, settings: Settings) -> None:
    """Look for all that the end of a training needs, before it begins."""
    check_file(config.out, "out")
    check_file(config.out.with_suffix(".ckpt"), "out's checkpoint")
    if config.checkpoints is not None:
        check_folder(config.checkpoints, "checkpoints")
    if not config.mlflow:
        return
    if any(find_spec(package) is None for package in ("mlflow", "matplotlib")):
        raise MissingExtra("logging the run in MLflow", "train", "without it: --no-mlflow")
    from trainer.registration import check_registry

    try:
        check_registry(settings, config.model_name if config.register else None)
    except ServiceUnavailable as error:
        raise ServiceUnavailable(f"{error}. Nothing has been trained yet; --no-mlflow trains without it") from error


def _prepare(
    config: TrainConfig, folder: Path, observer: Observer, settings: Settings, started_at: datetime
) -> _Inputs:
    found = find_recordings(config.normal, config.naming, config.on_error, columns=config.columns)
    observer.on_found(found)
    reference = _reference(config, found, settings, started_at)
    detector = find_detector(config.detector)
    choice = choose_features(
        found, config.features, config.frame_s, detector.sound_rate_hz, whole_frames=detector.whole_frames
    )
    calibration = _calibration(config, found, choice.features)
    observer.on_features(choice, calibration.frame_s)
    screened = screen(found, choice.features, calibration.frame_s, config.on_error)
    while True:
        train, held_out = split(screened.found.recordings, calibration.frame_s, config.held_out_share)
        parts = screened.of(train), screened.of(held_out)
        if not all(parts):
            check_enough(0, 0, screened.found, calibration.frame_s, config.held_out_share)
        prepared = prepare(*parts, choice.features, calibration.frame_s, folder, observer.on_recording)
        if isinstance(prepared, Prepared):
            break
        # A header may promise what the file doesn't hold; without such files the split is another.
        screened = screened.without(prepared, config.on_error)
    observer.on_problems(screened.found.problems)
    observer.on_screened(screened.left_out, screened.remarks)
    counts = len(prepared.train), len(prepared.held_out.frames)
    check_enough(*counts, screened.found, calibration.frame_s, config.held_out_share)
    prepared = replace(prepared, data_hash=data_hash(screened.found.recordings))
    trimmed = trim(prepared, config.trim, folder, without_conditions(prepared, folder) if config.trim else None)
    observer.on_trimmed(trimmed.strays, trimmed.judged, trimmed.learnt)
    observer.on_windows(len(trimmed.prepared.train), len(trimmed.prepared.held_out.windows))
    return _Inputs(screened, choice, calibration, trimmed.prepared, trimmed.strays, reference)


def _reference(
    config: TrainConfig, found: RecordingSet, settings: Settings, now: datetime
) -> dict[str, StatisticsReference]:
    if config.reference_s is None:
        return {}
    from trainer.reference import reference_statistics

    machines = [machine for machine in found.machines if machine is not None]
    return reference_statistics(history_folder(settings), machines, now, config.reference_s, found.faults)


def _calibration(config: TrainConfig, found: RecordingSet, features: FeatureConfig) -> Calibration:
    return Calibration(
        frame_s=frame_length(found, features, config.frame_s),
        every_s=config.every_s,
        k=config.k,
        n=config.n,
        false_alerts_per_30_days=config.false_alerts_per_30_days,
        decision_percentile=config.decision_percentile,
        threshold_method=config.threshold_method,
        threshold_level=config.threshold_level,
        alert_percentile=(config.alert_percentile or 99.0) if config.threshold_method == "percentile" else None,
    )


def _train(config: TrainConfig, inputs: _Inputs, observer: Observer, folder: Path, live: Sequence[LiveDay]) -> _Trained:
    held_out = inputs.prepared.held_out
    detector = find_detector(config.detector)
    fitted, ranges = fit_conditioned(detector, inputs.prepared, config, folder, observer.on_epoch)
    scores, band_error = (fitted.judge or fitted.graph).score(held_out.windows, held_out.conditions)
    how = steadier(held_out, scores) if config.frame_score == "auto" else config.frame_score
    held_out = replace(held_out, frame_score=how)
    runs = held_out.frame_scores(scores)
    calibrated = calibrate(runs, inputs.calibration)
    unseen = _unseen_frames(inputs, fitted)
    days = {} if unseen is None else _days(inputs, fitted, unseen)
    calibrated = raised_for_days(calibrated, days, inputs.calibration)
    calibrated = with_early_tests(calibrated, unseen or runs, inputs.calibration, days)
    calibrated = held_to_days(calibrated, live, inputs.calibration)
    check = check_false_alarms(runs, calibrated, inputs.calibration)
    frames = np.concatenate([run for own in runs.values() for run in own])
    percentiles = {str(number): float(np.percentile(frames, number)) for number in PERCENTILES}
    return _Trained(fitted, scores, held_out, band_error, calibrated, check, percentiles, ranges)


def _unseen_frames(inputs: _Inputs, fitted: Fitted) -> Mapping[str | None, Runs] | None:
    """Return scores of all normals as frames'; None where a frame is more than a window, or windows were left out."""
    single = all(frame.signals * frame.windows == 1 for frame in inputs.prepared.held_out.frames)
    same = inputs.prepared.held_out.windows.shape[-1] == inputs.choice.features.window_columns
    return fitted.unseen_runs if single and same else None


def _days(
    inputs: _Inputs, fitted: Fitted, unseen: Mapping[str | None, Runs]
) -> dict[str | None, list[NDArray[np.float64]]]:
    """Return unseen frames' scores by day, of each machine whose recordings were made on several."""
    found = inputs.screened.found.recordings
    starts_us = {one.name: one.start for one in found if isinstance(one.start, int)}
    by_machine = {
        machine: by_day(runs, fitted.unseen_recordings[machine], starts_us) for machine, runs in unseen.items()
    }
    return {machine: days for machine, days in by_machine.items() if days}


def _metadata(config: TrainConfig, inputs: _Inputs, trained: _Trained, started_at: datetime) -> ModelMetadata:
    return ModelMetadata(
        name=config.model_name,
        version=trained.graph.version,
        detector=config.detector,
        run_id=None,
        data_hash=inputs.prepared.data_hash,
        created_at=format_rfc3339(int(started_at.timestamp() * 1_000_000)),
        features=inputs.choice.features,
        thresholds=trained.calibrated.pooled,
        machine_thresholds=trained.calibrated.by_machine,
        calibration=inputs.calibration,
        score_percentiles=trained.percentiles,
        normal_band_error=trained.band_error.mean(axis=0, dtype=np.float64).tolist(),
        golden=list(_golden(inputs.prepared, trained)),
        statistics_reference=inputs.reference,
        machines=_machines(inputs.screened.found),
        conditions=trained.ranges,
        frame_score=trained.held_out.frame_score,
        not_learnt=[
            NotLearnt(recording=one.name[:MAX_NAME], start_s=one.start_s, stop_s=one.stop_s, surprise=one.surprise)
            for one in inputs.strays[:MAX_NOT_LEARNT]
        ],
        baselines=baselines(inputs.screened.found, inputs.strays, inputs.prepared.data_hash),
    )


def _machines(found: RecordingSet) -> tuple[str, ...]:
    """Return the machines that are trained on; none where some recordings don't tell theirs."""
    named = [machine for machine in found.machines if machine is not None]
    return tuple(sorted(named)) if len(named) == len(found.machines) else ()


def _result(
    config: TrainConfig, inputs: _Inputs, trained: _Trained, metadata: ModelMetadata, seconds: float
) -> TrainResult:
    prepared = inputs.prepared
    return TrainResult(
        out=config.out,
        checkpoint=config.out.with_suffix(".ckpt") if trained.fitted.has_checkpoint else None,
        metadata=metadata,
        why=inputs.choice.why,
        detector_why=trained.fitted.why,
        recordings=len(inputs.screened.found.recordings),
        problems=inputs.screened.found.problems,
        left_out=inputs.screened.found.left_out,
        notes=tuple(inputs.screened.found.notes),
        segments_left_out=inputs.screened.left_out,
        strays=inputs.strays,
        remarks=inputs.screened.remarks,
        warnings=warnings(trained.calibrated, trained.held_out, trained.scores),
        windows=len(prepared.train),
        held_out_windows=len(prepared.held_out.windows),
        history=trained.fitted.history,
        best=trained.fitted.best,
        check=trained.check,
        seconds=seconds,
        detector_figures=trained.fitted.figures,
        labelled_by=inputs.screened.found.labelled_by,
    )


def _golden(prepared: Prepared, trained: _Trained) -> Iterator[GoldenWindow]:
    """Yield held-out windows, from the best-known to the least, with the graph's scores; of long ones the beginning."""
    chosen = thinned(np.argsort(trained.scores, kind="stable"), GOLDEN_WINDOWS)
    windows = prepared.held_out.windows[chosen][..., : GOLDEN_LENGTH * prepared.features.window_columns]
    conditions = prepared.held_out.conditions[chosen]
    for window, score, stated in zip(windows, trained.graph.score(windows, conditions)[0], conditions, strict=True):
        known = Condition(*(None if np.isnan(number) else float(number) for number in stated))
        yield golden_window(window, float(score), known if trained.ranges else UNKNOWN)


def _save(result: TrainResult, trained: _Trained) -> None:
    trained.graph.save(result.out, result.metadata)
    Model.load(result.out)  # what the worker will do: golden windows and all
    if result.checkpoint is not None:
        trained.fitted.save_checkpoint(result.checkpoint, result.metadata.thresholds.decision_threshold)


def _track(
    config: TrainConfig,
    result: TrainResult,
    trained: _Trained,
    started_at: datetime,
    settings: Settings,
    run_tags: Mapping[str, str] | None,
) -> TrainResult:
    """Log the run, and write the model once more with the run's id in it."""
    from trainer.mlflow_run import MlflowRun
    from trainer.train_options import to_yaml

    try:
        run = MlflowRun(settings, result.metadata.name, started_at, run_tags)
        run.log(_parameters(config, result), result.history, _figures(result))
        run.note("train.yaml", to_yaml(config))
        tracked = replace(result, metadata=replace(result.metadata, run_id=run.run_id))
        trained.graph.save(tracked.out, tracked.metadata)
        run.finish([path for path in (tracked.out, tracked.checkpoint) if path is not None])
    except ServiceUnavailable as error:
        raise ServiceUnavailable(f"{error}. The model is trained and saved in {str(result.out)!r}") from error
    return tracked


def _parameters(config: TrainConfig, result: TrainResult) -> dict[str, Any]:
    options = {name: value for name, value in asdict(config).items() if name not in {"features", "mlflow"}}
    features = {f"features.{name}": value for name, value in asdict(result.metadata.features).items()}
    versions = {f"version.{name}": _version(name) for name in ("torch", "lightning", "onnx", "onnxruntime", "numpy")}
    of_data = {"data_hash": result.metadata.data_hash, "recordings": result.recordings, "windows": result.windows}
    groups = label_groups(result.labelled_by) if config.labels is not None else {}
    return {**options, **features, **versions, **of_data, **groups, "model_version": result.metadata.version}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _figures(result: TrainResult) -> dict[str, float]:
    metadata = result.metadata
    figures = {
        "training_s": result.seconds,
        "decision_threshold": metadata.thresholds.decision_threshold,
        "alert_threshold": metadata.thresholds.alert_threshold,
        **result.check.figures(),
        **result.detector_figures,
    }
    if result.best is not None:
        figures |= {"best_epoch": float(result.best.epoch), "best_held_out_loss": result.best.held_out_loss}
    for machine, own in metadata.machine_thresholds.items():
        figures[f"alert_threshold/{machine}"] = own.alert_threshold
    return figures
