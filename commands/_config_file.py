"""A YAML file of a command's options: what the command line doesn't say is taken from it."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import typer

from commands._options import why_refused
from schemas.errors import SettingsError

NOT_IN_FILE: Final = frozenset({"config", "print_config", "resume", "as_json", "help"})


def take_options(ctx: typer.Context, path: Path | None) -> Path | None:
    """Make a YAML file's values the defaults of a command's options.

    Args:
        ctx: Of the command.
        path: The file, or None.

    Raises:
        SettingsError: The file can't be read, names an option that there is none of, or gives one a value out of its
            range.
    """
    if path is not None:
        from trainer.train_options import read_yaml

        known = {parameter.name: parameter for parameter in ctx.command.params if parameter.name not in NOT_IN_FILE}
        values = read_yaml(path)
        for name in values:
            if name not in known:
                raise SettingsError(f"{str(path)!r}: there is no option {name!r}; {_instead(name, sorted(known))}")
        ctx.default_map = {name: _checked(ctx, known[name], value, path) for name, value in values.items()}
    return path


def _instead(name: str, known: list[str]) -> str:
    nearest = get_close_matches(name, known, 1)
    return f"did you mean {nearest[0]!r}?" if nearest else f"expected one of {', '.join(known)}"


def _checked(ctx: typer.Context, parameter: Any, value: object, path: Path) -> object:
    """Return a value as it would stand on the command line, once its option has taken it."""
    flag = bool(getattr(parameter, "is_flag", False))
    if isinstance(value, bool) and not flag:
        raise SettingsError(f"{str(path)!r}: {parameter.name} is {str(value).lower()}; expected a value of its type")
    text = value if isinstance(value, bool) else str(value)
    try:
        parameter.process_value(ctx, text)
    except typer.BadParameter as error:
        raise SettingsError(f"{str(path)!r}: {parameter.name} is {why_refused(error)}") from None
    return text
