"""``whirr features``: from a folder of recordings to spectrograms and statistics in files."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whirr.cli._options import Bands, FrameS, Hop, Machine, NFft, OnErrorOption, Rate, Scale, WindowS
from whirr.cli._output import print_json
from whirr.errors import SettingsError

if TYPE_CHECKING:
    from trainer.extraction import ExtractionObserver


def features(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="Folder of recordings; DIR/<machine>/… names the machines.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write to; files of an earlier run are replaced.")],
    machine: Machine = None,
    on_error: OnErrorOption = "skip",
    rate: Rate = None,
    bands: Bands = None,
    n_fft: NFft = None,
    hop: Hop = None,
    scale: Scale = None,
    window_s: WindowS = None,
    frame_s: FrameS = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else.")] = False,
) -> None:
    """Write spectrograms (spectrograms.npy) and the 13 statistics of each frame (statistics.parquet and .csv).

    All recordings are taken, normal or not: .wav .flac .ogg .mp3. What suits the data is chosen, as by `whirr train`,
    and printed, unless an option says otherwise. OUT/features.json says how the files were made.
    """
    from trainer.extraction import ExtractConfig, ExtractionObserver, extract_features
    from trainer.feature_choice import FeatureOptions
    from whirr.cli._extraction import PrintingObserver

    if out.exists() and not out.is_dir():
        raise SettingsError(f"--out is the file {str(out)!r}; expected a folder")
    config = ExtractConfig(
        folder=folder,
        out=out,
        machine=machine,
        on_error=on_error,
        features=FeatureOptions(rate_hz=rate, bands=bands, n_fft=n_fft, hop=hop, scale=scale, window_s=window_s),
        frame_s=frame_s,
    )
    silent: AbstractContextManager[ExtractionObserver] = nullcontext(ExtractionObserver())
    with silent if as_json else PrintingObserver() as observer:
        extracted = extract_features(config, observer)
    if as_json:
        print_json(extracted.summary())
