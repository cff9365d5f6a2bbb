"""A block of captured signal, in the numbers that it was captured in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

from recordings.samples import SignalFormat
from schemas.condition import UNKNOWN, Condition


@dataclass(frozen=True, slots=True)
class Block:
    """Some samples in a row.

    Attributes:
        samples: ``[channels, n]``, of the type that the format's kind says.
        format: Their format.
        ends_recording: Nothing follows that belongs to the same recording; a frame must not reach beyond.
        condition: How the machine ran, as far as the source knows.
    """

    samples: npt.NDArray[Any]
    format: SignalFormat
    ends_recording: bool = False
    condition: Condition = UNKNOWN


class Source(Protocol):
    """Where signal comes from.

    Attributes:
        live: The signal comes when it comes: the source can't be made to wait.
        duration_s: How long it lasts, or None if that can't be known.
    """

    live: bool
    duration_s: float | None

    @property
    def formats(self) -> tuple[SignalFormat, ...]:
        """Return the formats known beforehand, in the order in which they come."""
        ...

    def __aiter__(self) -> AsyncIterator[Block]:
        """Return the blocks in order."""
        ...

    def counts(self) -> dict[str, int]:
        """Return what the source counted, such as files that could not be used."""
        ...
