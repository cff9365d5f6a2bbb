"""Whether anything was lost, told twice or made up: what came out against what the oracle says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from rich.table import Table

from tests.chaos.hostile import Sent
from tests.chaos.observer import Tally
from tests.chaos.plant import Expected

CALM = "none yet"
COLUMNS = (
    "\ntimes",
    "frames\nsent",
    "\nscored",
    "\ntwice",
    "\nlost",
    "alerts\nexpected",
    "\ncame",
    "\nextra",
    "\nlost",
)


class Phase(NamedTuple):
    """From which frame number on, and until the next phase, frames and alerts count for a fault."""

    from_number: int
    kind: str


@dataclass(slots=True)
class Row:
    """Figures of one kind of fault, or of all.

    Attributes:
        duplicates: Alerts, after deduplication by id, that the oracle does not have, or not so.
    """

    injected: int = 0
    published: int = 0
    scored: int = 0
    scored_twice: int = 0
    missing_frames: int = 0
    alerts_expected: int = 0
    alerts_received: int = 0
    duplicates: int = 0
    missing_alerts: int = 0


@dataclass(slots=True, kw_only=True)
class ChaosResult:
    """What came of it.

    Attributes:
        rows: By kind of fault; what was recorded from one fault on until the next counts for it.
        redelivered_alerts: Alerts that came again with the id that they had before.
        restarts: Workers that the supervisor started again.
        exits: Those that had ended by themselves: they could not go on, said so, and another did.
        failures: Everything that must not be, in words, with the ids.
    """

    seed: int
    rows: dict[str, Row] = field(default_factory=dict)
    redelivered_alerts: int = 0
    restarts: int = 0
    exits: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def total(self) -> Row:
        """The sum of all rows."""
        total = Row()
        for row in self.rows.values():
            for name, value in asdict(row).items():
                setattr(total, name, getattr(total, name) + value)
        return total

    def remarks(self) -> list[str]:
        """Return what the table does not say."""
        again = f"{self.redelivered_alerts} alerts came again with the id that they had before"
        return [f"{again}; {self.restarts} workers were started in place of one that ended", *self.exits]

    def as_dict(self) -> dict[str, Any]:
        """Return the figures of the last line."""
        total = self.total
        return {
            "published": total.published,
            "scored": total.scored,
            "scored_twice": total.scored_twice,
            "missing_frames": total.missing_frames,
            "alerts_expected": total.alerts_expected,
            "alerts_received": total.alerts_received,
            "missing_alerts": total.missing_alerts,
            "redelivered_alerts": self.redelivered_alerts,
            "duplicates_after_dedup": total.duplicates,
            "faults": {kind: row.injected for kind, row in self.rows.items() if row.injected},
            "seed": self.seed,
            "failures": len(self.failures),
        }


def compare(
    seed: int,
    expected: Expected,
    poison: Mapping[str, str],
    tally: Tally,
    phases: Sequence[Phase],
    seen: Mapping[str, str],
    *,
    hostile: Sequence[Sent] = (),
) -> ChaosResult:
    """Compare.

    Args:
        seed: For the last line.
        expected: The oracle's word.
        poison: The reason of each poisonous record's dead letter.
        tally: What came out.
        phases: In order.
        seen: Where on the frames topic a frame without an answer is, by id.
        hostile: What the hostile gateway sent.
    """
    result = ChaosResult(seed=seed, rows={CALM: Row()})
    for phase in phases:
        result.rows.setdefault(phase.kind, Row()).injected += 1

    def row(number: int) -> Row:
        kinds = [phase.kind for phase in phases if phase.from_number <= number]
        return result.rows[kinds[-1] if kinds else CALM]

    _compare_frames(result, expected, tally, row, seen)
    _compare_poison(result, poison, tally, seen)
    _compare_hostile(result, hostile, tally)
    for identity in tally.dead_lettered.keys() - poison.keys() - expected.frames.keys():
        result.failures.append(f"dead letter of {identity}, which nobody sent, {tally.places[identity]}")
    _compare_alerts(result, expected, tally, row)
    if not result.rows[CALM].published:
        del result.rows[CALM]
    return result


def _compare_frames(
    result: ChaosResult, expected: Expected, tally: Tally, row: Callable[[int], Row], seen: Mapping[str, str]
) -> None:
    for identity, (machine_id, number) in expected.frames.items():
        mine = row(number)
        mine.published += 1
        mine.scored += identity in tally.scored
        mine.scored_twice += tally.scored[identity] > 1
        what = f"frame {identity} (number {number} of {machine_id})"
        if identity in tally.dead_lettered:
            result.failures.append(f"{what} is a dead letter: {tally.reasons[identity]}, {tally.places[identity]}")
        elif identity not in tally.scored:
            mine.missing_frames += 1
            result.failures.append(f"{what} has no score; last seen: {seen.get(identity, 'never on the topic')}")
        elif tally.late[identity] == tally.scored[identity]:
            result.failures.append(f"{what} was late each time and moved nothing; {tally.places[identity]}")
    for identity in tally.scored.keys() - expected.frames.keys():
        result.failures.append(f"score of a frame {identity} that nobody published, {tally.places[identity]}")


def _compare_poison(result: ChaosResult, poison: Mapping[str, str], tally: Tally, seen: Mapping[str, str]) -> None:
    mine = result.rows.setdefault("poison", Row()) if poison else Row()
    for identity, reason in poison.items():
        mine.published += 1
        mine.scored += identity in tally.dead_lettered
        mine.scored_twice += tally.dead_lettered[identity] > 1
        if identity not in tally.dead_lettered:
            mine.missing_frames += 1
            where = seen.get(identity, "never on the topic")
            result.failures.append(f"{identity} has no dead letter; last seen: {where}")
        elif tally.reasons[identity] != reason:
            result.failures.append(f"{identity} is a dead letter for {tally.reasons[identity]}; expected {reason}")


def _compare_hostile(result: ChaosResult, hostile: Sequence[Sent], tally: Tally) -> None:
    """Hold that each of its records has an answer; what the answer is, the tests of the worker say."""
    mine = result.rows.setdefault("hostile gateway", Row()) if hostile else Row()
    for partition, offset, what in hostile:
        mine.published += 1
        if (partition, offset) in tally.hostile:
            mine.scored += 1
        else:
            mine.missing_frames += 1
            result.failures.append(f"a hostile record has no answer: {what}, partition {partition}, offset {offset}")


def _compare_alerts(result: ChaosResult, expected: Expected, tally: Tally, row: Callable[[int], Row]) -> None:
    for identity, (state, incident_id, what, (machine_id, number)) in expected.alerts.items():
        mine = row(number)
        mine.alerts_expected += 1
        observed = f"alert {identity} ({what}, by frame {number} of {machine_id})"
        came = tally.alerts.get(identity, [])
        if (state, incident_id) in {(one.state, one.incident_id) for one in came}:
            mine.alerts_received += 1
        else:
            mine.missing_alerts += 1
            result.failures.append(f"{observed} never came")
    for identity, came in tally.alerts.items():
        result.redelivered_alerts += len(came) - 1
        known = expected.alerts.get(identity)
        for one in Counter(came):
            if known is None or (one.state, one.incident_id) != (known.state, known.incident_id):
                row(one.number).duplicates += 1
                where = f"incident {one.incident_id}, {tally.places[identity]}"
                result.failures.append(f"alert {identity} ({one.what}) is none of the oracle's; {where}")


def table(result: ChaosResult) -> Table:
    """Return the table: a row for each kind of fault, and one for all. ``extra``: left after deduplication by id."""
    made = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    made.add_column("\nfault", no_wrap=True)
    for name in COLUMNS:
        made.add_column(name, justify="right")
    for kind, row in [*result.rows.items(), ("all", result.total)]:
        made.add_row(kind, *map(str, asdict(row).values()), end_section=kind == list(result.rows)[-1])
    return made
