"""Label spans: from when until when a machine's frames are normal or not, as people's verdicts say it.

They stand in a CSV file, ``machine,label,from,until[,source][,fault][,verdict,verdict_id]``, which every command takes
as ``--labels``.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import orjson

from schemas.times import format_rfc3339, parse_rfc3339
from schemas.verdict import Verdict
from whirr.outputs import replacing

COLUMNS: Final = ("machine", "source", "label", "from", "until", "fault", "verdict", "verdict_id")
_MOST_FAULTS: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSpan:
    """What one machine's frames of some time are labelled.

    Attributes:
        machine: Whose.
        source: Of which sensor; None for all.
        label: What they are.
        from_us, until_us: The span's beginning, and its end, which is not in it; microseconds since the epoch. No end:
            until now and on.
        fault: What it was, which groups anomalies; None where nobody said.
        verdict, verdict_id: The verdict that says so; None where none does.
    """

    machine: str
    source: str | None = None
    label: Literal["normal", "anomaly"]
    from_us: int
    until_us: int | None
    fault: str | None = None
    verdict: str | None = None
    verdict_id: str | None = None

    def overlaps(self, start_us: int, stop_us: int) -> bool:
        """Whether some of a time lies in it."""
        return self.from_us < stop_us and (self.until_us is None or start_us < self.until_us)

    def holds(self, start_us: int, stop_us: int) -> bool:
        """Whether all of a time lies in it."""
        return self.from_us <= start_us and (self.until_us is None or stop_us <= self.until_us)


def spans_of(verdicts: Iterable[Verdict], ended: Mapping[str, str | None]) -> list[LabelSpan]:
    """Return what verdicts say of frames: of each incident's newest one, by machine and time.

    A fault of a machine is one of all its sensors. Where an end isn't known, the safe side is taken: a fault lasts, and
    a normal time ends when the verdict was given.

    Args:
        verdicts: Each incident's newest.
        ended: By incident: when it ended (RFC 3339) or None, as far as its alerts still tell.
    """
    found = [span for one in verdicts if (span := _span(one, ended.get(one.incident_id) or one.ended_at)) is not None]
    return sorted(found, key=lambda span: (span.machine, span.source or "", span.from_us, span.label))


def label_groups(spans: Iterable[LabelSpan]) -> dict[str, str]:
    """Return what a run of MLflow says of the label spans that went into it.

    ``verdicts`` is how many; ``verdicts.by_word`` and ``verdicts.by_fault`` (the commonest 50) are counts, as JSON
    objects; of a span that no verdict says, the label stands for the word. ``verdicts.hash`` is the same for the same.
    """
    found = set(spans)
    words = Counter(span.verdict or span.label for span in found)
    faults = Counter(span.fault for span in found if span.fault is not None)
    ids = sorted(span.verdict_id or "\0".join(_row(span)) for span in found)
    return {
        "verdicts": str(len(found)),
        "verdicts.by_word": orjson.dumps(dict(sorted(words.items()))).decode(),
        "verdicts.by_fault": orjson.dumps(dict(faults.most_common(_MOST_FAULTS))).decode(),
        "verdicts.hash": hashlib.sha256("\n".join(ids).encode()).hexdigest()[:32],
    }


def write_spans(file: Path, spans: Iterable[LabelSpan]) -> None:
    """Write spans as a CSV file.

    Raises:
        OSError: It can't be written.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows(_row(span) for span in spans)
    with replacing(file) as binary:
        binary.write(text.getvalue().encode())


def _row(span: LabelSpan) -> tuple[str, ...]:
    """Return a span as the file has it, in the order of ``COLUMNS``."""
    until = "" if span.until_us is None else format_rfc3339(span.until_us)
    whose, said = (span.machine, span.source or ""), (span.verdict or "", span.verdict_id or "")
    return (*whose, span.label, format_rfc3339(span.from_us), until, span.fault or "", *said)


def _span(verdict: Verdict, ended_at: str | None) -> LabelSpan | None:
    began_us, said_us = parse_rfc3339(verdict.began_at), parse_rfc3339(verdict.time)
    # The frame that closed it is in it: its last normal ones are no loss.
    ended_us = None if ended_at is None else parse_rfc3339(ended_at) + 1
    since_us = None if verdict.since is None else parse_rfc3339(verdict.since)
    label: Literal["normal", "anomaly"] = "anomaly" if verdict.verdict in ("confirmed", "repaired") else "normal"
    until_us: int | None
    if verdict.verdict == "confirmed":
        from_us, until_us = began_us, ended_us
    elif verdict.verdict == "repaired":  # until then the fault was there, whether or not the incident had closed
        from_us, until_us = began_us, said_us if since_us is None else since_us
    elif verdict.verdict == "false_alarm" and verdict.kind != "drift":  # what came since may hold a fault all the same
        from_us, until_us = began_us, said_us if ended_us is None else ended_us
    elif verdict.verdict == "new_normal":
        from_us, until_us = began_us if since_us is None else since_us, said_us
    else:
        return None
    if until_us is not None and until_us <= from_us:
        return None
    # A fault is the machine's, and what any of its sensors heard then is no normal; all else is of the sensor alone.
    whole = label == "anomaly" and verdict.kind != "sensor"
    return LabelSpan(
        machine=verdict.machine_id,
        source=None if whole else verdict.source,
        label=label,
        from_us=from_us,
        until_us=until_us,
        fault=verdict.fault if label == "anomaly" else None,
        verdict=verdict.verdict,
        verdict_id=verdict.verdict_id,
    )
