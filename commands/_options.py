"""Options of commands, made of what is declared once: settings, and the dataclasses that commands fill."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from pydantic import ValidationError
from typer.models import OptionInfo

from schemas.errors import SettingsError
from schemas.times import parse_rfc3339
from whirr.options import REQUIRED, Declared, declared, expectation, made, range_of
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
    return _info(option, *flags)


def setting(name: str, *flags: str) -> OptionInfo:
    """Return an option of a command that stands for a setting, and has its help and limits."""
    found = option_of(Settings, name, *flags)
    found.help = f"{found.help} Default: the setting {name}."
    return found


def why_refused(error: typer.BadParameter) -> str:
    """Return what is wrong with an option's value, and what was expected: Typer has it from pydantic."""
    if not isinstance(error.__cause__, ValidationError):
        return error.message
    first = error.__cause__.errors(include_url=False)[0]
    if first["type"] == "value_error":  # of Typer's own, which names the value
        return expectation(first).replace(" is not one of ", "; expected one of ").removesuffix(".")
    limits = {"ge": getattr(error.param, "min", None), "le": getattr(error.param, "max", None)}
    known = range_of({name: limit for name, limit in limits.items() if limit is not None})
    return f"{first['input']!r}; {expectation(first, known)}"


def _parameter(option: Declared, panel: str | None) -> Parameter:
    default = Parameter.empty if option.default is REQUIRED else option.default
    kind: Any = option.type
    if option.shown.repeated:
        one = get_args(kind)[0] if option.shown.parse is None else str
        kind, default = list[getattr(one, "__origin__", one)] | None, None  # type: ignore[misc]
    elif option.shown.parse is not None:
        kind, default = str | None, None
    if option.shown.argument:
        place = typer.Argument(help=option.help, metavar=option.shown.metavar, show_default=False)
        return Parameter(option.name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, place])
    flags = [option.flag] if len(option.name) > 1 else [option.flag, option.flag[1:]]
    if kind in (bool, bool | None) and default is not False:
        flags = [f"{option.flag}/--no-{option.flag[2:]}"]
    # The help shows closed ranges by itself.
    info = _info(option, *flags)
    info.rich_help_panel = option.shown.panel or panel
    return Parameter(option.name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info])


def _held(option: Declared) -> Callable[[Any], Any]:
    """Return what refuses values beyond limits that Typer does not know."""

    def held(value: Any) -> Any:
        for one in value if isinstance(value, list | tuple) else () if value is None else (value,):
            if not all(getattr(operator, name)(one, limit) for name, limit in option.limits.items()):
                raise typer.BadParameter(f"{one!r}; expected {option.range}")
        return value

    return held


def _info(option: Declared, *flags: str) -> OptionInfo:
    # The help shows closed ranges by itself.
    opened = bool(option.limits.keys() & {"gt", "lt"}) and option.shown.parse is None
    info: OptionInfo = typer.Option(
        *flags,
        help=f"{option.help.removesuffix('.')} ({option.range})." if opened else option.help,
        min=None if opened else option.limits.get("ge"),
        max=None if opened else option.limits.get("le"),
        callback=_held(option) if opened else None,
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
