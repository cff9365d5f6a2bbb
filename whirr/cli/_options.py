"""Options that several commands share, declared once."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

DATA, FEATURES = "Data", "Features"

Machine = Annotated[str | None, typer.Option(help="The machine that all recordings are of.", rich_help_panel=DATA)]
OnErrorOption = Annotated[
    Literal["skip", "fail"], typer.Option(help="What to do with files that can't be used.", rich_help_panel=DATA)
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
