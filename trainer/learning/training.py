"""One training of one machine, from an order to a version in the registry: what runs in another process, or elsewhere.

The version appears with all that it says of itself, or not at all, and carries the id of the job. So a job that is run
again, after a crash or by two at once, is looked up first and changes nothing. No alias is given here: nothing serves.
"""

from __future__ import annotations

import logging
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from archive import Archive, ArchiveEntry
from archive import open as open_archive
from schemas.errors import ModelError, RecordingError, ServiceUnavailable, WhirrError
from schemas.model_uri import MODEL_FILE
from schemas.times import format_rfc3339
from stream_app.pipeline import Model
from trainer.detector import DEFAULT
from trainer.learning.anchor import Departure, departure
from trainer.learning.archived_scores import FaultTest, archived_scores, fault_test
from trainer.learning.frame_choice import learnable, represent, usual_interval_s
from trainer.learning.learner import Job
from trainer.learning.learning_tags import JOB_TAG, learning_tags
from trainer.learning.spans import Span
from trainer.train_options import TrainConfig
from whirr.maintenance import Maintenance
from whirr.mlflow_client import TrackingServer, is_missing, quiet
from whirr.settings import Settings

FRAMES: Final = 400  # of a machine are learnt, of however many that were heard
TEST_FRAMES: Final = 200  # of its confirmed faults, and as many normals, test what was learnt
BACK_TO_BACK: Final = 1.5  # frames that come less than so many of their lengths apart

JobState = Literal["registered", "impossible", "failed"]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOrder:
    """A job with all that it takes to run it elsewhere.

    Attributes:
        job: What to train, and from what.
        model: Name of the machine's registered model.
        archive_url: Where what was heard is.
        settings: For MLflow, and with the maintenance windows.
        anchor: Number of the version that is the anchor; None: none is.
        champion: Number of the version that serves; None: none does.
        detector: What is trained.
        every_s: Seconds between the starts of the machine's frames; None: as the archive tells.
        running_dbfs: Quieter frames are of a machine that stands, and are not learnt.
        frames: So many are learnt at most.
    """

    job: Job
    model: str
    archive_url: str
    settings: Settings
    anchor: int | None = None
    champion: int | None = None
    detector: str = DEFAULT
    every_s: float | None = None
    running_dbfs: float | None = None
    frames: int = FRAMES


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOutcome:
    """What became of a job.

    Attributes:
        job_id, machine_id: Which.
        state: ``registered``; ``impossible`` from what was heard so far, such as too little; or ``failed``, and may
            succeed when it is tried again.
        why: In words, for the last two; with a traceback where nobody has foreseen it.
        version: Number of the version that it ended in.
        frames: That were learnt from.
        left_out: Archived frames that were not, by reason.
        departure: From the anchor; None where there is none.
        test: By ``challenger`` and ``champion``, how each judges the confirmed faults.
        again: Whether an earlier run of the job had made the version.
        seconds: That it took.
    """

    job_id: str
    machine_id: str
    state: JobState
    why: str = ""
    version: int | None = None
    frames: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    departure: Departure | None = None
    test: Mapping[str, FaultTest] = field(default_factory=dict)
    again: bool = False
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class _Material:
    """What a job learns from.

    Attributes:
        entries: The frames.
        span: Of which time.
        left_out: Archived frames of the job's time that are not learnt, by reason.
        departure: From the anchor.
        heard: Archived frames of the job's time.
        every_s: Seconds between frames' starts; None: they come back to back.
        unlearnt: Normal frames that are not among them, for the test.
    """

    entries: Sequence[ArchiveEntry]
    span: Span
    left_out: Mapping[str, int]
    departure: Departure | None
    heard: int
    every_s: float | None
    unlearnt: Sequence[ArchiveEntry]


def run_job(order: JobOrder) -> JobOutcome:
    """Run a job; whatever happens is said in the outcome."""
    started = time.perf_counter()
    outcome = _outcome(order)
    return replace(outcome, seconds=time.perf_counter() - started)


def failed(order: JobOrder, why: str) -> JobOutcome:
    """Return the outcome of a job that may be tried again."""
    return JobOutcome(job_id=order.job.job_id, machine_id=order.job.machine_id, state="failed", why=why)


def _outcome(order: JobOrder) -> JobOutcome:
    try:
        return _done_before(order) or _train(order)
    except RecordingError as error:
        return replace(failed(order, str(error)), state="impossible")
    except WhirrError as error:
        return failed(order, str(error))
    except Exception:
        _log.exception("training of %s failed", order.job.machine_id)
        return failed(order, traceback.format_exc())


def _done_before(order: JobOrder) -> JobOutcome | None:
    with quiet(), TrackingServer(order.settings).client() as client:
        version = version_of_job(client, order.model, order.job.job_id)
    if version is None:
        return None
    return replace(failed(order, ""), state="registered", version=version, again=True)


def version_of_job(client: Any, name: str, job_id: str) -> int | None:
    """Return the number of the version of a registered model that a job ended in; None: it didn't."""
    try:
        found = client.search_model_versions(f"name='{name}'")
    except Exception as error:
        if is_missing(error):
            return None
        raise
    numbers = [int(one.version) for one in found if dict(one.tags).get(JOB_TAG) == job_id]
    return min(numbers, default=None)


def _train(order: JobOrder) -> JobOutcome:
    from trainer.registration import add_version
    from trainer.train import train_model

    archive = open_archive(order.archive_url)
    with tempfile.TemporaryDirectory(prefix="whirr-learn-") as text:
        folder = Path(text)
        material = _material(order, archive, folder)
        archive.fetch(material.entries, folder / "normal")
        tags = learning_tags(order.job, material.span, material.departure)
        _forget_runs(order)
        config = TrainConfig(
            normal=folder / "normal",
            out=folder / MODEL_FILE,
            name=order.model,
            machine=order.job.machine_id,
            detector=order.detector,
            every_s=material.every_s,
            accelerator="cpu",
        )
        live = order.job.live_until(material.span.until_us)
        result = train_model(config, settings=order.settings, run_tags=tags, live=live)
        tests = _tests(order, archive, material, folder)
        with quiet(), TrackingServer(order.settings).client() as client:
            _explain(client, str(result.metadata.run_id), order, material, tests)
            version = version_of_job(client, order.model, order.job.job_id)  # another may have been faster
            if version is None:
                assert result.held_out_alarms is not None
                version = add_version(client, result.out, result.held_out_alarms, tags | _test_tags(tests))
    return replace(
        failed(order, ""),
        state="registered",
        version=version,
        frames=len(material.entries),
        left_out=material.left_out,
        departure=material.departure,
        test=tests,
    )


def _material(order: JobOrder, archive: Archive, folder: Path) -> _Material:
    job = order.job
    heard = archive.entries(job.machine_id, job.span.from_us, job.span.until_us)
    may, left_out = learnable(heard, job.left_out, order.running_dbfs, Maintenance(order.settings.maintenance))
    span, left = job.span, None
    if job.anchored and order.anchor is not None:
        left = _departure(order, archive, represent(may, order.frames), folder)
        until_us = job.learnt_until_us(left.since_us)
        if until_us is not None and (span.until_us is None or until_us < span.until_us):
            span = Span(span.from_us, until_us)
            kept = [one for one in may if one.recorded_us < until_us]
            left_out = {**left_out, "left_anchor": len(may) - len(kept)}
            may = kept
    if not may:
        raise RecordingError(_nothing(order, len(heard), left_out))
    entries = represent(may, order.frames)
    learnt = {one.frame_id for one in entries}
    return _Material(
        entries=entries,
        span=span,
        left_out=left_out,
        departure=left,
        heard=len(heard),
        every_s=_every_s(order, heard),
        unlearnt=represent([one for one in may if one.frame_id not in learnt], TEST_FRAMES),
    )


def _nothing(order: JobOrder, heard: int, left_out: Mapping[str, int]) -> str:
    span, machine = order.job.span, order.job.machine_id
    until = "now" if span.until_us is None else format_rfc3339(span.until_us)
    of_that = ", ".join(f"{count} {why}" for why, count in left_out.items()) or "none"
    return (
        f"{heard} archived frames of {machine!r} from {format_rfc3339(span.from_us)} to {until}, of which nothing may "
        f"be learnt (left out: {of_that}); expected some"
    )


def _departure(order: JobOrder, archive: Archive, entries: Sequence[ArchiveEntry], folder: Path) -> Departure:
    anchor = _version_file(order, order.anchor, folder)
    moments_us, scores = archived_scores(anchor, archive, entries)
    return departure(anchor.metadata.thresholds_for(order.job.machine_id), moments_us, scores.tolist())


def _every_s(order: JobOrder, heard: Sequence[ArchiveEntry]) -> float | None:
    """Return how far apart frames come; None where that is back to back, or isn't known."""
    every_s = order.every_s or usual_interval_s(heard)
    if every_s is None or not heard:
        return every_s
    longest = max(one.duration_s for one in heard[-order.frames :])
    return None if every_s < BACK_TO_BACK * longest else every_s


def _version_file(order: JobOrder, number: int | None, folder: Path) -> Model:
    server = TrackingServer(order.settings)
    with quiet(), server.client() as client:
        return Model.load(server.download(client, order.model, str(number), MODEL_FILE, folder / f"version-{number}"))


def _tests(order: JobOrder, archive: Archive, material: _Material, folder: Path) -> dict[str, FaultTest]:
    """Return how the new version, and the champion, judge the confirmed faults; nothing where there are none."""
    machine = order.job.machine_id
    found = {one.path: one for span in order.job.faults for one in archive.entries(machine, *span)}
    faults = represent(list(found.values()), TEST_FRAMES)
    if not faults:
        return {}
    models = {"challenger": Model.load(folder / MODEL_FILE)}
    if order.champion is not None:
        try:
            models["champion"] = _version_file(order, order.champion, folder)
        except (ModelError, ServiceUnavailable) as error:  # the new one's figures tell something without it
            _log.warning("champion of %s can't be tested: %s", machine, error)
    tests = {name: fault_test(model, archive, faults, material.unlearnt) for name, model in models.items()}
    return {name: test for name, test in tests.items() if test is not None}


def _figures(tests: Mapping[str, FaultTest]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, test in tests.items():
        found[f"faults_covered_{name}"] = test.covered
        if test.auc is not None:
            found[f"faults_auc_{name}"] = test.auc
    return found


def _test_tags(tests: Mapping[str, FaultTest]) -> dict[str, str]:
    return {f"learn_{name}": f"{value:.4f}" for name, value in _figures(tests).items()}


def _explain(client: Any, run_id: str, order: JobOrder, material: _Material, tests: Mapping[str, FaultTest]) -> None:
    from mlflow.entities import Metric, Param

    job = order.job
    parameters = {"learn.cause": job.cause, "learn.frames_heard": material.heard, "learn.frames": len(material.entries)}
    parameters["learn.live_days"] = len(job.live_until(material.span.until_us))
    parameters |= {f"learn.left_out.{why}": count for why, count in material.left_out.items()}
    figures = _figures(tests)
    if material.departure is not None:
        figures |= {"anchor_distance": material.departure.distance, "anchor_per_day": material.departure.per_day}
    now_ms = time.time_ns() // 1_000_000
    client.log_batch(
        run_id,
        metrics=[Metric(name, value, now_ms, 0) for name, value in figures.items()],
        params=[Param(name, str(value)) for name, value in parameters.items()],
    )


def _forget_runs(order: JobOrder) -> None:
    """Delete the runs of a job that ended before there was a version: so a crash leaves no run beside the one."""
    with quiet(), TrackingServer(order.settings).client() as client:
        experiment = client.get_experiment_by_name(order.settings.mlflow_experiment)
        if experiment is None:
            return
        for run in client.search_runs([experiment.experiment_id], f"tags.{JOB_TAG} = '{order.job.job_id}'"):
            client.delete_run(run.info.run_id)
