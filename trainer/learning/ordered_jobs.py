"""A fleet's jobs as orders: each with what it takes to run it in another process, or on another machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from schemas.times import format_rfc3339
from trainer.detector import DEFAULT
from trainer.learning.executor import JobQueue
from trainer.learning.fleet import Trained
from trainer.learning.learner import Job, MachineModels
from trainer.learning.routed_models import template_of
from trainer.learning.training import JobOrder, JobOutcome
from whirr.settings import Settings

_MOST_CHARS: Final = 2_000  # of a traceback


class OrderedJobs:
    """Runs a fleet's jobs.

    Args:
        settings: With the routes, and for MLflow.
        archive_url: Where what was heard is.
        queue: Before what runs them.
        detector: What is trained.
    """

    def __init__(self, settings: Settings, archive_url: str, queue: JobQueue, detector: str = DEFAULT) -> None:
        self._settings, self._archive_url, self._queue = settings, archive_url, queue
        self._detector = detector
        self._jobs: dict[str, Job] = {}

    def submit(self, job: Job, models: MachineModels) -> None:
        """Take a job; with the next :meth:`finished`, the most urgent ones that wait begin.

        Raises:
            ValueError: The machine's route names no model of its own.
        """
        route = next((one for one in self._settings.route if one.matches(job.machine_id)), None)
        self._jobs[job.job_id] = job
        self._queue.submit(
            JobOrder(
                job=job,
                model=_model(self._settings, job.machine_id),
                archive_url=self._archive_url,
                settings=self._settings,
                anchor=None if models.anchor is None else models.anchor.number,
                champion=None if models.champion is None else models.champion.number,
                detector=self._detector,
                running_dbfs=None if route is None else route.running_dbfs,
                frames=self._settings.learn_frames,
            )
        )

    def finished(self) -> Sequence[Trained]:
        """Return the jobs that have ended since the last call, and begin others in their places. Doesn't wait."""
        return [
            Trained(self._jobs.pop(one.job_id), one.version, _in_words(one))
            for one in self._queue.poll()
            if one.job_id in self._jobs
        ]

    def close(self) -> None:
        """End what runs."""
        self._queue.close()


def _model(settings: Settings, machine_id: str) -> str:
    template = template_of(settings, machine_id)
    if template is None:
        raise ValueError(f"no route names a model of its own for {machine_id!r}; expected models:/NAME.{{machine}}@…")
    return template.uri(machine_id).name


def _in_words(outcome: JobOutcome) -> str:
    if outcome.version is None:
        return outcome.why[-_MOST_CHARS:]
    if outcome.again:
        return "as an earlier run of the job had left it"
    parts = [f"from {outcome.frames} frames"]
    parts += [f"without {count} ({why})" for why, count in outcome.left_out.items()]
    left = outcome.departure
    if left is not None and left.since_us is not None:
        parts.append(
            f"{left.distance:+.1f} deviations from its anchor, left at {format_rfc3339(left.since_us)}, "
            f"{left.per_day:+.2f} a day"
        )
    parts += [f"{name} covers {test.covered:.0%} of the confirmed faults" for name, test in outcome.test.items()]
    return ", ".join(parts)
