"""What a replay is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from recordings.naming import Naming, zone_of
from schemas.errors import SettingsError
from schemas.frame import MAX_FRAME_S, MIN_FRAME_S, check_stream

Order = Literal["labels", "number"]
START_US: Final = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z: when recordings without a time begin
TIMES: Final = ("auto", "names", "files", "pace")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayConfig:
    """A folder, and how its recordings become frames.

    Attributes:
        folder: Searched recursively for .wav, .flac, .ogg, .mp3 and tables of samples.
        out: Where results and what an interrupted run has done are kept.
        frame_s: Length of a frame in seconds; None: as each machine's model was calibrated.
        machine: Whose recordings these are, in place of what paths say.
        source: Sensor that all frames are of, or None.
        pattern: Template of relative paths without suffix, with ``{machine}``, ``{source}``, ``{time}`` and ``*``.
        times: ``auto``, ``names``, ``files``, ``pace``, or the path of a CSV file (path,time[,machine][,source]).
        zone: Time zone of times in names and CSV files that state no offset.
        start_us: With ``pace``, when the first recording of each stream begins, microseconds since the epoch.
        every_s: With ``pace``, seconds from one recording's start to the next one's; None: back to back.
        order: With ``pace``, ``labels`` puts the normal recordings of a stream before the anomalous ones, as
            `whirr evaluate` does; ``number`` goes by the numbers in the names alone.
        labels: CSV file of labels (path,label[,machine][,onset_s]), or None for what paths say.
        include_train: Replay what lies in folders named ``train`` too.
        columns: Of tables: the columns to take as channels; empty: those that look like a signal.
        jobs: Processes; None: as many as there are cores.
        restart: Forget what ``out`` holds of an earlier run.
    """

    folder: Path
    out: Path
    frame_s: float | None = None
    machine: str | None = None
    source: str | None = None
    pattern: str | None = None
    times: str = "auto"
    zone: str = "UTC"
    start_us: int = START_US
    every_s: float | None = None
    order: Order = "labels"
    labels: Path | None = None
    include_train: bool = False
    columns: tuple[str, ...] = ()
    jobs: int | None = None
    restart: bool = False

    def __post_init__(self) -> None:
        if self.frame_s is not None and not MIN_FRAME_S <= self.frame_s <= MAX_FRAME_S:
            raise SettingsError(f"frames are {self.frame_s:g} s long; expected {MIN_FRAME_S:g} to {MAX_FRAME_S:g} s")
        check_stream(self.machine, self.source)
        if self.every_s is not None and not self.every_s > 0:
            raise SettingsError(f"recordings come every {self.every_s:g} s; expected more than 0")
        if self.jobs is not None and self.jobs < 1:
            raise SettingsError(f"jobs is {self.jobs}; expected at least 1")
        if self.times not in TIMES and not Path(self.times).is_file():
            raise SettingsError(f"times is {self.times!r}; expected one of {', '.join(TIMES)}, or a CSV file")
        zone_of(self.zone)

    @property
    def naming(self) -> Naming:
        """How the recordings are to be understood."""
        return Naming(
            machine=self.machine,
            source=self.source,
            pattern=self.pattern,
            labels=self.labels,
            times=None if self.times in TIMES else Path(self.times),
            recorded_times=self.times == "auto",
            zone=self.zone,
        )

    @property
    def what_scores_depend_on(self) -> dict[str, str]:
        """The options that scores and identities of frames depend on, as text; labels and the rule are not of them."""
        named = {
            "folder": self.folder.absolute(),
            "--frame-s": self.frame_s,
            "--machine": self.machine,
            "--source": self.source,
            "--pattern": self.pattern,
            "--zone": self.zone,
        }
        if self.columns:
            named["--columns"] = ",".join(self.columns)
        return {name: str(value) for name, value in named.items()}
