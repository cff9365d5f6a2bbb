"""What the commands share that score recordings or retained frames: replay, publish, compare and rescore."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands._output import print_warning
from schemas.errors import SettingsError
from whirr.options import option
from whirr.outputs import check_folder
from whirr.settings import Route, Settings

if TYPE_CHECKING:
    from backtest.judging import Heeded
    from schemas.verdict import Verdict
    from stream_app.worker.champions import Champions

_RULE = "Model and alert rule"
FailIf = Annotated[
    list[str] | None,
    typer.Option(
        help="Exit with code 6 if this holds, such as 'recall<0.9' or 'false_alerts>2'; may be repeated.",
        rich_help_panel="Results",
    ),
]
VerdictsFrom = Annotated[
    str | None,
    typer.Option(
        "--verdicts",
        metavar="FILE|topic",
        help="What people said of incidents: a file that `whirr verdicts --all --json` wrote, or topic for Kafka's.",
        rich_help_panel=_RULE,
        show_default=False,
    ),
]
Speed = Annotated[str, typer.Option(help="Times as fast as they were recorded, or max.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """Which models score, and by which rule their alerts open and close."""

    model: Annotated[
        str | None,
        option(
            "a model file, models:/NAME@champion, or an alias such as challenger in place of the routes' own", _RULE
        ),
    ] = None
    routes: Annotated[
        Path | None, option("a whirr.toml: its routes say which model and which alert rule a machine has", _RULE)
    ] = None

    @property
    def given(self) -> bool:
        """Whether any was named."""
        return self.model is not None or self.routes is not None

    def settings(self, **overrides: Any) -> Settings:
        """Return the settings of the file that is named, or those in force."""
        from backtest.replay.routing import settings_of

        return settings_of(self.routes, **overrides)

    def load(self, settings: Settings) -> Champions:
        """Load the models."""
        from backtest.replay.routing import load, routes_of

        routes = routes_of(settings, self.model, use_routes=self.routes is not None)
        if settings.route and _rules(routes) != _rules(settings.route):
            print_warning(
                f"--model {self.model} is for all machines, by the default rule, and the settings' routes "
                f"({len(settings.route)}) are left aside; with --routes FILE it is tried under their rules"
            )
        return load(routes, settings)


def _rules(routes: Sequence[Route]) -> list[Route]:
    """Return routes without what names their model."""
    return [route.model_copy(update={"model": ""}) for route in routes]


def check_out(out: Path, folder: Path) -> None:
    """Look at a folder of results before the work begins: what is written there is not for whoever reads recordings.

    Raises:
        SettingsError: Nothing can be written there, or it is the folder of the recordings.
    """
    check_folder(out, "--out")
    if out.resolve() == folder.resolve():
        raise SettingsError(
            f"--out is {str(out)!r}, the folder of the recordings, where results would be taken for some; expected "
            "another one"
        )
    if out.resolve().is_relative_to(folder.resolve()):
        print_warning(
            f"--out {str(out)!r} lies in the folder of the recordings: whoever reads that later finds the tables of "
            "results among them; better is a folder beside it"
        )


def heeded_of(verdicts: str | None, settings: Settings) -> Heeded:
    """Return the settings' maintenance windows, and what people said of incidents, as ``--verdicts`` says where it is.

    Raises:
        SettingsError: The file can't be read, or holds something else.
        ServiceUnavailable: Kafka can't be reached.
        AccessRefused: Kafka refuses this user.
    """
    from backtest.judging import Heeded
    from whirr.verdicts import newest, read_verdicts

    said: Sequence[Verdict] = ()
    if verdicts is not None:
        said = list(asyncio.run(newest(settings)).values()) if verdicts == "topic" else read_verdicts(Path(verdicts))
    return Heeded(settings.maintenance, said)


def end_as_interrupted() -> None:
    """Let SIGTERM end this program as Ctrl-C does: what was scored is kept."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
