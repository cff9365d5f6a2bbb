"""Options declared once, as the fields of a dataclass or a settings class: name, type, range, default and help.

A field says it all: ``epochs: Annotated[int, option("passes over the data", ge=1)] = 50``.
The command line, YAML files and ``whirr settings`` show what stands there and nothing of their own.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined

from schemas.errors import SettingsError

REQUIRED: Final = PydanticUndefined  # in place of a default
_SHOWN_CHARS: Final = 120  # of a key in a foreign document
_LIMITS: Final = {"ge": ("at least", max), "gt": ("above", max), "le": ("at most", min), "lt": ("below", min)}
_KINDS: Final = {  # by the first word of what pydantic calls an error
    "bool": "true or false",
    "datetime": "a time (RFC 3339)",
    "finite": "a number",
    "float": "a number",
    "int": "a whole number",
    "list": "a list",
    "path": "a path",
    "string": "a text",
    "tuple": "a list",
}
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Shown:
    """What a command line and a file need besides a field's declaration.

    Attributes:
        panel: Heading that it stands below.
        name: In place of the field's.
        metavar: What stands for the value.
        argument: Whether it is given without its name.
        repeated: Whether a tuple is given one by one, so that ``parse`` makes one of its values.
        parse: Makes the value of a text, or raises ValueError that says what was expected.
        show: Makes the text of a value.
    """

    panel: str | None = None
    name: str | None = None
    metavar: str | None = None
    argument: bool = False
    repeated: bool = False
    parse: Callable[[str], Any] | None = None
    show: Callable[[Any], str] = str


@dataclass(frozen=True, slots=True)
class Declared:
    """One option: what its field says.

    Attributes:
        field: The field's name.
        name: As the user writes it, with underscores.
        type: Of the value, without what limits it.
        default: ``REQUIRED`` where there is none.
        description: One clause, without a capital and a full stop.
        limits: Of a number, by ``ge``, ``gt``, ``le`` and ``lt``.
        choices: The only values, if there are few.
        shown: How it is shown.
    """

    field: str
    name: str
    type: Any
    default: Any
    description: str
    limits: Mapping[str, float]
    choices: tuple[Any, ...]
    shown: Shown

    @property
    def help(self) -> str:
        """The description as a sentence."""
        return f"{self.description[:1].upper()}{self.description[1:]}."

    @property
    def flag(self) -> str:
        """As it stands on the command line."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def range(self) -> str:
        """What the value may be, in words; '' where its type says it all."""
        if self.choices:
            return " | ".join(map(str, self.choices))
        return range_of(self.limits)


def option(description: str, panel: str | None = None, *, name: str | None = None, **said: Any) -> Any:
    """Return what makes a field an option.

    Args:
        description: One clause, without a capital and a full stop.
        panel: As of :class:`Shown`.
        name: Likewise.
        said: What else :class:`Shown` takes, and limits as pydantic's ``Field`` takes them.
    """
    shown = {field.name: said.pop(field.name) for field in dataclasses.fields(Shown) if field.name in said}
    field: FieldInfo = Field(description=description, **said)
    field.metadata.append(Shown(panel, name, **shown))
    return field


def declared(declaration: type[Any]) -> Iterator[Declared]:
    """Yield the options of a dataclass, those of dataclasses in it among them, or of a settings class."""
    for name, field in _fields(declaration):
        if dataclasses.is_dataclass(field.annotation):
            yield from declared(field.annotation)
        else:
            yield _declared(name, field)


def made(declaration: type[_T], given: Mapping[str, Any]) -> _T:
    """Return a dataclass with its options as they were given, by the names that users know; None is not given.

    Raises:
        SettingsError: A text can't be parsed.
    """
    values: dict[str, Any] = {}
    for name, field in _fields(declaration):
        if dataclasses.is_dataclass(field.annotation):
            values[name] = made(field.annotation, given)
            continue
        option = _declared(name, field)
        value = given.get(option.name)
        if value is None or (option.shown.repeated and not value):
            continue
        values[name] = tuple(_parsed(option, one) for one in value) if option.shown.repeated else _parsed(option, value)
    return declaration(**values)


def texts(options: Any) -> dict[str, Any]:
    """Return the options of a dataclass as a file may hold them, by the names that users know."""
    found: dict[str, Any] = {}
    for name, field in _fields(type(options)):
        value = getattr(options, name)
        if dataclasses.is_dataclass(field.annotation):
            found |= texts(value)
            continue
        option = _declared(name, field)
        plain = value is None or (option.shown.parse is None and isinstance(value, bool | int | float | str))
        found[option.name] = value if plain else option.shown.show(value) or None
    return found


def check(options: Any) -> None:
    """Hold each option of a dataclass against its declaration.

    Raises:
        SettingsError: One is out of range; the message names each as users know it.
    """
    if wrong := list(_wrong(options)):
        raise SettingsError("; ".join(wrong))


def expectation(error: ErrorDetails, limits: str = "") -> str:
    """Return what was expected in place of a value that pydantic refused, or what a check of our own says of it.

    Args:
        error: One of those of a ``ValidationError``.
        limits: What a number may be, where that is known, in words.
    """
    context = error.get("ctx", {})
    if error["type"] == "value_error":
        return error["msg"].removeprefix("Value error, ")
    if error["type"] == "missing":
        return "expected, but not there"
    if passed := {name: limit for name, limit in context.items() if name in _LIMITS}:
        return f"expected {limits or range_of(passed)}"
    if wanted := context.get("expected") or ("max_length" in context and f"at most {context['max_length']} of them"):
        return f"expected {wanted}"
    kind = error["type"].partition("_")[0]
    if kind not in _KINDS or "mismatch" in error["type"]:
        return re.sub(r"^\w+ should (be )?", lambda found: "expected " if found[1] else "expected to ", error["msg"])
    return f"expected {_KINDS[kind]}{f', {limits}' if limits and kind in ('int', 'float', 'finite') else ''}"


def first_wrong(error: ValidationError) -> str:
    """Return what is wrong first in a document that pydantic refused: where, and what was expected."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part)[:_SHOWN_CHARS] for part in first["loc"])
    return ": ".join(filter(None, (where, expectation(first))))


def range_of(limits: Mapping[str, float]) -> str:
    """Return limits of a number, by ``ge``, ``gt``, ``le`` and ``lt``, in words."""
    if limits.keys() == {"ge", "le"}:
        return f"{_number(limits['ge'])} to {_number(limits['le'])}"
    return ", ".join(f"{_LIMITS[kind][0]} {_number(limit)}" for kind, limit in limits.items())


def _parsed(option: Declared, value: Any) -> Any:
    try:
        return value if option.shown.parse is None else option.shown.parse(value)
    except ValueError as error:
        raise SettingsError(f"{option.flag} is {value!r}; {error}") from None


def _wrong(options: Any) -> Iterator[str]:
    hints = get_type_hints(type(options), include_extras=True)
    for name, field in _fields(type(options)):
        value = getattr(options, name)
        if dataclasses.is_dataclass(field.annotation):
            yield from _wrong(value)
            continue
        option = _declared(name, field)
        try:
            TypeAdapter(hints[name]).validate_python(value)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            yield f"{option.name} is {first['input']!r}; {expectation(first, option.range)}"


def _fields(declaration: type[Any]) -> Iterator[tuple[str, FieldInfo]]:
    """Yield what is declared, of a settings class and of a dataclass alike."""
    if not dataclasses.is_dataclass(declaration):
        yield from declaration.model_fields.items()
        return
    hints = get_type_hints(declaration, include_extras=True)
    for field in dataclasses.fields(declaration):
        info = FieldInfo.from_annotation(hints[field.name])
        info.default = REQUIRED if field.default is dataclasses.MISSING else field.default
        yield field.name, info


def _declared(name: str, field: FieldInfo) -> Declared:
    marks = list(_marks(field.annotation, *field.metadata))
    shown = next((mark for mark in marks if isinstance(mark, Shown)), Shown())
    found = {kind: [limit for mark in marks if (limit := getattr(mark, kind, None)) is not None] for kind in _LIMITS}
    limits = {kind: _LIMITS[kind][1](values) for kind, values in found.items() if values}
    literals = [part for part in (field.annotation, *get_args(field.annotation)) if get_origin(part) is Literal]
    return Declared(
        field=name,
        name=shown.name or name,
        type=field.annotation,
        default=field.default,
        description=field.description or "",
        limits=limits,
        choices=get_args(literals[0]) if literals else (),
        shown=shown,
    )


def _marks(*parts: Any) -> Iterator[Any]:
    """Yield what limits a value, also where a type that is one of several carries it."""
    for part in parts:
        if isinstance(part, FieldInfo):
            yield from _marks(*part.metadata)
        elif isinstance(part, Ge | Gt | Le | Lt | Shown):
            yield part
        elif get_origin(part) is not Literal:
            yield from _marks(*getattr(part, "__metadata__", ()), *get_args(part))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:.3g}"
