"""Columns of a table: which are channels of a signal, which are left out, and why."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Selection:
    """What became of a table's columns.

    Attributes:
        channels: Names of those that were taken, in order.
        left_out: Name and reason of each that was not.
        remarks: What else is to be said of the table, such as gaps in its times.
    """

    channels: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    remarks: tuple[str, ...] = ()
