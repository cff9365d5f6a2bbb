"""Writing the page of a replay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from backtest.evaluation.publish import write_page
from backtest.report.moments import Moment, moment
from backtest.report.page import moments_wanted, render
from backtest.report.streams import Replayed, read_results
from stream_app.pipeline import Router

MOMENTS: Final = 24  # a page of some megabytes, which a phone can open


def write_report(
    results: Path,
    recordings: Path,
    router: Router,
    path: Path,
    command: Sequence[str],
    columns: Sequence[str] = (),
) -> None:
    """Write the page of a replay; it appears complete or not at all.

    Args:
        results: What ``whirr replay --out`` wrote.
        recordings: The folder that was replayed.
        router: The routes with their models, as they were replayed.
        path: The HTML file.
        command: What the replay was asked, to be shown.
        columns: Of tables: the columns that were taken as channels; empty: those that look like a signal.

    Raises:
        RecordingError: The results or a recording can't be read.
        SettingsError: The page can't be written.
    """
    replayed = read_results(results)
    wanted = moments_wanted(replayed.alerts, MOMENTS)
    moments = _moments(replayed, wanted, recordings, router, columns)
    opened = sum(alert["state"] in ("opened", "anomalous") for alert in replayed.alerts)
    text = render(replayed, moments, opened - len(wanted), command)
    write_page(path, text)


def _moments(
    replayed: Replayed,
    alerts: Sequence[dict[str, object]],
    recordings: Path,
    router: Router,
    columns: Sequence[str],
) -> list[Moment]:
    streams = {(stream.machine, stream.source): stream for stream in replayed.streams}
    found = []
    for alert in alerts:
        stream = streams[str(alert["machine_id"]), str(alert["source"] or "")]
        one = moment(alert, stream, router.find(stream.machine).model, recordings, columns)
        if one is not None:
            found.append(one)
    return found
