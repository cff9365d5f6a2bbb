"""Pins: spans of a machine's time whose frames no quota and no thinning removes.

Each is one small JSON file, so that setting one needs nobody's leave and can't be half done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from archive.entries import ArchiveEntry
from archive.index_parts import HOME
from archive.places import Location
from schemas.errors import SettingsError
from schemas.frame import check_stream

PINS: Final = f"{HOME}/pins"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """One span that is kept.

    Attributes:
        pin_id: What it is taken back by; the same span for the same reason has the same.
        machine: Whose frames.
        from_us, until_us: Frames any part of which lies in it, microseconds since the epoch; None: from then on.
        why: For people, such as ``baseline`` or ``incident 3f…``.
    """

    pin_id: str
    machine: str
    from_us: int
    until_us: int | None
    why: str

    def holds(self, entry: ArchiveEntry) -> bool:
        """Whether a frame of the machine is kept by it."""
        return entry.machine == self.machine and self.meets(entry.recorded_us, entry.until_us)

    def meets(self, from_us: int, until_us: int) -> bool:
        """Whether some of a time, microseconds since the epoch, lies in it."""
        return until_us > self.from_us and (self.until_us is None or from_us < self.until_us)


def pin_of(machine: str, from_us: int, until_us: int | None, why: str) -> Pin:
    """Return the pin of a span.

    Raises:
        SettingsError: The machine's id can't be one, or the span ends before it begins.
    """
    check_stream(machine, None)
    if until_us is not None and until_us <= from_us:
        raise SettingsError(f"the span of machine {machine!r} ends at {until_us} µs; expected after {from_us} µs")
    identity = json.dumps([machine, from_us, until_us, why]).encode()
    pin_id = hashlib.sha256(identity).hexdigest()[:16]
    return Pin(pin_id=pin_id, machine=machine, from_us=from_us, until_us=until_us, why=why)


def write_pin(place: Location, pin: Pin) -> None:
    """Keep a pin.

    Raises:
        ServiceUnavailable: The archive can't be used.
    """
    place.write({f"{PINS}/{pin.pin_id}.json": json.dumps(asdict(pin)).encode()})
    place.settle()


def remove_pin(place: Location, pin_id: str) -> None:
    """Take a pin back; one that isn't there is passed over.

    Raises:
        ServiceUnavailable: The archive can't be used.
    """
    place.remove([f"{PINS}/{pin_id}.json"])


def read_pins(place: Location) -> list[Pin]:
    """Return all pins, by machine and beginning.

    Raises:
        ServiceUnavailable: The archive can't be used.
        SettingsError: One can't be read; nothing may be removed while it isn't known what it keeps.
    """
    found = []
    for name in place.names(PINS):
        content = place.read(name)
        if content is None:  # taken back meanwhile
            continue
        try:
            found.append(Pin(**json.loads(content)))
        except (ValueError, TypeError):
            raise SettingsError(f"the pin {name!r} of the archive {place.url!r} can't be read; remove it") from None
    return sorted(found, key=lambda pin: (pin.machine, pin.from_us, pin.pin_id))


def pinned(entries: Iterable[ArchiveEntry], pins: Sequence[Pin]) -> tuple[list[ArchiveEntry], list[ArchiveEntry]]:
    """Return the frames that pins keep, and the others."""
    held: list[ArchiveEntry] = []
    free: list[ArchiveEntry] = []
    for entry in entries:
        (held if any(pin.holds(entry) for pin in pins) else free).append(entry)
    return held, free
