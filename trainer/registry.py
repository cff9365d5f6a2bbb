"""The registry from the desk: which versions there are, which one is champion, and how that changes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from schemas.errors import ModelError, PromotionRefused
from schemas.model_uri import CHALLENGER, CHAMPION, MODEL_FILE
from schemas.times import format_rfc3339
from trainer.promotion import FalseAlarmCount, Judge, worse_in_auc, worse_in_false_alarms
from whirr.mlflow_client import TrackingServer, quiet
from whirr.settings import Settings

PREVIOUS_TAG = "previous_champion"
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
    """MLflow's model registry. Every method raises ServiceUnavailable where MLflow can't be used."""

    def __init__(self, settings: Settings) -> None:
        self._server = TrackingServer(settings)

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

    def promote(self, name: str, which: str = CHALLENGER, judge: Judge | None = None, force: bool = False) -> Promotion:
        """Make a version champion, if it is not worse than the one that is.

        Args:
            name: Of the registered model.
            which: Alias or number of the version.
            judge: Its AUC counts too.
            force: Promote it all the same; that is written down in a tag.

        Raises:
            ModelError: There is no such version, or it is champion already.
            PromotionRefused: It is worse; the message says in what.
        """
        with self._client() as client:
            challenger = self._find(client, name, which)
            champion = self._champion(client, name)
            if champion is not None and champion.version == challenger.version:
                raise ModelError(f"version {challenger.version} of {name!r} is the champion already")
            reasons = self._reasons(client, champion, challenger, judge) if champion is not None else ()
            if reasons and not force:
                raise PromotionRefused(
                    f"version {challenger.version} of {name!r} stays challenger: {'; '.join(reasons)}"
                )
            notes = {"promoted_at": _now(), "promotion_forced": "; ".join(reasons) if reasons else "no"}
            if champion is not None:
                notes[PREVIOUS_TAG] = str(champion.version)
            return Promotion(self._set_champion(client, challenger, notes), champion, tuple(reasons))

    def rollback(self, name: str) -> Promotion:
        """Make the champion before the present one champion again.

        Raises:
            ModelError: There is no champion, or none before it.
        """
        with self._client() as client:
            champion = self._find(client, name, CHAMPION)
            if champion.previous_champion is None:
                raise ModelError(f"version {champion.version} of {name!r} had no champion before it to go back to")
            before = self._find(client, name, str(champion.previous_champion))
            client.set_model_version_tag(name, str(champion.version), "rolled_back_at", _now())
            return Promotion(self._set_champion(client, before, {}), champion)

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

    def _set_champion(self, client: Any, version: Registered, notes: Mapping[str, str]) -> Registered:
        for key, value in notes.items():
            client.set_model_version_tag(version.name, str(version.version), key, value)
        # Last: a worker takes it at once, and what fails before leaves the champion as it is.
        client.set_registered_model_alias(version.name, CHAMPION, str(version.version))
        return self._find(client, version.name, str(version.version))

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


def _now() -> str:
    return format_rfc3339(int(datetime.now(UTC).timestamp() * 1e6))
