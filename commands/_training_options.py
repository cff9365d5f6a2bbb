"""Options of ``whirr train`` that say how a detector learns."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

TRAINING = "Training"

HeldOutShare = Annotated[
    float,
    typer.Option(help="Of each machine's recordings, for thresholds and the held-out loss.", rich_help_panel=TRAINING),
]
Epochs = Annotated[int, typer.Option(min=1, help="Passes over the data, at most.", rich_help_panel=TRAINING)]
Patience = Annotated[
    int,
    typer.Option(
        min=0,
        help="Epochs without a better held-out loss after which to stop; 0: never before the last.",
        rich_help_panel=TRAINING,
    ),
]
MinDelta = Annotated[
    float,
    typer.Option(min=0, help="How much lower a held-out loss must be to count as better.", rich_help_panel=TRAINING),
]
Batch = Annotated[int, typer.Option(min=1, help="Windows in a batch.", rich_help_panel=TRAINING)]
LearningRate = Annotated[float, typer.Option(help="Of Adam.", rich_help_panel=TRAINING)]
Latent = Annotated[int, typer.Option(min=1, help="Maps of conv_ae's innermost layer (z).", rich_help_panel=TRAINING)]
Accelerator = Annotated[str, typer.Option(help="cpu, gpu, mps … as Lightning names them.", rich_help_panel=TRAINING)]
Seed = Annotated[int, typer.Option(min=0, help="Same seed, same model.", rich_help_panel=TRAINING)]
Checkpoints = Annotated[
    Path | None,
    typer.Option(
        file_okay=False,
        help="Folder for last.ckpt and best.ckpt, written after each epoch.",
        rich_help_panel=TRAINING,
    ),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on from last.ckpt in the folder --checkpoints.", rich_help_panel=TRAINING),
]
