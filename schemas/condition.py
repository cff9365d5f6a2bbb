"""The operating condition of a machine while it was recorded, as far as a gateway knows it."""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

NUMBER: Final = r"[+-]?[0-9]{1,20}(\.[0-9]{0,20})?([eE][+-]?[0-9]{1,3})?"
ConditionName = Literal["rpm", "load"]
MOST: Final = 1e9  # of either, in size
_NUMBER = re.compile(NUMBER)


class Condition(NamedTuple):
    """How a machine ran; None for what is not known.

    Attributes:
        rpm: Revolutions of its shaft a minute, above 0.
        load: Per cent of the nominal load, or any unit that all of a machine's gateways use alike.
    """

    rpm: float | None = None
    load: float | None = None


UNKNOWN: Final = Condition()
CONDITIONS: Final[tuple[ConditionName, ...]] = ("rpm", "load")  # in the order of the fields


def parse_condition(name: str, text: str) -> float:
    """Return the number that ``rpm`` or ``load`` is stated as.

    Raises:
        ValueError: It is none, too large, or a speed of 0 or less; the text says what was expected.
    """
    number = float(text) if _NUMBER.fullmatch(text) else MOST * 10
    if name == "rpm" and not 0 < number <= MOST:
        raise ValueError(f"{text[:64]!r}; expected a number above 0, revolutions a minute (none for a machine at rest)")
    if not abs(number) <= MOST:
        raise ValueError(f"{text[:64]!r}; expected a number of at most {MOST:g}")
    return number


def check_condition(condition: Condition) -> None:
    """Hold numbers against what the wire takes.

    Raises:
        ValueError: One is none that can be sent.
    """
    for name, number in zip(condition._fields, condition, strict=True):
        if number is not None:
            try:
                parse_condition(name, number_text(number))
            except ValueError as error:
                raise ValueError(f"{name} is {error}") from None


def number_text(number: float) -> str:
    """Return a number as it is sent."""
    return repr(float(number)).removesuffix(".0")
