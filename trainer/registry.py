"""The registry from the desk: which versions there are, which one is champion, and how that changes.

What changes it (:meth:`Registry.challenge`, :meth:`Registry.drop`, :meth:`Registry.promote`, :meth:`Registry.rollback`)
writes tags first, and the alias that workers look at last: whatever stops it in between leaves what was, and done again
it gives the same.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.champion_tags import MARGIN_S, ROLLED_BACK_TAG, Term, term_tags, terms
from schemas.errors import ModelError, PromotionRefused
from schemas.model_uri import CHALLENGER, CHAMPION, MODEL_FILE
from schemas.times import format_rfc3339
from trainer.promotion import FalseAlarmCount, Judge, worse_in_auc, worse_in_false_alarms
from whirr.mlflow_client import TrackingServer, quiet
from whirr.settings import Settings

PREVIOUS_TAG = "previous_champion"
CHALLENGED_TAG = "challenged_at"
DROPPED_TAG = "dropped_at"
_POLLS = 3  # questions of the workers to the registry that fit in, at the least
_TAG_CHARS = 1000
_COUNTS = ("held_out_normals", "held_out_false_alarms")


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A version of a registered model; None for what it doesn't carry.

    Attributes:
        name, version: Of the registered model; versions count from 1.
        aliases: Such as ``champion``.
        detector: Kind of detector.
        model_version: What scores and alerts name.
        alert_threshold, decision_threshold: For machines that have none of their own.
        false_alarms: On held-out normals.
        previous_champion: The version that was champion before this one.
        created_at: RFC 3339.
        run_id: The training's run in MLflow.
        tags: All that it carries.
    """

    name: str
    version: int
    aliases: tuple[str, ...]
    detector: str | None
    model_version: str | None
    alert_threshold: float | None
    decision_threshold: float | None
    false_alarms: FalseAlarmCount | None
    previous_champion: int | None
    created_at: str
    run_id: str | None
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Promotion:
    """A champion that was made.

    Attributes:
        champion: The version that is champion now.
        before: The one that was, or None.
        overridden: Why it would have been refused.
    """

    champion: Registered
    before: Registered | None
    overridden: tuple[str, ...] = ()


class Registry:
    """MLflow's model registry. Every method raises ServiceUnavailable where MLflow can't be used.

    A champion has the frames that are recorded from ``champion_from`` on: a minute after it was made champion, or three
    times ``model_poll_s`` if that is longer, by when all workers have it. Frames recorded before are those of the
    champion before, whenever they arrive.

    Args:
        settings: For MLflow.
        now_us: Wall clock, microseconds since the epoch.
    """

    def __init__(self, settings: Settings, now_us: Callable[[], int] = lambda: time.time_ns() // 1000) -> None:
        self._server = TrackingServer(settings)
        self._margin_us = round(margin_s(settings) * 1e6)
        self._now_us = now_us

    def versions(self, name: str | None = None) -> list[Registered]:
        """Return all versions, newest first, of one model or of all.

        Raises:
            ModelError: There is no model of that name.
        """
        with self._client() as client:
            models = [self._server.model(client, name)] if name else _all(client.search_registered_models)
            return [
                _registered(version, dict(model.aliases))
                for model in sorted(models, key=lambda model: str(model.name))
                for version in sorted(_versions(client, model.name), key=lambda version: -int(version.version))
            ]

    def version(self, name: str, which: str = CHAMPION) -> Registered:
        """Return one version, by alias or by number.

        Raises:
            ModelError: There is none.
        """
        with self._client() as client:
            return self._find(client, name, which)

    def challenge(self, name: str, which: str, because: str | None = None) -> Registered:
        """Make a version the challenger, which workers score in shadow beside the champion.

        Done again, it changes nothing but the tags.

        Args:
            name: Of the registered model.
            which: Alias or number of the version.
            because: Why, for a tag.

        Raises:
            ModelError: There is no such version, or it is the champion.
            PromotionRefused: It was rolled back.
        """
        with self._client() as client:
            version = self._find(client, name, which)
            if CHAMPION in version.aliases:
                raise ModelError(f"version {version.version} of {name!r} is the champion; it can't challenge itself")
            if (reason := _rolled_back(version)) is not None:
                raise PromotionRefused(f"version {version.version} of {name!r} can't be challenger: {reason}")
            notes = {CHALLENGED_TAG: self._now()} | _given(challenged_because=because)
            return self._set_alias(client, version, CHALLENGER, notes)

    def drop(self, name: str, because: str | None = None, by: str | None = None) -> Registered | None:
        """Let a model have no challenger, and mark the one that it had; None where it had none.

        Tags say when, why and by whom. Done again, it changes nothing.

        Args:
            name: Of the registered model.
            because: Why, for a tag.
            by: By whom, likewise.

        Raises:
            ModelError: There is no such model.
        """
        with self._client() as client:
            if CHALLENGER not in dict(self._server.model(client, name).aliases):
                return None
            version = self._find(client, name, CHALLENGER)
            if CHAMPION not in version.aliases:
                self._tag(client, version, {DROPPED_TAG: self._now()} | _given(dropped_because=because, dropped_by=by))
            client.delete_registered_model_alias(name, CHALLENGER)
            return self._find(client, name, str(version.version))

    def set_alias(self, name: str, which: str, alias: str) -> Registered:
        """Give a version an alias that workers don't look at.

        Raises:
            ModelError: There is no such version.
        """
        with self._client() as client:
            return self._set_alias(client, self._find(client, name, which), alias, {})

    def remove_alias(self, name: str, alias: str) -> None:
        """Take an alias other than the champion's away, if the model has it; no tag is written.

        Raises:
            ModelError: There is no such model.
        """
        with self._client() as client:
            if alias != CHAMPION and alias in dict(self._server.model(client, name).aliases):
                client.delete_registered_model_alias(name, alias)

    def promote(
        self,
        name: str,
        which: str = CHALLENGER,
        judge: Judge | None = None,
        force: bool = False,
        *,
        because: str | None = None,
        by: str | None = None,
        from_us: int | None = None,
        again: bool = False,
    ) -> Promotion:
        """Make a version champion, if it is not worse than the one that is, and was never rolled back.

        Frames recorded from a minute later on are its (see the class). What stops this in between leaves the champion
        that was; call it again.

        Args:
            name: Of the registered model.
            which: Alias or number of the version.
            judge: Its AUC counts too.
            force: Promote it all the same; that is written down in a tag.
            because: Why, for a tag.
            by: By whom, likewise.
            from_us: Recording time from which on frames are its, microseconds since the epoch; default: see the class.
            again: That it is champion already is no error: nobody knows whether the first call got through.

        Raises:
            ModelError: There is no such version, or it is champion already.
            PromotionRefused: It is worse, or was rolled back; the message says in what.
        """
        with self._client() as client:
            challenger = self._find(client, name, which)
            champion = self._champion(client, name)
            if champion is not None and champion.version == challenger.version:
                if again:
                    return Promotion(champion, self._before(client, champion))
                raise ModelError(f"version {challenger.version} of {name!r} is the champion already")
            reasons = self._reasons(client, champion, challenger, judge) if champion is not None else ()
            if (rolled_back := _rolled_back(challenger)) is not None:
                reasons = (rolled_back, *reasons)
            if reasons and not force:
                raise PromotionRefused(
                    f"version {challenger.version} of {name!r} stays challenger: {'; '.join(reasons)}"
                )
            notes = {"promoted_at": self._now(), "promotion_forced": "; ".join(reasons) if reasons else "no"}
            if champion is not None:
                notes[PREVIOUS_TAG] = str(champion.version)
            notes |= _given(promoted_because=because, promoted_by=by)
            made = self._set_champion(client, challenger, champion, notes, from_us)
            return Promotion(made, champion, tuple(reasons))

    def rollback(
        self,
        name: str,
        to: int | None = None,
        *,
        of: int | None = None,
        because: str | None = None,
        by: str | None = None,
        from_us: int | None = None,
    ) -> Promotion:
        """Make the champion before the present one champion again, without a gate.

        The one that it was is marked: it is no challenger any more, and is promoted again by force only. Frames
        recorded from a minute later on are those of the champion before (see the class).

        Args:
            name: Of the registered model.
            to: Another version to go back to.
            of: The version that is to be rolled back: where it is so already, nothing is done. So a call can be
                repeated by who doesn't know whether it got through; without, the next one goes one further back.
            because: Why, for a tag.
            by: By whom, likewise.
            from_us: As of :meth:`promote`.

        Raises:
            ModelError: There is no champion, none before it, or another one than was to be rolled back.
        """
        with self._client() as client:
            champion = self._find(client, name, CHAMPION)
            if of is not None and champion.version != of:
                gone = self._find(client, name, str(of))
                if ROLLED_BACK_TAG in gone.tags:
                    return Promotion(champion, gone)
                raise ModelError(f"version {of} of {name!r} is not the champion; version {champion.version} is")
            number = to or champion.previous_champion
            if number is None:
                raise ModelError(f"version {champion.version} of {name!r} had no champion before it to go back to")
            if number == champion.version:
                raise ModelError(f"version {number} of {name!r} is the champion; expected another one to go back to")
            before = self._find(client, name, str(number))
            if CHALLENGER in champion.aliases:
                client.delete_registered_model_alias(name, CHALLENGER)  # else workers would go on scoring with it
            marks = {ROLLED_BACK_TAG: self._now()} | _given(rolled_back_because=because, rolled_back_by=by)
            self._tag(client, champion, marks)
            return Promotion(self._set_champion(client, before, champion, {}, from_us), champion)

    def _reasons(
        self, client: Any, champion: Registered, challenger: Registered, judge: Judge | None
    ) -> tuple[str, ...]:
        reasons = [worse_in_false_alarms(champion.false_alarms, challenger.false_alarms)]
        if judge is not None:
            with tempfile.TemporaryDirectory(prefix="whirr-judge-") as folder:
                ours, theirs = (
                    judge(self._download(client, one, Path(folder) / str(one.version)))
                    for one in (champion, challenger)
                )
            reasons.append(worse_in_auc(ours, theirs))
        return tuple(reason for reason in reasons if reason is not None)

    def _set_champion(
        self,
        client: Any,
        version: Registered,
        before: Registered | None,
        notes: Mapping[str, str],
        from_us: int | None,
    ) -> Registered:
        from_us = self._now_us() + self._margin_us if from_us is None else from_us
        terms_before: tuple[Term, ...] = () if before is None else _terms(before)
        if terms_before and terms_before[0].from_us is not None:
            from_us = max(from_us, terms_before[0].from_us + 1)  # a clock that was set back, or another machine's
        return self._set_alias(client, version, CHAMPION, {**notes, **term_tags(from_us, terms_before)})

    def _set_alias(self, client: Any, version: Registered, alias: str, notes: Mapping[str, str]) -> Registered:
        self._tag(client, version, notes)
        # Last: a worker takes it at once, and what fails before leaves what was.
        client.set_registered_model_alias(version.name, alias, str(version.version))
        return self._find(client, version.name, str(version.version))

    def _tag(self, client: Any, version: Registered, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            client.set_model_version_tag(version.name, str(version.version), key, value)

    def _before(self, client: Any, champion: Registered) -> Registered | None:
        previous = champion.previous_champion
        return None if previous is None else self._find(client, champion.name, str(previous))

    def _now(self) -> str:
        return format_rfc3339(self._now_us())

    def _champion(self, client: Any, name: str) -> Registered | None:
        aliases = dict(self._server.model(client, name).aliases)
        return self._find(client, name, CHAMPION) if CHAMPION in aliases else None

    def _find(self, client: Any, name: str, which: str) -> Registered:
        return _registered(*self._server.version(client, name, which))

    def _download(self, client: Any, version: Registered, folder: Path) -> Path:
        return self._server.download(client, version.name, str(version.version), MODEL_FILE, folder)

    @contextmanager
    def _client(self) -> Iterator[Any]:
        with quiet(), self._server.client(must_exist=True) as client:
            yield client


def _versions(client: Any, name: str) -> list[Any]:
    quoted = '"' if "'" in name else "'"
    return _all(client.search_model_versions, filter_string=f"name={quoted}{name}{quoted}")


def _all(search: Callable[..., Any], **query: Any) -> list[Any]:
    """Return what all pages of a search hold."""
    page = search(**query)
    found = list(page)
    while page.token:
        page = search(**query, page_token=page.token)
        found += page
    return found


def _registered(version: Any, aliases: Mapping[str, str]) -> Registered:
    tags = dict(version.tags)
    counts = [int(tags[name]) for name in _COUNTS if tags.get(name, "").isdecimal()]
    return Registered(
        name=version.name,
        version=int(version.version),
        aliases=tuple(sorted(alias for alias, number in aliases.items() if int(number) == int(version.version))),
        detector=tags.get("detector"),
        model_version=tags.get("model_version"),
        alert_threshold=_number(tags.get("alert_threshold")),
        decision_threshold=_number(tags.get("decision_threshold")),
        false_alarms=FalseAlarmCount(*counts) if len(counts) == len(_COUNTS) and counts[0] else None,
        previous_champion=int(tags[PREVIOUS_TAG]) if tags.get(PREVIOUS_TAG, "").isdecimal() else None,
        created_at=format_rfc3339(int(version.creation_timestamp) * 1000),
        run_id=version.run_id or None,
        tags=tags,
    )


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _terms(champion: Registered) -> tuple[Term, ...]:
    try:
        return terms(champion.version, champion.tags)
    except ValueError:  # somebody else's; what was before it can't be known
        return (Term(champion.version, None),)


def _rolled_back(version: Registered) -> str | None:
    """Return when and why a version was rolled back; None where it never was."""
    at = version.tags.get(ROLLED_BACK_TAG)
    because = version.tags.get("rolled_back_because")
    return None if at is None else f"it was rolled back at {at}" + (f" ({because})" if because else "")


def _given(**tags: str | None) -> dict[str, str]:
    return {key: value[:_TAG_CHARS] for key, value in tags.items() if value is not None}


def margin_s(settings: Settings) -> float:
    """Return how long after a promotion the first frame that is the new champion's is recorded, at the least."""
    return max(MARGIN_S, _POLLS * settings.model_poll_s)
