"""Writing what a frames topic retains as audio files, so that a plant with gateways and no archive can train.

The folder suits `whirr train` and `whirr replay`: ``<machine>/<label>_<time>_<frame>.<wav or flac>``, each file exactly
the frame as it was sent. ``recordings.csv`` beside the machines says when each was recorded, whose it is, by which
sensor, how it is labelled, and how the machine ran; a replay of the folder gives the frames the identities that they
had.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from recordings import container, decode
from recordings.layout import path_info
from recordings.listing import RECORDED
from recordings.name_words import Label
from schemas.condition import number_text
from schemas.errors import FrameRejected, RecordingError
from schemas.frame import Frame, FrameRecord, parse_frame
from schemas.times import format_rfc3339
from whirr.outputs import replacing

COLUMNS: Final = ("path", "time", "machine", "source", "label", "frame_id", "rpm", "load")


async def record(records: AsyncIterator[FrameRecord], out: Path, label: Label | None) -> dict[str, Any]:
    """Write frames as files, and return how many.

    What is there already stays as it is, so that the same command can be repeated.

    Args:
        records: Of the frames topic.
        out: The folder; made if it is missing.
        label: What all of them are to be labelled.

    Raises:
        RecordingError: The folder can't be written to.
    """
    counts: Counter[str] = Counter()
    machines: Counter[str] = Counter()
    audio_s = 0.0
    try:
        out.mkdir(parents=True, exist_ok=True)
        listing = out / RECORDED
        known, columns = _listed(listing)
        with listing.open("a", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, columns, extrasaction="ignore")
            if file.tell() == 0:
                table.writeheader()
            async for one in records:
                try:
                    frame = parse_frame(one)
                    audio = decode(one.value or b"")
                except FrameRejected as error:
                    counts[f"skipped_{error.code}"] += 1
                    continue
                name = _name(frame, label)
                counts["kept" if name in known else "written"] += 1
                machines[frame.machine_id] += 1
                audio_s += audio.duration_s
                if name not in known:
                    _write(out / name, one.value or b"")
                    table.writerow(_row(frame, name, label))
                    known.add(name)
    except OSError as error:
        raise RecordingError(f"{str(out)!r} can't be written to: {error.strerror}") from None
    skipped = {name.removeprefix("skipped_"): count for name, count in counts.items() if name.startswith("skipped_")}
    return {
        "written": counts["written"],
        "already_there": counts["kept"],
        "skipped": skipped,
        "audio_s": round(audio_s, 6),
        "machines": dict(sorted(machines.items())),
        "out": str(out),
    }


def _listed(listing: Path) -> tuple[set[str], Sequence[str]]:
    """Return the files that a list names, and its columns: one that an earlier version began has fewer."""
    if not listing.is_file():
        return set(), COLUMNS
    with listing.open(newline="", encoding="utf-8") as file:
        table = csv.DictReader(file)
        return {row["path"] for row in table if row.get("path")}, table.fieldnames or COLUMNS


def _name(frame: Frame, label: Label | None) -> str:
    moment = datetime.fromtimestamp(frame.recorded_us // 1_000_000, UTC)
    time = f"{moment:%Y%m%dT%H%M%S}.{frame.recorded_us % 1_000_000:06}Z"
    suffix = container(frame.record.value or b"")
    return f"{_folder(frame.machine_id)}/{f'{label}_' if label else ''}{time}_{frame.frame_id[:8]}.{suffix}"


def _folder(machine: str) -> str:
    # A machine id may be what names another folder to a file system, a hidden one, a label or a part of a data set.
    found = path_info(f"{machine}/recording.wav", Path("/"))
    plain = not machine.startswith(".") and found.named == machine and found.label is None
    return machine if plain else f"machine-{machine}"


def _write(path: Path, value: bytes) -> None:
    with replacing(path) as file:
        file.write(value)


def _row(frame: Frame, name: str, label: Label | None) -> dict[str, str]:
    values = (
        name,
        format_rfc3339(frame.recorded_us),
        frame.machine_id,
        frame.source or "",
        label or "",
        frame.frame_id,
        *("" if number is None else number_text(number) for number in frame.condition),
    )
    return dict(zip(COLUMNS, values, strict=True))
