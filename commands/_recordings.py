"""Options of the commands that make frames of a folder of recordings: replay, publish and compare."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from commands._options import columns_of
from schemas.errors import SettingsError

if TYPE_CHECKING:
    from backtest.replay.config import ReplayConfig

_DATA, _TIMES, _RULE, OUTPUT, KAFKA = (
    "Recordings",
    "When they were recorded",
    "Model and alert rule",
    "Results",
    "Kafka",
)

Folder = Annotated[
    Path, typer.Argument(metavar="DIR", help="Recordings, in sub-folders too; DIR/<machine>/… names machines.")
]
Model = Annotated[
    str | None,
    typer.Option(
        help="A model file, models:/NAME@champion, or an alias such as challenger in place of the routes' own.",
        rich_help_panel=_RULE,
    ),
]
Routes = Annotated[
    Path | None,
    typer.Option(
        help="A whirr.toml: its routes say which model and which alert rule a machine has.", rich_help_panel=_RULE
    ),
]
FrameS = Annotated[
    float | None,
    typer.Option(
        help="Cut recordings into frames of so many seconds; default: as each model was calibrated.",
        min=0.1,
        max=60,
        rich_help_panel=_RULE,
    ),
]
Machine = Annotated[str | None, typer.Option(help="The machine that all recordings are of.", rich_help_panel=_DATA)]
Source = Annotated[str | None, typer.Option(help="The sensor that all recordings are of.", rich_help_panel=_DATA)]
Pattern = Annotated[
    str | None,
    typer.Option(
        help="Where paths name machine, sensor and time: '{machine}/{source}_{time}*'; {time:%d.%m.%Y_%H%M%S} "
        "states the times' form.",
        rich_help_panel=_DATA,
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option(help="CSV of labels (path,label[,machine][,onset_s]) in place of names.", rich_help_panel=_DATA),
]
IncludeTrain = Annotated[
    bool, typer.Option("--include-train", help="Take folders named train too.", rich_help_panel=_DATA)
]
Times = Annotated[
    str,
    typer.Option(
        help="Where times come from: names, files (when they were last written), pace (back to back from --start), "
        "a CSV file (path,time[,machine][,source]), or auto: names if all of them hold one, else pace.",
        rich_help_panel=_TIMES,
    ),
]
Zone = Annotated[
    str, typer.Option(help="Time zone of times without one, such as Europe/Berlin.", rich_help_panel=_TIMES)
]
Start = Annotated[
    str, typer.Option(help="With pace: when each machine's first recording began.", rich_help_panel=_TIMES)
]
EveryS = Annotated[
    float | None,
    typer.Option(help="With pace: seconds from one recording's start to the next one's.", rich_help_panel=_TIMES),
]
Order = Annotated[
    Literal["labels", "number"],
    typer.Option(help="With pace: normal recordings first, or by the numbers in names.", rich_help_panel=_TIMES),
]
Out = Annotated[Path, typer.Option(help="Folder of the results.", rich_help_panel=OUTPUT)]
Jobs = Annotated[int | None, typer.Option(min=1, help="Processes; default: one for each core.", rich_help_panel=OUTPUT)]
Restart = Annotated[
    bool, typer.Option("--restart", help="Score anew what --out holds already.", rich_help_panel=OUTPUT)
]
FailIf = Annotated[
    list[str] | None,
    typer.Option(
        help="Exit with code 6 if this holds, such as 'recall<0.9' or 'false_alerts>2'; may be repeated.",
        rich_help_panel=OUTPUT,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else.", rich_help_panel=OUTPUT)]
Speed = Annotated[str, typer.Option(help="Times as fast as they were recorded, or max.", rich_help_panel=KAFKA)]
Bootstrap = Annotated[str | None, typer.Option(help="Kafka's addresses (host:port, host:port).", rich_help_panel=KAFKA)]
Topic = Annotated[
    str | None, typer.Option(help="The frames topic; default: the setting frames_topic.", rich_help_panel=KAFKA)
]
START = "2026-01-01T00:00:00Z"


def replay_config(folder: Path, out: Path, *, start: str, columns: str | None, **options: Any) -> ReplayConfig:
    """Return what the options say; those that are not named here are called as in :class:`ReplayConfig`.

    Raises:
        SettingsError: One of them means nothing.
    """
    from backtest.replay.config import ReplayConfig
    from schemas.times import parse_rfc3339

    try:
        start_us = parse_rfc3339(start)
    except ValueError as error:
        raise SettingsError(f"--start: {error}") from None
    return ReplayConfig(folder=folder, out=out, start_us=start_us, columns=columns_of(columns), **options)


def end_as_interrupted() -> None:
    """Let SIGTERM end this program as Ctrl-C does: what was scored is kept."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
