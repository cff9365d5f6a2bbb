"""What ``whirr features`` prints for people: what was found, what was taken and why, progress, what was written."""

from __future__ import annotations

from collections.abc import Sequence

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from commands._output import WithProgress, print_notes, print_warning, stdout
from commands._recording_set import feature_lines, found_lines, print_lines, warn_of
from recordings.find import Problem
from schemas.times import format_rfc3339
from trainer.backfill import Backfilled
from trainer.extraction import Extracted, ExtractionObserver
from trainer.feature_choice import Choice
from trainer.recording_set import RecordingSet, unusable
from whirr.counts import counted
from whirr.durations import as_duration


class QuietExtractionObserver(ExtractionObserver):
    """Says nothing but what is to be said about recordings as they were read, on stderr."""

    def on_found(self, found: RecordingSet) -> None:
        """Say what of the folder."""
        print_notes(found.notes)

    def on_written(self, extracted: Extracted) -> None:
        """Say what of the frames."""
        warn_of_faults(extracted)


class PrintingExtractionObserver(WithProgress, ExtractionObserver):
    """Prints an extraction as it goes on; a context manager, for the progress bar.

    Args:
        kept: Whether the files stay, and so are worth naming.
    """

    def __init__(self, kept: bool = True) -> None:
        self._kept = kept
        bar = (TextColumn("reading   "), MofNCompleteColumn(), BarColumn(), TimeRemainingColumn())
        self._progress = Progress(*bar, console=stdout, transient=True, disable=not stdout.is_terminal)
        self._task = self._progress.add_task("reading", start=False)

    def on_found(self, found: RecordingSet) -> None:
        """Say what the folder holds."""
        print_lines(found_lines(found))
        print_notes(found.notes)
        self._progress.update(self._task, total=len(found.recordings))

    def on_features(self, choice: Choice, frame_s: float) -> None:
        """Say which features were taken, and why, and start the progress bar."""
        print_lines([*feature_lines(choice), f"frames     of {frame_s:.3g} s"])
        self._progress.start()
        self._progress.start_task(self._task)

    def on_recording(self, done: int) -> None:
        """Move the progress bar."""
        self._progress.update(self._task, completed=done)

    def on_problems(self, problems: Sequence[Problem]) -> None:
        """Name files that can't be used."""
        self._progress.stop()
        warn_of(problems)

    def on_written(self, extracted: Extracted) -> None:
        """Say how much was written, and where, and which frames are no signal."""
        warn_of_faults(extracted)
        print_lines(_written_lines(extracted) if self._kept else _written_lines(extracted)[:1])


def warn_of_faults(extracted: Extracted) -> None:
    """Say how many frames the sensor is at fault in, and where the first one is."""
    counts = extracted.counts
    if counts.sensor_faults:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.sensor_faults.items()))
        print_warning(
            f"{sum(counts.sensor_faults.values())} of {counts.frames} frames have a sensor fault ({kinds}), the first "
            f"in {counts.first_fault}; the column sensor_fault marks them, and `whirr train` leaves them out"
        )


def _written_lines(extracted: Extracted) -> list[str]:
    found, counts = extracted.found, extracted.counts
    used = f"{len(found.recordings)} of {len(found.recordings) + unusable(found.problems)} files"
    left = f"; {as_duration(extracted.left_over_s)} at the ends fill no frame" if extracted.left_over_s >= 0.05 else ""
    written = [f"           {name}" for name in extracted.files.values()]
    return [
        f"written    {counted(counts.frames, 'frame')}, {as_duration(counts.audio_s)} of audio from {used}{left}",
        *written,
    ]


def history_lines(kept: Backfilled) -> list[str]:
    """Return what a backfill wrote, and what to do next."""
    first, last = (format_rfc3339(time_us)[:19] + "Z" for time_us in (kept.first_us, kept.last_us))
    whose = counted(len(kept.machines), "machine")
    return [
        f"history    {counted(kept.rows, 'row')} of {whose}, {first} to {last}",
        f"           {kept.folder}; `whirr feast materialize` makes the newest readable online",
    ]
