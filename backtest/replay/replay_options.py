"""What a replay is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from recordings import KINDS
from recordings.naming import Naming, zone_of
from schemas.errors import SettingsError
from schemas.frame import MAX_FRAME_S, MIN_FRAME_S, check_stream
from schemas.times import format_rfc3339, parse_rfc3339
from whirr.options import option
from whirr.recording_options import Columns, Labels, Machine

Order = Literal["labels", "number"]
START_US: Final = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z: when recordings without a time begin
TIMES: Final = ("auto", "names", "files", "pace")


_TIMES, _RULE, _RESULTS = "When they were recorded", "Model and alert rule", "Results"


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderOptions:
    """A folder, and how its recordings become frames."""

    folder: Annotated[
        Path,
        option(
            f"recordings ({KINDS}), in sub-folders too; DIR/<machine>/… names machines", argument=True, metavar="DIR"
        ),
    ]
    frame_s: Annotated[
        float | None,
        option(
            "cut recordings into frames of so many seconds; default: as each model was calibrated",
            _RULE,
            ge=MIN_FRAME_S,
            le=MAX_FRAME_S,
        ),
    ] = None
    machine: Machine = None
    source: Annotated[str | None, option("the sensor that all recordings are of", "Data")] = None
    columns: Columns = ()
    pattern: Annotated[
        str | None,
        option(
            "where paths name machine, sensor and time: '{machine}/{source}_{time}*'; {time:%d.%m.%Y_%H%M%S} states "
            "the times' form",
            "Data",
        ),
    ] = None
    labels: Labels = None
    include_train: Annotated[bool, option("take folders named train too", "Data")] = False
    times: Annotated[
        str,
        option(
            "where times come from: names, files (when they were last written), pace (back to back from --start), a "
            "CSV file (path,time[,machine][,source]), or auto: names if all of them hold one, else pace",
            _TIMES,
        ),
    ] = "auto"
    zone: Annotated[str, option("time zone of times without one, such as Europe/Berlin", _TIMES)] = "UTC"
    start_us: Annotated[
        int,
        option(
            f"with pace: when each machine's first recording began; default: {format_rfc3339(START_US)}",
            _TIMES,
            name="start",
            parse=parse_rfc3339,
        ),
    ] = START_US
    every_s: Annotated[
        float | None,
        option("with pace: seconds from one recording's start to the next one's; default: back to back", _TIMES, gt=0),
    ] = None
    order: Annotated[Order, option("with pace: normal recordings first, or by the numbers in names", _TIMES)] = "labels"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayConfig(FolderOptions):
    """What a replay is asked to do."""

    out: Annotated[Path, option("folder of the results", _RESULTS)] = Path("replay-out")
    jobs: Annotated[int | None, option("processes; default: one for each core", _RESULTS, ge=1)] = None
    restart: Annotated[bool, option("score anew what --out holds already", _RESULTS)] = False

    def __post_init__(self) -> None:
        if self.frame_s is not None and not MIN_FRAME_S <= self.frame_s <= MAX_FRAME_S:
            raise SettingsError(f"frames are {self.frame_s:g} s long; expected {MIN_FRAME_S:g} to {MAX_FRAME_S:g} s")
        check_stream(self.machine, self.source)
        if self.every_s is not None and not self.every_s > 0:
            raise SettingsError(f"--every-s is {self.every_s:g}; expected more than 0")
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
