"""How much computation each machine may ask for: a budget that no honest machine reaches."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from itertools import islice

from schemas.frame import MAX_HEADERS, FrameRecord
from schemas.times import parse_rfc3339

BURST_S = 300.0
_MAX_MACHINES = 65_536


@dataclass(slots=True)
class _Account:
    left: float
    published_s: float
    offset: int
    recorded_s: float | None = None


class Budgets:
    """Token buckets, one for each machine, filled by the time that its own records tell.

    A backlog after an outage spans the time of the outage, so it is within the budget however fast it arrives. Time is
    the records' timestamps; where these are close together, as when a gateway sends at once what it has spooled, it
    is the recording times.

    Args:
        samples_per_s: What each machine may ask for on average, in samples at its model's rate over all channels. Five
            minutes' worth may come at once.
    """

    def __init__(self, samples_per_s: float) -> None:
        self._rate = samples_per_s
        self._burst = samples_per_s * BURST_S
        self._accounts: OrderedDict[tuple[int, bytes | None], _Account] = OrderedDict()

    def describe(self) -> str:
        """Return what a machine may ask for, for the dead letter of a frame that was too much."""
        return f"a machine may have {self._rate:,.0f} samples a second computed, {self._burst:,.0f} at once"

    def admits(self, record: FrameRecord, cost: int) -> bool:
        """Take a frame's cost from its machine's budget; return whether it was within."""
        key = record.partition, record.key
        published_s = record.timestamp_ms / 1e3
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = _Account(self._burst, published_s, -1)
            if len(self._accounts) > _MAX_MACHINES:
                self._accounts.popitem(last=False)
        if record.offset <= account.offset:
            return True  # it comes again after a rebalance, and has been paid for
        account.offset = record.offset
        account.left = min(account.left + max(published_s - account.published_s, 0.0) * self._rate, self._burst)
        account.published_s = max(account.published_s, published_s)
        if account.left < cost:
            self._earn_by_recording(account, record)
        if account.left < cost:
            return False
        account.left -= cost
        return True

    def _earn_by_recording(self, account: _Account, record: FrameRecord) -> None:
        recorded_s = _recorded_s(record)
        if recorded_s is None:
            return
        before_s = account.recorded_s
        # What it earned before anybody looked is not known: all that it can have.
        earned = self._burst if before_s is None else max(recorded_s - before_s, 0.0) * self._rate
        account.left = min(account.left + earned, self._burst)
        account.recorded_s = recorded_s if before_s is None else max(before_s, recorded_s)


def _recorded_s(record: FrameRecord) -> float | None:
    for name, raw in islice(record.headers, MAX_HEADERS):
        if name == "ce_time" and raw is not None:
            try:
                return parse_rfc3339(raw.decode()) / 1e6
            except ValueError:  # UnicodeDecodeError is one
                return None
    return None
