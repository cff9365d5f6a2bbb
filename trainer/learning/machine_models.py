"""The models of a fleet as the registry has them: what serves each machine, what challenges it, and how that changes.

All of it is in the registry, as aliases and tags, so that who learns can die at any point and begin again. A version is
written with its tags in one step and given an alias afterwards; one that has none yet, and is the newest, waits for it.

The alias ``challenger`` is what workers score in shadow. While a new champion is on probation it is at the champion
before.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from schemas import ModelMetadata
from schemas.champion_tags import FROM_TAG, ROLLED_BACK_TAG, terms
from schemas.errors import ModelError, PromotionRefused, ServiceUnavailable, SettingsError
from schemas.model_metadata import Baseline
from schemas.model_uri import CHALLENGER, CHAMPION, MODEL_FILE, ModelTemplate
from schemas.times import parse_rfc3339
from stream_app.pipeline import Model
from trainer.learning.learner import Decision, LearntVersion, MachineModels
from trainer.learning.learning_tags import JOB_TAG, LearntFrom, parse_learning_tags
from trainer.learning.spans import Span
from trainer.registry import CHALLENGED_TAG, DROPPED_TAG, PREVIOUS_TAG, Registry
from whirr.mlflow_client import TrackingServer, is_missing, quiet
from whirr.settings import Settings

ANCHOR: Final = "anchor"
BY: Final = "whirr learn"
_A_PAGE: Final = 1_000  # of registered models; of versions MLflow gives more
_FEW: Final = 20  # models of which the versions are asked for one by one; of more, for all at once
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Listed:
    """A registered model in a listing: its aliases, and when it changed last."""

    aliases: Mapping[str, int]
    updated_at: int


@dataclass(frozen=True, slots=True)
class _Tagged:
    """A version without its file."""

    number: int
    created_us: int
    tags: Mapping[str, str]

    @property
    def previous(self) -> int | None:
        """The champion that it took over from."""
        text = self.tags.get(PREVIOUS_TAG, "")
        return int(text) if text.isdecimal() else None


class FleetRegistry:
    """The registry of a route's models, one of each machine.

    Every method raises :class:`~schemas.errors.ServiceUnavailable` where MLflow can't be used. What changes something
    may be called again, after whatever stopped it, and returns what serves the machine then.

    Args:
        settings: For MLflow.
        template: The route's model.
        now_us: Wall clock, microseconds since the epoch.

    Raises:
        SettingsError: The template means another alias than the champion's.
    """

    def __init__(
        self,
        settings: Settings,
        template: ModelTemplate,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        if template.alias != CHAMPION:
            raise SettingsError(f"model is {str(template)!r}; expected @{CHAMPION}: what learns changes that alias")
        self._server, self._template = TrackingServer(settings), template
        self._registry = Registry(settings, now_us)
        self._listed: dict[str, _Listed] = {}
        self._known: dict[str, MachineModels] = {}
        self._metadata: dict[tuple[str, int], ModelMetadata] = {}

    def name(self, machine_id: str) -> str:
        """Return the name of a machine's registered model."""
        return self._template.uri(machine_id).name

    def poll(self) -> dict[str, MachineModels]:
        """Look at all machines' models: one question for a thousand of them, and those that have changed in full.

        A machine whose models can't be read, as after a file was deleted, is told as such, and costs no other one.
        """
        unreadable: dict[str, MachineModels] = {}
        with quiet(), self._server.client() as client:
            listed = self._list(client)
            changed = [machine for machine, one in listed.items() if self._listed.get(machine) != one]
            versions = self._versions(client, changed)
            for machine in changed:
                try:
                    self._read(client, machine, listed[machine].aliases, versions[machine])
                except (ModelError, ServiceUnavailable, ValueError) as error:
                    _log.warning("models of %s can't be read: %s", machine, error)
                    self._known.pop(machine, None)
                    self._listed.pop(machine, None)
                    unreadable[machine] = MachineModels(unreadable=str(error))
                else:
                    self._listed[machine] = listed[machine]
        for gone in self._known.keys() - listed.keys():
            del self._known[gone], self._listed[gone]
        return self._known | unreadable

    def apply(self, decision: Decision) -> None:
        """Do what was decided.

        Raises:
            ModelError: There is no such version, or it can't be what was decided.
            PromotionRefused: It was rolled back.
        """
        machine, version, why = decision.machine_id, decision.version, decision.why
        match decision.what:
            case "challenge":
                self.set_challenger(machine, version, why)
            case "promote":
                self.promote(machine, version, why, direct=decision.direct)
            case "drop":
                self.drop(machine, version, why)
            case "roll_back":
                self.roll_back(machine, version, why)
            case "anchor":
                self.set_anchor(machine, version)

    def models_of(self, machine_id: str) -> MachineModels:
        """Look at one machine's models.

        Raises:
            ModelError: A version's file can't be used.
            ValueError: A version's tags are not what Whirr writes.
        """
        with quiet(), self._server.client() as client:
            try:
                model = client.get_registered_model(self.name(machine_id))
            except Exception as error:
                if is_missing(error):
                    return MachineModels()
                raise
            aliases = _aliases(model)
            return self._read(client, machine_id, aliases, self._versions(client, [machine_id])[machine_id])

    def set_challenger(self, machine_id: str, version: int, why: str) -> MachineModels:
        """Let a version be scored in shadow.

        Raises:
            PromotionRefused: It was rolled back.
        """
        found = self._registry.version(self.name(machine_id), str(version))
        if not {CHAMPION, CHALLENGER} & set(found.aliases):
            self._registry.challenge(found.name, str(version), why)
        return self.models_of(machine_id)

    def promote(
        self, machine_id: str, version: int, why: str, *, direct: bool = False, from_us: int | None = None
    ) -> MachineModels:
        """Make a version champion; the one before goes on in shadow.

        Args:
            machine_id: Whose.
            version: Its number.
            why: For a tag.
            direct: It begins a new baseline: the one before is nothing to compare with, and its anchor is none.
            from_us: Recording time from which on frames are its, microseconds since the epoch; default: as soon as all
                workers have it.

        Raises:
            PromotionRefused: It was rolled back.
        """
        name = self.name(machine_id)
        found = self._registry.version(name, str(version))
        if ROLLED_BACK_TAG in found.tags:
            raise PromotionRefused(f"version {version} of {name!r} was rolled back at {found.tags[ROLLED_BACK_TAG]}")
        if direct:
            self._registry.remove_alias(name, ANCHOR)
            self._registry.remove_alias(name, CHALLENGER)
        # What both alerted on live frames has judged; what held-out frames of the training say is written down.
        done = self._registry.promote(name, str(version), force=True, because=why, by=BY, from_us=from_us, again=True)
        if not direct and done.before is not None:
            self._shadow_before(name, done.before.version, version)
        return self.models_of(machine_id)

    def drop(self, machine_id: str, version: int, why: str) -> MachineModels:
        """Let a version be scored in shadow no more: a challenger that did not pass, or the champion before."""
        name, before = self.name(machine_id), self.models_of(machine_id).before
        if before is not None and before.number == version:
            self._registry.remove_alias(name, CHALLENGER)  # no mark: it may be champion again
        elif CHALLENGER in self._registry.version(name, str(version)).aliases:
            self._registry.drop(name, why, BY)
        return self.models_of(machine_id)

    def roll_back(self, machine_id: str, version: int, why: str, *, from_us: int | None = None) -> MachineModels:
        """Make the champion before a version champion again; from when on, as in :meth:`promote`."""
        self._registry.rollback(self.name(machine_id), of=version, because=why, by=BY, from_us=from_us)
        return self.models_of(machine_id)

    def set_anchor(self, machine_id: str, version: int) -> MachineModels:
        """Let a version be what later ones are held against."""
        self._registry.set_alias(self.name(machine_id), str(version), ANCHOR)
        return self.models_of(machine_id)

    def _shadow_before(self, name: str, before: int, champion: int) -> None:
        """Let the champion before go on in shadow; one that was rolled back itself doesn't."""
        try:
            self._registry.challenge(name, str(before), f"on probation: version {champion}")
        except PromotionRefused:
            self._registry.remove_alias(name, CHALLENGER)

    def _list(self, client: Any) -> dict[str, _Listed]:
        found: dict[str, _Listed] = {}
        wanted, page = f"name LIKE '{self._template.before}%{self._template.after}'", None
        while page is None or page.token:
            page = client.search_registered_models(wanted, max_results=_A_PAGE, page_token=page and page.token)
            for model in page:
                machine = self._template.machine(model.name)
                if machine is not None:
                    found[machine] = _Listed(_aliases(model), int(model.last_updated_timestamp or 0))
        return found

    def _versions(self, client: Any, machines: Sequence[str]) -> dict[str, list[_Tagged]]:
        """Return all versions of the models of some machines, oldest first."""
        found: dict[str, list[_Tagged]] = {machine: [] for machine in machines}
        if not machines:
            return found
        pattern = f"name LIKE '{self._template.before}%{self._template.after}'"
        questions = [pattern] if len(machines) > _FEW else [f"name='{self.name(one)}'" for one in machines]
        for question in questions:
            page = None
            while page is None or page.token:
                page = client.search_model_versions(question, page_token=page and page.token)
                for one in page:
                    machine = self._template.machine(one.name)
                    if machine in found:
                        tagged = _Tagged(int(one.version), int(one.creation_timestamp) * 1000, dict(one.tags))
                        found[machine].append(tagged)
        return {machine: sorted(own, key=lambda one: one.number) for machine, own in found.items()}

    def _read(
        self, client: Any, machine: str, aliases: Mapping[str, int], versions: Sequence[_Tagged]
    ) -> MachineModels:
        by_number = {one.number: one for one in versions}
        champion, challenger = (by_number.get(aliases.get(alias, 0)) for alias in (CHAMPION, CHALLENGER))
        before: _Tagged | None = None
        if champion is not None and challenger is not None:
            if challenger.number == champion.number:
                challenger, before = None, _unfinished(champion, versions)
                if before is not None:  # its promotion was cut off before the last step
                    self._shadow_before(self.name(machine), before.number, champion.number)
            elif challenger.number == champion.previous:
                challenger, before = None, challenger
        anchor = by_number.get(aliases.get(ANCHOR, 0))
        shown = {one.number for one in (champion, challenger, before, anchor) if one is not None}
        waiting = _waiting(versions, shown, champion)
        models = MachineModels(
            champion=self._learnt(client, machine, champion),
            waiting=self._learnt(client, machine, waiting, CHALLENGED_TAG),
            challenger=self._learnt(client, machine, challenger, CHALLENGED_TAG),
            before=self._learnt(client, machine, before),
            anchor=self._learnt(client, machine, anchor),
            refused=frozenset(one.number for one in versions if ROLLED_BACK_TAG in one.tags),
            done=frozenset(one.tags[JOB_TAG] for one in versions if JOB_TAG in one.tags),
        )
        self._known[machine] = models = _of_one_baseline(models)
        return models

    def _learnt(
        self, client: Any, machine: str, version: _Tagged | None, since_tag: str = FROM_TAG
    ) -> LearntVersion | None:
        if version is None:
            return None
        metadata = self._metadata_of(client, self.name(machine), version.number)
        learnt = parse_learning_tags(version.tags) or _by_hand(metadata.baselines.get(machine), version.created_us)
        since = version.tags.get(since_tag)
        return LearntVersion(
            number=version.number,
            metadata=metadata,
            from_us=version.created_us if since is None else parse_rfc3339(since),
            baseline=learnt.baseline,
            job_id=learnt.job_id,
            left_out=learnt.left_out,
            direct=learnt.direct,
            faults_covered=learnt.faults_covered,
        )

    def _metadata_of(self, client: Any, name: str, number: int) -> ModelMetadata:
        """Return what a version's file says of itself; a version's file never changes."""
        known = self._metadata.get((name, number))
        if known is None:
            with tempfile.TemporaryDirectory(prefix="whirr-learn-") as folder:
                file = self._server.download(client, name, str(number), MODEL_FILE, Path(folder))
                # Its windows are long, and have told that the file is whole.
                known = replace(Model.load(file).metadata, golden=[])
            self._metadata[name, number] = known
        return known


def _aliases(model: Any) -> dict[str, int]:
    return {alias: int(number) for alias, number in dict(model.aliases).items()}


def _unfinished(champion: _Tagged, versions: Iterable[_Tagged]) -> _Tagged | None:
    """Return the champion before, if the promotion from challenger was cut off before that went into shadow.

    After a roll-back, too, the champion is the challenger itself; but then a version is marked that came after it.
    """
    back = any(ROLLED_BACK_TAG in one.tags and one.previous == champion.number for one in versions)
    if back or champion.tags.get("promoted_by") != BY:
        return None
    return next((one for one in versions if one.number == champion.previous), None)


def _waiting(versions: Sequence[_Tagged], shown: set[int], champion: _Tagged | None) -> _Tagged | None:
    """Return the newest version, if a job made it and nobody has used it, or said that it is not to be used."""
    newest = versions[-1] if versions else None
    if newest is None or newest.number in shown or JOB_TAG not in newest.tags:
        return None
    was_champion = champion is not None and newest.number in {
        one.version for one in terms(champion.number, champion.tags)
    }
    return None if was_champion or {DROPPED_TAG, ROLLED_BACK_TAG} & newest.tags.keys() else newest


def _of_one_baseline(models: MachineModels) -> MachineModels:
    """Return the models without an anchor of a baseline that was over before the champion's begins."""
    if models.anchor is None or models.champion is None:
        return models
    until_us = models.anchor.baseline.until_us
    over = until_us is not None and until_us <= models.champion.baseline.from_us
    return replace(models, anchor=None) if over else models


def _by_hand(baseline: Baseline | None, created_us: int) -> LearntFrom:
    """Return what a version that a person trained was learnt from; all before it where its recordings tell no times."""
    if baseline is None or baseline.from_at is None or baseline.until_at is None:
        return LearntFrom("", Span(created_us, created_us))
    return LearntFrom("", Span(parse_rfc3339(baseline.from_at), parse_rfc3339(baseline.until_at)))
