"""Jobs for tests: a small archive of simulated frames, and orders to learn from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import archive
from archive import kept_frame
from archive.archive import Archive
from tests.models import START_US, encoded, noise, record
from trainer.learning.learner import Cause, Job
from trainer.learning.machine_incidents import Unlearnable
from trainer.learning.spans import Span
from trainer.learning.training import JobOrder, JobOutcome
from whirr.settings import Settings

MACHINE = "pump-7"
EVERY_US = 1_800_000_000  # a frame each half hour
RATE_HZ = 8_000


def at(frame: int) -> int:
    """When a frame begins."""
    return START_US + frame * EVERY_US


def sound(frame: int, whine: float = 0.0) -> np.ndarray:
    """A second of a machine: noise, a hum, and a whine that a worn one has."""
    seconds = np.arange(RATE_HZ) / RATE_HZ
    hum = 0.05 * np.sin(2 * np.pi * 120 * seconds) + whine * np.sin(2 * np.pi * 2_500 * seconds)
    return (noise(1.0, 0.03, RATE_HZ, seed=frame) + hum).astype(np.float32)


def heard(
    folder: Path,
    frames: int,
    whine: Callable[[int], float] = lambda frame: 0.0,
    machine: str = MACHINE,
    source: str | None = None,
) -> Archive:
    """Return an archive of so many frames of a machine."""
    kept = []
    for number in range(frames):
        value = encoded(sound(number, whine(number)), RATE_HZ)
        kept.append(kept_frame(record(value, machine, at(number), source=source)))
    found = archive.open(str(folder))
    found.add_files(kept)
    found.add_entries([one.entry for one in kept])
    return found


def job(frames: int, *left_out: Unlearnable, number: int = 1, cause: Cause = "schedule", **more: Any) -> Job:
    """A job to learn the first so many frames."""
    return Job(
        job_id=f"{number:032x}",
        machine_id=MACHINE,
        cause=cause,
        why="a test asks for it",
        span=Span(at(0), at(frames)),
        left_out=left_out,
        **more,
    )


def ordered(one: Job, kept: Archive, settings: Settings, model: str, **more: Any) -> JobOrder:
    """An order of a job, with the detector that is trained fastest."""
    return JobOrder(job=one, model=model, archive_url=kept.url, settings=settings, detector="frame_spectrum", **more)


def said(order: JobOrder) -> JobOutcome:
    """What a job ends in that does nothing."""
    return JobOutcome(
        job_id=order.job.job_id, machine_id=order.job.machine_id, state="registered", version=int(order.job.job_id, 16)
    )
