"""Options of commands, made of what is declared once: settings, and the dataclasses that commands fill."""

from __future__ import annotations

import math
from collections.abc import Callable
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.models import OptionInfo

from schemas.errors import SettingsError
from schemas.times import parse_rfc3339
from whirr.options import REQUIRED, Declared, declared, made
from whirr.settings import Settings


def takes(*declarations: type[Any], panel: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make the fields of dataclasses a command's options; the command gets the dataclasses as its first arguments.

    Args:
        declarations: The dataclasses.
        panel: Heading of those that name none.
    """
    options = [option for declaration in declarations for option in declared(declaration)]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def run(**given: Any) -> None:
            command(*(made(one, given) for one in declarations), **{name: given[name] for name in own})

        own = dict(list(signature(command, eval_str=True).parameters.items())[len(declarations) :])
        parameters = [*(_parameter(option, panel) for option in options), *own.values()]
        parameters.sort(key=lambda one: one.default is not one.empty)
        run.__signature__ = Signature([one.replace(kind=Parameter.KEYWORD_ONLY) for one in parameters])  # type: ignore[attr-defined]
        run.__annotations__ = {}  # the signature has them
        run.__name__, run.__doc__, run.__module__ = command.__name__, command.__doc__, command.__module__
        return run

    return decorate


def option_of(declaration: type[Any], name: str, *flags: str) -> OptionInfo:
    """Return an option of a command that is declared elsewhere."""
    option = next(option for option in declared(declaration) if option.name == name)
    return _info(option, option.help, *flags)


def setting(name: str, *flags: str) -> OptionInfo:
    """Return an option of a command that stands for a setting, and has its help and limits."""
    found = option_of(Settings, name, *flags)
    found.help = f"{found.help} Default: the setting {name}."
    return found


def _parameter(option: Declared, panel: str | None) -> Parameter:
    default = Parameter.empty if option.default is REQUIRED else option.default
    kind: Any = option.type
    if option.shown.argument:
        place = typer.Argument(help=option.help, metavar=option.shown.metavar, show_default=False)
        return Parameter(option.name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, place])
    if option.shown.parse is not None:
        kind, default = str | None, None
    flag = f"--{option.name.replace('_', '-')}"
    if kind in (bool, bool | None) and default is not False:
        flag = f"{flag}/--no-{flag[2:]}"
    # The help shows closed ranges by itself.
    limits = f" ({option.range})" if option.limits.keys() & {"gt", "lt"} and kind is option.type else ""
    info = _info(option, option.help.removesuffix(".") + f"{limits}.", flag)
    info.rich_help_panel = option.shown.panel or panel
    return Parameter(option.name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info])


def _info(option: Declared, help_text: str, *flags: str) -> OptionInfo:
    info: OptionInfo = typer.Option(
        *flags,
        help=help_text,
        min=option.limits.get("ge"),
        max=option.limits.get("le"),
        metavar=option.shown.metavar,
        rich_help_panel=option.shown.panel,
        show_default=option.default not in (None, (), REQUIRED),
    )
    return info


def start_us_of(text: str) -> int:
    """Return the time that ``--start`` states, microseconds since the epoch.

    Raises:
        SettingsError: It is no RFC 3339 time.
    """
    try:
        return parse_rfc3339(text)
    except ValueError as error:
        raise SettingsError(f"--start: {error}") from None


def speed_of(text: str) -> float:
    """Return the speed that ``1``, ``10`` or ``max`` means.

    Raises:
        SettingsError: It means none.
    """
    try:
        speed = math.inf if text == "max" else float(text)
    except ValueError:
        speed = math.nan
    if not speed > 0:
        raise SettingsError(f"--speed is {text!r}; expected a number above 0, or max")
    return speed


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, each object on one line, and nothing else.")]
Bootstrap = Annotated[str | None, setting("kafka_bootstrap_servers", "--bootstrap")]
FramesTopic = Annotated[str | None, setting("frames_topic", "--topic")]
SpoolDir = Annotated[Path | None, setting("edge_spool_dir", "--spool-dir")]
StoreYaml = Annotated[Path | None, setting("feature_store_yaml", "--yaml")]
MachinePattern = Annotated[
    str, typer.Option("--machine", help="Only machines whose id matches this pattern (* ? \\[abc]).")
]
Since = Annotated[
    str | None,
    typer.Option(
        help="From when, as it was stored: a duration such as 10m, 2h, 7d, or a time (RFC 3339); default: all.",
        show_default=False,
    ),
]
