"""When which version of a registered model was champion: tags on the version that is, all of them in one look.

``champion_from`` says from which recording time on frames are the version's. ``champion_before`` names those that
were champion before it, newest first, each with its own beginning, as ``7@2026-11-20T06:00:00.000000Z 4``; frames from
before the oldest beginning that is known are the oldest version's. A version without ``champion_from`` became champion
by hand: its beginning is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from schemas.times import format_rfc3339, parse_rfc3339

FROM_TAG = "champion_from"
BEFORE_TAG = "champion_before"
ROLLED_BACK_TAG = "rolled_back_at"
MARGIN_S = 60.0  # from a promotion to the recording time of the new champion's first frame: workers have it by then
MOST_BEFORE = 8  # champions that are remembered before the present one

_ENTRY = re.compile(r"(?P<version>[1-9][0-9]{0,8})(@(?P<time>\S+))?")


class Term(NamedTuple):
    """One version's time as champion.

    Attributes:
        version: Its number.
        from_us: Recording time from which on frames are its, microseconds since the epoch; None where it isn't known,
            or there was none before.
    """

    version: int
    from_us: int | None


def terms(version: int, tags: Mapping[str, str]) -> tuple[Term, ...]:
    """Return when a version became champion and which were so before it, newest first; at least itself.

    Raises:
        ValueError: A tag is not what Whirr writes.
    """
    since = tags.get(FROM_TAG)
    if since is None:
        return (Term(version, None),)
    found = [Term(version, _time(FROM_TAG, since))]
    for text in tags.get(BEFORE_TAG, "").split():
        match = _ENTRY.fullmatch(text)
        if match is None:
            raise ValueError(f"tag {BEFORE_TAG} has {text[:64]!r}; expected VERSION or VERSION@TIME")
        from_us = None if match["time"] is None else _time(BEFORE_TAG, match["time"])
        newer_us = found[-1].from_us
        if newer_us is None:
            raise ValueError(f"tag {BEFORE_TAG} has {text[:64]!r} after a version without a time; expected none")
        if from_us is not None and from_us >= newer_us:
            raise ValueError(f"tag {BEFORE_TAG} has {text[:64]!r}; expected a time before {format_rfc3339(newer_us)}")
        found.append(Term(int(match["version"]), from_us))
    return tuple(found)


def term_tags(from_us: int, before: Sequence[Term]) -> dict[str, str]:
    """Return the tags of a version that becomes champion.

    Args:
        from_us: Recording time from which on frames are its, microseconds since the epoch.
        before: The champions before it, newest first; of more than :data:`MOST_BEFORE` the oldest are left out, and
            what was theirs is the oldest's that is kept.
    """
    kept = list(before[:MOST_BEFORE])
    if len(kept) < len(before):
        kept[-1] = kept[-1]._replace(from_us=None)
    texts = [f"{term.version}" + ("" if term.from_us is None else f"@{format_rfc3339(term.from_us)}") for term in kept]
    return {FROM_TAG: format_rfc3339(from_us), BEFORE_TAG: " ".join(texts)}


def _time(tag: str, text: str) -> int:
    try:
        return parse_rfc3339(text)
    except ValueError as error:
        raise ValueError(f"tag {tag}: {error}") from None
