"""``whirr features``: from a folder of recordings to spectrograms and statistics in files."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from commands._options import AsJson, start_us_of, takes
from commands._output import print_json, print_warning
from commands._recordings import check_out
from schemas.errors import SettingsError
from trainer.train_options import ExtractConfig
from whirr.counts import counted
from whirr.settings import load_settings

if TYPE_CHECKING:
    from trainer.backfill import Backfilled
    from trainer.extraction import Extracted, ExtractionObserver

_DAY_US = 86_400_000_000


@takes(ExtractConfig)
def features(
    config: ExtractConfig,
    *,
    to_feast: Annotated[
        bool, typer.Option("--to-feast", help="Write the rolling statistics to the feature store's history.")
    ] = False,
    start: Annotated[
        str | None,
        typer.Option(
            help="With --to-feast: when each machine's first recording began (RFC 3339); default: as file names say."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write spectrograms (spectrograms.npy) and the 13 statistics of each frame (statistics.parquet and .csv).

    All recordings are taken, normal or not. What suits the data is chosen, as by `whirr train`,
    and printed, unless an option says otherwise. OUT/features.json says how the files were made.

    With --to-feast the feature store's history gets a row for each frame, with the time of the recording;
    `whirr feast materialize` then makes each machine's newest row readable online.
    """
    from commands._extraction import PrintingExtractionObserver, QuietExtractionObserver, history_lines
    from commands._recording_set import print_lines
    from trainer.backfill import recording_times
    from trainer.extraction import extract_features
    from trainer.recording_set import find_recordings

    out = config.out
    if out is None and not to_feast:
        raise SettingsError(
            "neither --out nor --to-feast is given; expected a folder to write to, the history, or both"
        )
    if start is not None and not to_feast:
        raise SettingsError(f"--start is {start!r}; expected --to-feast with it")
    if out is not None:
        check_out(out, config.folder)
    start_us = None if start is None else start_us_of(start)
    if to_feast:  # before an hour is spent on features whose times are not known
        columns = config.columns
        found = find_recordings(config.folder, config.naming, config.on_error, normal_only=False, columns=columns)
        recording_times(found.recordings, start_us)
    with nullcontext(str(out)) if out is not None else TemporaryDirectory(prefix="whirr-features-") as written:
        silent: AbstractContextManager[ExtractionObserver] = nullcontext(QuietExtractionObserver())
        with silent if as_json else PrintingExtractionObserver(kept=out is not None) as observer:
            extracted = extract_features(replace(config, out=Path(written)), observer)
        kept = _to_history(extracted, start_us) if to_feast else None
    if as_json:
        print_json(extracted.summary() | ({} if kept is None else {"history": kept}))
    elif kept is not None:
        print_lines(history_lines(kept))


def _to_history(extracted: Extracted, start_us: int | None) -> Backfilled:
    from feature_repo.store import history_folder
    from trainer.backfill import backfill

    settings = load_settings()
    folder = history_folder(settings)
    try:
        kept = backfill(extracted, folder, start_us)
    except OSError as error:
        raise SettingsError(f"the history {folder} can't be written to ({error})") from None
    if kept.late:
        print_warning(
            f"{counted(kept.late, 'frame')} not written: their recordings overlap the time of others of the machine"
        )
    days = settings.feature_history_days
    if days and kept.first_us < time.time_ns() // 1000 - days * _DAY_US:
        print_warning(f"a worker keeps {days} days of history and removes what is older; see feature_history_days")
    return kept
