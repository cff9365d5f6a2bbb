"""Options that several commands share, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from schemas.errors import SettingsError

DATA, FEATURES = "Data", "Features"

Machine = Annotated[str | None, typer.Option(help="The machine that all recordings are of.", rich_help_panel=DATA)]
PatternOption = Annotated[
    str | None,
    typer.Option(help="Where paths name machine and time: '*/{machine}/{time}*'.", rich_help_panel=DATA),
]
Labels = Annotated[
    Path | None,
    typer.Option(help="CSV of labels (path,label[,machine][,onset_s]) in place of names.", rich_help_panel=DATA),
]
Zone = Annotated[str, typer.Option(help="Time zone of times without one, such as Europe/Berlin.", rich_help_panel=DATA)]
OnErrorOption = Annotated[
    Literal["skip", "fail"], typer.Option(help="What to do with files that can't be used.", rich_help_panel=DATA)
]
ColumnsOption = Annotated[
    str | None,
    typer.Option(
        "--columns",
        metavar="NAME,…",
        help="Of tables (.csv .txt .mat …): the columns to take as channels; default: those that look like a signal.",
        show_default=False,
        rich_help_panel=DATA,
    ),
]
Rate = Annotated[int | None, typer.Option(help="Sample rate in Hz.", min=100, rich_help_panel=FEATURES)]
Bands = Annotated[int | None, typer.Option(help="Frequency bands.", min=1, rich_help_panel=FEATURES)]
NFft = Annotated[int | None, typer.Option("--n-fft", help="Samples in a spectrum.", min=16, rich_help_panel=FEATURES)]
Hop = Annotated[int | None, typer.Option(help="Samples between two spectra.", min=1, rich_help_panel=FEATURES)]
Scale = Annotated[Literal["mel", "linear"] | None, typer.Option(help="Scale of the bands.", rich_help_panel=FEATURES)]
WindowS = Annotated[
    float | None, typer.Option(help="Length of a window in seconds.", min=0.01, rich_help_panel=FEATURES)
]
FrameS = Annotated[
    float | None,
    typer.Option(
        help="Length in seconds of the frames that gateways send; default: 1, or the shortest recording.",
        min=0.1,
        max=60,
        rich_help_panel=FEATURES,
    ),
]


def columns_of(text: str | None) -> tuple[str, ...]:
    """Return the names of columns that an option lists; empty where it is not given.

    Raises:
        SettingsError: It lists none, or one twice.
    """
    if text is None:
        return ()
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names or len(set(names)) < len(names):
        raise SettingsError(f"--columns is {text!r}; expected names of different columns, such as x,y,z")
    return names
