"""The evaluation as a whole: from a folder and a model to figures."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from backtest.alerting import ENOUGH_S, total
from backtest.bootstrap import intervals
from backtest.evaluation.evaluate_options import EvaluateConfig
from backtest.evaluation.labelled import find_labelled
from backtest.evaluation.result import Evaluation, MachineResult
from backtest.evaluation.scored_set import Pace, ScoredRecording, play, sample_of
from backtest.recording_metrics import MAX_FPR, RecordingMetrics, arithmetic_mean, harmonic_mean, measure
from recordings.name_words import folder_name
from schemas.errors import ModelError, SettingsError
from schemas.frame import MAX_FRAME_S, MIN_FRAME_S
from stream_app.pipeline import Model, Router
from stream_app.pipeline.unfamiliar import LENGTH_TOLERANCE
from stream_app.worker.champions import Champions
from stream_app.worker.lineups import ModelFile
from trainer.recording_set import RecordingSet, data_hash
from whirr.counts import counted
from whirr.durations import as_duration
from whirr.options import first_wrong
from whirr.settings import Route, Settings

_MIN_RECORDINGS = 10


class EvaluationObserver:
    """Hears how an evaluation goes on; the base class ignores it all."""

    def on_found(self, found: RecordingSet) -> None:
        """The folder has been looked through."""

    def on_scored(self) -> None:
        """A recording has been read."""


def evaluate(
    config: EvaluateConfig, observer: EvaluationObserver | None = None, settings: Settings | None = None
) -> Evaluation:
    """Evaluate a model on labelled recordings. Nothing is chosen by the labels: both thresholds are the model's.

    Args:
        config: What and how.
        observer: Hears how it goes on.
        settings: Where routes come from, if ``config.use_routes``.

    Raises:
        SettingsError: An option is out of its range.
        RecordingError: The folder or the file of labels can't be used, or a recording can't and ``on_error`` is
            ``fail``.
        ModelError: The model can't be used.
    """
    started = time.perf_counter()
    observer = observer or EvaluationObserver()
    model = Model.load(config.model)
    pace = _pace(config, model)
    found = find_labelled(config.folder, config.naming, config.on_error, config.columns)
    routes = {machine: _route(machine, model, config, settings) for machine in found.by_machine}
    observer.on_found(found)
    played = play(found, _champions(model, routes, config), pace, config.on_error, observer.on_scored)
    found = played.found
    machines = {
        machine: MachineResult(
            metrics=_measured(recordings, config),
            tally=played.machines[machine],
            route=routes[machine],
            recordings=recordings,
        )
        for machine, recordings in played.recordings.items()
    }
    overall = _measured([one for own in played.recordings.values() for one in own], config)
    used_hash = data_hash(found.recordings)
    return Evaluation(
        config=config,
        model=model.metadata,
        digest=model.digest,
        data_hash=used_hash,
        pace=pace,
        overall=overall,
        machines=machines,
        arithmetic=arithmetic_mean(one.metrics for one in machines.values()),
        by_fault=_by_fault(played.recordings),
        harmonic=harmonic_mean(one.metrics for one in machines.values()),
        figures=total(one.figures for one in machines.values()),
        sensor_alerts=sum(one.tally.sensor_alerts for one in machines.values()),
        problems=found.problems,
        in_train=found.in_train,
        optimistic=tuple(_optimistic(config, found, model, used_hash)),
        notes=tuple(_notes(model, pace, machines, overall)),
        seconds=time.perf_counter() - started,
        labelled_by=found.labelled_by,
    )


def _pace(config: EvaluateConfig, model: Model) -> Pace:
    frame_s = config.frame_s or model.metadata.calibration.frame_s
    if not MIN_FRAME_S <= frame_s <= MAX_FRAME_S:
        raise SettingsError(f"frames are {frame_s:g} s long; expected {MIN_FRAME_S:g} to {MAX_FRAME_S:g} s")
    window_s = model.metadata.features.window_s
    if frame_s < window_s - 1e-9:
        raise SettingsError(f"frames of {frame_s:g} s are shorter than the model's window of {window_s:g} s")
    if config.every_s is not None and not config.every_s > 0:
        raise SettingsError(f"--every-s is {config.every_s:g}; expected more than 0")
    if config.resamples < 0 or config.seed < 0:
        raise SettingsError(f"{config.resamples} resamples, seed {config.seed}; expected at least 0")
    return Pace(frame_s, config.every_s)


def _champions(model: Model, routes: Mapping[str, Route], config: EvaluateConfig) -> Champions:
    """Return each machine's route with the one model."""
    name = str(config.model)
    matching = [route.model_copy(update={"match": machine}) for machine, route in routes.items()]
    router = Router.from_routes(matching, {name: model})
    return Champions(router, {name: ModelFile(name, model.digest)})


def _route(machine: str, model: Model, config: EvaluateConfig, settings: Settings | None) -> Route:
    """Return a machine's alert rule; its threshold is the model's unless the settings' route states one."""
    found = settings.route_for(machine) if config.use_routes and settings is not None else None
    if found is not None:
        # Recordings are played at a made-up time, which a mute that has ended may lie after.
        return found.model_copy(update={"match": "*", "model": str(config.model), "muted_until": None})
    calibration = model.metadata.calibration
    try:
        return Route(model=str(config.model), k=calibration.k, n=calibration.n)
    except ValidationError as error:
        raise ModelError(
            f"model {str(config.model)!r} was calibrated for {calibration.k} of {calibration.n} frames, which is no "
            f"rule: {first_wrong(error)}"
        ) from None


def _measured(recordings: Sequence[ScoredRecording], config: EvaluateConfig) -> RecordingMetrics:
    sample = sample_of(recordings)
    return measure(sample, intervals(sample, config.resamples, config.seed))


def _by_fault(recordings: Mapping[str, Sequence[ScoredRecording]]) -> dict[str, RecordingMetrics]:
    """Return metrics of each fault that has a name, against the normals of the machines that had it."""
    names = {one.recording.fault for own in recordings.values() for one in own if one.recording.anomalous}
    found = {}
    for name in sorted(name for name in names if name is not None):
        having = [own for own in recordings.values() if any(one.recording.fault == name for one in own)]
        compared = [one for own in having for one in own if not one.recording.anomalous or one.recording.fault == name]
        found[name] = measure(sample_of(compared))
    return found


def _optimistic(config: EvaluateConfig, found: RecordingSet, model: Model, used_hash: str) -> list[str]:
    """Return why figures may be better than on unseen data."""
    reasons = []
    if used_hash == model.metadata.data_hash:
        reasons.append("these are the very recordings that the model was trained on: every figure is optimistic")
    folders = {part for one in found.recordings for part in one.name.split("/")[:-1]}
    if not reasons and any(folder_name(one).split == "train" for one in folders.union(config.folder.absolute().parts)):
        reasons.append(
            "recordings lie in a folder named 'train': if the model was trained on them, every figure is optimistic"
        )
    return reasons


def _notes(model: Model, pace: Pace, machines: Mapping[str, MachineResult], overall: RecordingMetrics) -> list[str]:
    notes = ["nothing was chosen by these labels: both thresholds are the model's, from held-out normals"]
    if overall.normals and overall.normals * MAX_FPR < 1 and overall.values["pauc"] is not None:
        notes.append(f"with {counted(overall.normals, 'normal recording')}, pauc rests on less than one of them")
    few = min(overall.normals, overall.anomalies)
    if overall.intervals and few < _MIN_RECORDINGS:
        notes.append(f"with {counted(few, 'recording')} of a class, the confidence intervals are too narrow")
    if sum(one.metrics.normals > 0 and one.metrics.anomalies > 0 for one in machines.values()) > 1:
        notes.append("over all machines, auc and pauc also compare scores of different machines")
    notes += _unfamiliar(model, machines)
    normal_s = sum(one.figures.normal_s for one in machines.values())
    paced = "played back to back" if pace.every_s is None else f"one every {pace.every_s:g} s"
    signal = f"{as_duration(normal_s)} of normal signal, recordings {paced}"
    if normal_s < ENOUGH_S:
        notes.append(f"too short to tell how many false alerts there are a day: {signal}; in brackets what they may be")
    else:
        notes.append(f"false alerts a day are those of {signal}")
    return notes


def _unfamiliar(model: Model, machines: Mapping[str, MachineResult]) -> list[str]:
    """Return what the model was not trained for."""
    counts = sum((one.tally.unfamiliar for one in machines.values()), Counter[str]())
    frames = sum(one.tally.frames for one in machines.values())
    strange = [name for name, one in machines.items() if one.tally.unfamiliar["machine"]]
    notes = []
    if strange:
        notes.append(
            f"the model was not trained on {', '.join(strange[:5])}{', …' if len(strange) > 5 else ''}: its thresholds "
            "there are those of other machines, and what is normal for one is not for another"
        )
    if counts["rate"]:
        notes.append(
            f"{counts['rate']} of {frames} frames have a sample rate that leaves the model's bands up to "
            f"{model.metadata.features.fmax_hz:g} Hz empty, so their scores mean little"
        )
    if counts["length"]:
        notes.append(
            f"{counts['length']} of {frames} frames differ by more than {LENGTH_TOLERANCE:.0%} from the "
            f"{model.metadata.calibration.frame_s:g} s that the thresholds were made for, so these may be off"
        )
    if counts["condition"]:
        notes.append(
            f"{counts['condition']} of {frames} frames are at speeds or loads beyond those that the model learnt from, "
            "so their scores mean little"
        )
    if untold := sum(one.tally.untold for one in machines.values()):
        needed = " and ".join(model.metadata.conditions)
        notes.append(f"{untold} of {frames} frames don't state the {needed} that the model judges by: judged without")
    return notes
