"""How answers cross from the computing process: what is numbers as arrays of a batch, and the rest of each frame.

As an array for each frame, its bands and statistics would take more time to pickle than all else of the crossing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.condition import UNKNOWN, Condition
from schemas.dead_letter import DeadLetter
from schemas.frame import Frame, FrameRecord
from schemas.score import SensorFault, Unfamiliar
from stream_app.pipeline import Computed, Router
from stream_app.pipeline.analyse import ShadowScore
from stream_app.worker.processor import Answer

# What crosses of a scored frame besides numbers, in this order: frame_id, machine_id, source, recorded_us, sequence,
# foreign_id, condition, sensor_fault, unfamiliar, shadow. A plain tuple: one of a class takes twice as long to pickle.
ScoredFrame = tuple[
    str,
    str,
    str | None,
    int,
    int | None,
    str | None,
    Condition | None,
    SensorFault | None,
    tuple[Unfamiliar, ...],
    ShadowScore | None,
]


class RejectedFrame(NamedTuple):
    """What crosses of one that can't be used."""

    code: str
    detail: str


class PackedAnswers(NamedTuple):
    """The answers to a batch.

    Attributes:
        frames: One for each record, in order.
        numbers: float64 ``[scored, 3]``: of each scored frame its score, level in dBFS and length in seconds.
        statistics: float64 ``[scored, 13]``.
        band_errors: float32 ``[scored, channel, band]``; where models differ in bands, an array for each.
    """

    frames: list[ScoredFrame | RejectedFrame]
    numbers: NDArray[np.float64]
    statistics: NDArray[np.float64]
    band_errors: NDArray[np.float32] | list[NDArray[np.float32]]


def pack(answers: Sequence[Computed | DeadLetter]) -> PackedAnswers:
    """Return answers as they cross."""
    scored = [one for one in answers if not isinstance(one, DeadLetter)]
    band_errors = [one.band_error for one in scored]
    alike = len({band_error.shape for band_error in band_errors}) == 1
    return PackedAnswers(
        [_packed(one) for one in answers],
        np.array([(one.score, one.level_dbfs, one.duration_s) for one in scored], np.float64),
        np.array([one.statistics for one in scored], np.float64),
        np.array(band_errors, np.float32) if alike else band_errors,
    )


def _packed(answer: Computed | DeadLetter) -> ScoredFrame | RejectedFrame:
    if isinstance(answer, DeadLetter):
        return RejectedFrame(answer.code, answer.detail)
    frame = answer.frame
    return (
        frame.frame_id,
        frame.machine_id,
        frame.source,
        frame.recorded_us,
        frame.sequence,
        frame.foreign_id,
        None if frame.condition == UNKNOWN else frame.condition,
        answer.sensor_fault,
        answer.unfamiliar,
        answer.shadow,
    )


def unpack(packed: PackedAnswers, records: Sequence[FrameRecord], router: Router) -> list[Answer]:
    """Return answers as they were before they crossed.

    Args:
        packed: What :func:`pack` made.
        records: The batch's records; they have not crossed back.
        router: That of the models that the answers are of.
    """
    numbers = zip(packed.numbers.tolist(), packed.statistics, packed.band_errors, strict=True)
    answers: list[Answer] = []
    for one, record in zip(packed.frames, records, strict=True):
        if isinstance(one, RejectedFrame):
            answers.append(DeadLetter(code=one.code, detail=one.detail, record=record))
            continue
        identity, machine_id, source, recorded_us, sequence, foreign_id, condition, fault, strange, shadow = one
        frame = Frame(identity, machine_id, source, recorded_us, sequence, foreign_id, record, condition or UNKNOWN)
        (score, level_dbfs, duration_s), statistics, band_error = next(numbers)
        answers.append(
            Computed(
                frame,
                router.find(machine_id, recorded_us),
                score,
                band_error,
                statistics,
                level_dbfs,
                fault,
                duration_s,
                strange,
                shadow,
            )
        )
    return answers
