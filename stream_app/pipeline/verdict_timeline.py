"""People's verdicts as an input of the core: what counts of an incident, and of a machine, at a recording time.

A verdict counts for frames recorded 30 s after it was given or later, whenever they are judged: so a backtest with the
same verdicts answers what the live system answered.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from schemas.times import MICROSECONDS, parse_rfc3339
from schemas.verdict import VERDICT_DELAY_S, EarlierVerdict, Verdict, VerdictWord

DELAY_US: Final = round(VERDICT_DELAY_S * MICROSECONDS)
_BEGIN_ANEW: Final = ("repaired", "new_normal")


class Said(NamedTuple):
    """A verdict, for frames recorded from ``from_us`` on until the next one of the same incident."""

    from_us: int
    verdict: VerdictWord
    since_us: int | None


class Anew(NamedTuple):
    """That a machine is to be learnt anew.

    Attributes:
        from_us: Frames recorded from then on are concerned.
        since_us: What was recorded from then on is its normal state.
        verdict: ``repaired`` or ``new_normal``.
    """

    from_us: int
    since_us: int
    verdict: VerdictWord


class MachineVerdicts:
    """The verdicts on one machine's incidents.

    Args:
        verdicts: Each incident's newest.
    """

    def __init__(self, verdicts: Sequence[Verdict]) -> None:
        self._said = {one.incident_id: _said(one) for one in verdicts}
        timeline = _anew([self._said[one.incident_id] for one in verdicts if one.kind != "sensor"])
        self._anew_from = [from_us for from_us, _ in timeline]
        self._anew = [anew for _, anew in timeline]
        self._by_beginning = sorted(
            (parse_rfc3339(one.began_at), one.source or "", one.incident_id) for one in verdicts if one.kind != "drift"
        )

    def verdict(self, incident_id: str, recorded_us: int) -> VerdictWord | None:
        """Return what counts of an incident for a frame recorded then; None: nothing was said, or it was withdrawn."""
        found: VerdictWord | None = None
        for one in self._said.get(incident_id, ()):
            if one.from_us > recorded_us:
                break
            found = one.verdict
        return None if found == "withdrawn" else found

    def false_alarm_between(self, source: str, first_us: int, last_us: int, recorded_us: int) -> bool:
        """Whether an incident of a source that began between two recording times is a false alarm for a frame."""
        at = bisect_right(self._by_beginning, (first_us, "", ""))
        for began_us, whose, incident_id in self._by_beginning[at:]:
            if began_us > last_us:
                break
            if whose == source and self.verdict(incident_id, recorded_us) == "false_alarm":
                return True
        return False

    def anew(self, recorded_us: int) -> Anew | None:
        """Return whether the machine is to be learnt anew, as far as verdicts say it, for a frame recorded then."""
        at = bisect_right(self._anew_from, recorded_us)
        return self._anew[at - 1] if at else None


class Verdicts:
    """Verdicts on incidents of any machines. Immutable: a new verdict makes a new one.

    Args:
        verdicts: Each incident's newest, with what was said before.
    """

    def __init__(self, verdicts: Iterable[Verdict] = ()) -> None:
        by_machine: dict[str, list[Verdict]] = {}
        for one in verdicts:
            by_machine.setdefault(one.machine_id, []).append(one)
        self._by_machine: Mapping[str, MachineVerdicts] = {
            machine: MachineVerdicts(own) for machine, own in by_machine.items()
        }

    def updated(self, changed: Mapping[str, Sequence[Verdict]]) -> Verdicts:
        """Return these verdicts with those of some machines in place of the ones that they had."""
        new = Verdicts()
        new._by_machine = {**self._by_machine, **{machine: MachineVerdicts(own) for machine, own in changed.items()}}
        return new

    def of(self, machine_id: str) -> MachineVerdicts | None:
        """Return a machine's verdicts; None where there are none."""
        return self._by_machine.get(machine_id)


def _said(verdict: Verdict) -> tuple[Said, ...]:
    """Return all that was said of an incident, in order; where a clock went back, from when the one before counts."""
    found: list[Said] = []
    now = EarlierVerdict(verdict=verdict.verdict, time=verdict.time, since=verdict.since)
    for one in (*verdict.before, now):
        from_us = parse_rfc3339(one.time) + DELAY_US
        since_us = None if one.since is None else parse_rfc3339(one.since)
        found.append(Said(max(from_us, found[-1].from_us) if found else from_us, one.verdict, since_us))
    return tuple(found)


def _anew(incidents: Iterable[Sequence[Said]]) -> list[tuple[int, Anew | None]]:
    """Return what counts of ``repaired`` and ``new_normal``, with the recording times from which it does, in order.

    Where several count, the newest one's moment does, and the latest beginning of a normal state.
    """
    own = list(incidents)
    events = sorted((one.from_us, number, at) for number, said in enumerate(own) for at, one in enumerate(said))
    found: list[tuple[int, Anew | None]] = []
    counting: dict[int, Anew] = {}
    for from_us, number, at in events:
        one = own[number][at]
        before = counting.pop(number, None)
        if one.verdict in _BEGIN_ANEW:
            since_us = from_us if one.since_us is None else one.since_us
            counting[number] = Anew(from_us, since_us, one.verdict)
        elif before is None:
            continue
        newest = max(counting.values(), default=None)
        latest_us = max((each.since_us for each in counting.values()), default=0)
        found.append((from_us, None if newest is None else newest._replace(since_us=latest_us)))
    return found
