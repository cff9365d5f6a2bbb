"""What a command says once about the recordings that it reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from recordings.audio import RecordingInfo
from recordings.columns import Selection

_NAMED = 3


class Notes:
    """Collects what is to be said of recordings, and says each thing once, however many they are."""

    def __init__(self) -> None:
        self._warnings: dict[str, list[str]] = {}
        self._unfit: dict[str, list[str]] = {}
        self._tables: dict[Selection, list[str]] = {}
        self._remarks: dict[str, list[tuple[str, str]]] = {}

    @classmethod
    def of(cls, found: Iterable[tuple[str, RecordingInfo]]) -> Notes:
        """Collect names and what is known of each."""
        notes = cls()
        for name, info in found:
            notes.add(name, info)
        return notes

    def add(self, name: str, info: RecordingInfo, *, converted: bool = False) -> None:
        """Take note of a recording; ``converted``: its bytes are never sent as they are, so that they need not fit."""
        if info.warning is not None:
            self._warnings.setdefault(info.warning, []).append(name)
        if info.columns is not None:
            self._tables.setdefault(replace(info.columns, remarks=()), []).append(name)
            for kind, detail in info.columns.remarks:
                self._remarks.setdefault(kind, []).append((name, detail))
        elif info.unfit is not None and not converted:
            self._unfit.setdefault(info.unfit, []).append(name)

    def lines(self) -> list[str]:
        """Return what is to be said, a line for each kind of thing."""
        lines = [_table_line(selection, names) for selection, names in self._tables.items()]
        lines += [
            f"{_named([name for name, _ in told])}: {kind} ({told[0][1]})" for kind, told in self._remarks.items()
        ]
        lines += [f"{_named(names)}: {warning}" for warning, names in self._warnings.items()]
        lines += [
            f"{_named(names)}: {unfit}. A worker refuses such a file as a frame as it is; `whirr edge FILE` and "
            "`whirr replay` send its signal"
            for unfit, names in self._unfit.items()
        ]
        return lines


def _table_line(selection: Selection, names: list[str]) -> str:
    left = "; ".join(f"{name!r} ({why})" for name, why in selection.left_out)
    channels = ", ".join(selection.channels)
    if not left:
        return f"{_named(names)}: channels are {channels}"
    return f"{_named(names)}: channels are {channels}; left out: {left}; --columns NAME,… takes others"


def _named(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"
