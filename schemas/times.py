"""Points in time: whole microseconds since the Unix epoch inside Whirr, RFC 3339 in UTC on the wire."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

MICROSECONDS = 1_000_000  # in a second

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_UTC = _EPOCH.replace(tzinfo=None)  # its text carries no offset
_MICROSECOND = timedelta(microseconds=1)
# datetime.fromisoformat takes much that RFC 3339 does not (dates alone, week dates, no offset).
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")


def parse_rfc3339(text: str) -> int:
    """Return microseconds since the epoch of an RFC 3339 time; digits beyond the microsecond are cut off.

    Raises:
        ValueError: ``text`` is no RFC 3339 time with an offset.
    """
    if not _RFC3339.fullmatch(text):
        raise ValueError(f"{text[:64]!r} is no RFC 3339 time such as 2026-01-31T12:00:00.000000Z")
    moment = datetime.fromisoformat(text.upper())
    return (moment - _EPOCH) // _MICROSECOND  # aware datetimes subtract in UTC, also at the calendar's ends


def format_rfc3339(time_us: int) -> str:
    """Return ``time_us`` (microseconds since the epoch) as ``YYYY-MM-DDTHH:MM:SS.ffffffZ``.

    Raises:
        OverflowError: It lies outside the years 1 to 9999.
    """
    return (_EPOCH_UTC + timedelta(microseconds=time_us)).isoformat(timespec="microseconds") + "Z"
