"""``whirr record``: write frames that Kafka retains as audio files, or keep all that come in an archive."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from commands._options import AsJson, Bootstrap, FramesTopic, MachinePattern, Since
from commands._output import print_json, print_line, print_warning
from schemas.errors import SettingsError
from whirr.counts import counted
from whirr.outputs import check_folder
from whirr.settings import Settings, load_settings


def record(
    out: Annotated[
        str | None,
        typer.Option(
            help="Folder to write to: OUT/<machine>/… and OUT/recordings.csv. With --follow: the archive, a folder or "
            "URL; default: the setting recordings_url.",
            show_default=False,
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Keep what comes in an archive until Ctrl-C or SIGTERM.")
    ] = False,
    machine: MachinePattern = "*",
    since: Since = None,
    until: Annotated[str | None, typer.Option(help="Until when; default: now.")] = None,
    label: Annotated[
        Literal["normal", "anomaly"] | None, typer.Option(help="Label all of them so; train on normal ones.")
    ] = None,
    bootstrap: Bootstrap = None,
    topic: FramesTopic = None,
    as_json: AsJson = False,
) -> None:
    """Write retained frames as audio files that `whirr train` and `whirr replay` understand. Kafka is only read.

    Each file is the frame as it was sent; its name tells when it was recorded. The same command again adds what is new.

    With --follow, frames go into an archive as they come, which is kept to its quotas and thinned; several recorders
    share the work as one consumer group. `whirr recordings` shows what it holds.

    Exit codes: 0 done, 2 there is no such topic, 3 Kafka can't be reached, 5 it refuses this user.
    """
    settings = load_settings(kafka_bootstrap_servers=bootstrap, frames_topic=topic)
    if follow:
        given = {"--since": since, "--until": until, "--label": label}
        if used := [name for name, value in given.items() if value is not None]:
            raise SettingsError(f"{used[0]} is of what Kafka retains; expected no such option with --follow")
        _print_followed(_follow(settings, out, machine), as_json)
        return
    if out is None:
        raise SettingsError("--out is not given; expected a folder, or --follow for an archive")
    if "://" in out:
        raise SettingsError(f"--out is {out!r}; expected a folder, or --follow for an archive at a URL")
    summary = _written(settings, Path(out), machine, since, until, label)
    if as_json:
        print_json(summary)
        return
    already = f", {summary['already_there']} were there already" if summary["already_there"] else ""
    print_line(
        f"{counted(summary['written'], 'frame')} written to {out}{already}; {summary['audio_s']:.0f} s of signal"
    )
    for name, count in summary["machines"].items():
        print_line(f"  {name}  {count}")
    _warn_of(summary["skipped"])
    if not summary["machines"]:
        print_warning(f"no frame of machine {machine!r} is retained in that time on {settings.frames_topic!r}")


def _written(
    settings: Settings,
    out: Path,
    machine: str,
    since: str | None,
    until: str | None,
    label: Literal["normal", "anomaly"] | None,
) -> dict[str, Any]:
    from archive.retained import record as write
    from backtest.replay.rescoring import Range, records_of
    from whirr.alert_reader import parse_since

    check_folder(out, "--out")
    now_us = time.time_ns() // 1000
    wanted = Range(
        None if since is None else parse_since(since, now_us),
        None if until is None else parse_since(until, now_us),
        machine,
    )
    return asyncio.run(write(records_of(settings, wanted), out, label))


def _follow(settings: Settings, out: str | None, machine: str) -> dict[str, Any]:
    from archive.archive import configured_archive
    from archive.recorder import Recorder
    from whirr.logs import configure_logging

    kept = configured_archive(settings, out)
    configure_logging(settings.log_level, settings.log_format)

    async def follow() -> dict[str, Any]:
        recorder = Recorder(settings, kept, machine, settings.recordings_form)
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, recorder.stop)
        await recorder.run()
        return recorder.summary()

    return asyncio.run(follow())


def _print_followed(summary: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(summary)
        return
    print_line(
        f"{counted(summary['kept'], 'frame')} kept in {summary['archive']}; {summary['audio_s']:.0f} s of signal"
    )
    _warn_of(summary["skipped"])


def _warn_of(skipped: dict[str, int]) -> None:
    if skipped:
        reasons = ", ".join(f"{count} {code}" for code, count in skipped.items())
        print_warning(f"{sum(skipped.values())} records are no usable frames ({reasons}); left out")
