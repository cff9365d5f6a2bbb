"""``whirr worker``: scores the frames that arrive on Kafka."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from commands._options import Bootstrap, option_of, setting
from whirr.settings import Route, Settings, load_settings


def worker(
    model: Annotated[
        str | None,
        typer.Option(
            help="One model for all machines, in place of the routes: a file, or models:/NAME@champion in the registry."
        ),
    ] = None,
    settings_file: Annotated[Path | None, typer.Option(help="Read this file instead of whirr.toml.")] = None,
    bootstrap: Bootstrap = None,
    web_port: Annotated[int | None, setting("web_port")] = None,
    mode: Annotated[Literal["state", "every"] | None, option_of(Route, "mode")] = None,
) -> None:
    """Score frames from Kafka and raise alerts until Ctrl-C or SIGTERM.

    Exit codes: 0 stopped, 1 could not go on, 2 settings or model unusable, 5 Kafka refuses this user, 70 commits did
    not move. After 1 and 70 a supervisor should start it again; nothing is lost.
    """
    settings = _settings(model, settings_file, bootstrap, web_port, mode)  # before seconds go by with imports
    from stream_app.worker.runner import run_worker

    raise typer.Exit(run_worker(settings))


def _settings(
    model: str | None,
    settings_file: Path | None,
    bootstrap: str | None,
    web_port: int | None,
    mode: Literal["state", "every"] | None,
) -> Settings:
    route = None if model is None else ({"match": "*", "model": model},)
    if settings_file is not None:
        os.environ["WHIRR_SETTINGS_FILE"] = str(settings_file)
    settings = load_settings(route=route, kafka_bootstrap_servers=bootstrap, web_port=web_port)
    if mode is not None:
        changed = tuple(entry.model_copy(update={"mode": mode}) for entry in settings.route)
        settings = settings.model_copy(update={"route": changed})
    return settings
