"""How fresh the feature store is, by machine and view, and which machines have gone silent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from fnmatch import fnmatchcase
from typing import Literal

from feature_repo import fields
from feature_repo.client import FeatureClient, MachineFeatures
from feature_repo.history import History
from feature_repo.store import history_folder
from whirr.settings import Settings

DEFAULT_SILENT_S = 600.0
Presence = Literal["fresh", "silent", "gone"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewFreshness:
    """One view of one machine: recording time of the newest frame in it (UTC), and how long ago that is, in seconds."""

    seen_at: datetime | None
    age_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineFreshness:
    """One machine.

    Attributes:
        presence: ``silent`` if a view is older than ``silent_after_s`` or empty, ``gone`` if all have been for so long
            that nobody waits for it any more.
        silent_after_s: What counts as silence; None if nothing does.
        views: By name.
    """

    machine_id: str
    presence: Presence
    silent_after_s: float | None
    views: dict[str, ViewFreshness]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStatus:
    """The store at one moment.

    Attributes:
        store: Kind and address.
        at: Now, UTC.
        machines: All that match, by id.
        history: Its folder.
        history_days: How many days of history there are, and the first and the last of them (UTC).
    """

    store: str
    at: datetime
    machines: list[MachineFreshness]
    history: str
    history_days: tuple[int, date | None, date | None]

    def named(self, presence: Presence) -> list[str]:
        """Return the ids of the machines that are ``fresh``, ``silent`` or ``gone``."""
        return [machine.machine_id for machine in self.machines if machine.presence == presence]


def store_status(
    client: FeatureClient, settings: Settings, now: datetime, match: str, silent_s: float | None, gone_s: float
) -> StoreStatus:
    """Return the status of a store.

    Args:
        client: An open one.
        settings: For the routes' ``silent_after_s``.
        now: The time, UTC.
        match: Pattern of machine ids (``*``, ``?``, ``[abc]``).
        silent_s: No frame for so long is silence; default: as the machine's route says, else 600 s.
        gone_s: No frame for so long, and the machine is not waited for.

    Raises:
        ServiceUnavailable: The store can't be reached.
    """
    ids = [machine_id for machine_id in client.machine_ids() if fnmatchcase(machine_id, match)]
    found = client.machines(ids)
    history = History(history_folder(settings))
    days = history.days()
    return StoreStatus(
        store=client.shown,
        at=now,
        machines=[
            freshness(machine, now, silent_after_s(settings, machine.machine_id, silent_s), gone_s) for machine in found
        ],
        history=str(history.folder),
        history_days=(len(days), days[0] if days else None, days[-1] if days else None),
    )


def silent_after_s(settings: Settings, machine_id: str, given_s: float | None) -> float | None:
    """Return after how long without a frame a machine is silent: as given, else by its route, else 600 s."""
    if given_s is not None:
        return given_s
    route = settings.route_for(machine_id)
    return DEFAULT_SILENT_S if route is None else route.silent_after_s


def freshness(machine: MachineFeatures, now: datetime, silent_s: float | None, gone_s: float) -> MachineFreshness:
    """Return how fresh a machine's views are."""
    times = {fields.AUDIO_VIEW: machine.audio_at, fields.HEALTH_VIEW: machine.health_at}
    views = {
        name: ViewFreshness(seen_at=at, age_s=None if at is None else (now - at).total_seconds())
        for name, at in times.items()
    }
    presence = _presence([view.age_s for view in views.values()], silent_s, gone_s)
    return MachineFreshness(machine_id=machine.machine_id, presence=presence, silent_after_s=silent_s, views=views)


def _presence(ages_s: Sequence[float | None], silent_s: float | None, gone_s: float) -> Presence:
    known = [age for age in ages_s if age is not None]
    if not known or min(known) > gone_s:
        return "gone"
    if silent_s is not None and (len(known) < len(ages_s) or max(known) > silent_s):
        return "silent"
    return "fresh"
