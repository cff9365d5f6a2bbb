"""What people may say of a folder of recordings, declared once for every command that reads one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal

from whirr.options import option


def names_of(text: str) -> tuple[str, ...]:
    """Return the names that a text lists, separated by commas.

    Raises:
        ValueError: It lists none, or one twice.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names or len(set(names)) < len(names):
        raise ValueError("expected different names, such as x,y,z")
    return names


# Of names with commas between them:
LISTED: Final[dict[str, Any]] = {
    "metavar": "NAME,…",
    "parse": names_of,
    "show": ",".join,
}
Machine = Annotated[str | None, option("the machine that all recordings are of", "Data")]
PathPattern = Annotated[str | None, option("where paths name machine and time: '*/{machine}/{time}*'", "Data")]
Labels = Annotated[
    Path | None,
    option("CSV of labels (path,label[,machine][,onset_s], or machine,label,from,until) in place of names", "Data"),
]
Zone = Annotated[str, option("time zone of times without one, such as Europe/Berlin", "Data")]
OnError = Annotated[Literal["skip", "fail"], option("what to do with files that can't be used", "Data")]
Columns = Annotated[
    tuple[str, ...],
    option(
        "of tables (.csv .txt .mat …): the columns to take as channels; default: those that look like a signal",
        "Data",
        **LISTED,
    ),
]
