"""The routing table with its models: which model and which rule a machine has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from schemas.errors import FrameRejected, SettingsError
from schemas.model_metadata import EarlyTest
from schemas.model_uri import ModelTemplate, ModelUri
from schemas.score import NO_MODEL, ModelRef
from stream_app.pipeline.lineup import Champion, Lineup
from stream_app.pipeline.model import Model
from stream_app.pipeline.rule import Rule
from whirr.settings import Route

US_PER_HOUR = 3_600_000_000


@dataclass(frozen=True, slots=True)
class RoutedModel:
    """One route with a model of its loaded, or none: then the machine is learning.

    Attributes:
        route: As the settings give it.
        loaded: The model that it names; of a registered one, the version that was champion for a while. None while the
            machine has no model of its own.
        rule: The route's rule.
        muted_until_us: Frames recorded before are idle; 0 for none.
        forget_after_us: So much between two frames' recording times, or more, makes the later one the first of a new
            stream; None for never.
        from_us: Frames recorded from then on are the model's.
        before: The same route with the model that has the frames before; None where there is none.
        shadow: The same route with the challenger, which scores in shadow; None where there is none.
        awaited: Name of the registered model that a machine without one waits for.
    """

    route: Route
    loaded: Model | None
    rule: Rule
    muted_until_us: int
    forget_after_us: int | None = None
    from_us: int = 0
    before: RoutedModel | None = None
    shadow: RoutedModel | None = None
    awaited: str = ""

    @property
    def learning(self) -> bool:
        """Whether no model judges the machine yet."""
        return self.loaded is None

    @property
    def model(self) -> Model:
        """The model.

        Raises:
            RuntimeError: The machine is learning.
        """
        if self.loaded is None:
            raise RuntimeError(f"no model judges the machine yet; it waits for {self.awaited!r}")
        return self.loaded

    @property
    def model_ref(self) -> ModelRef:
        """How messages name the model, or the one that is waited for."""
        if self.loaded is None:
            return ModelRef(name=self.awaited, version=NO_MODEL)
        return ModelRef(name=self.loaded.metadata.name, version=self.loaded.metadata.version)

    def with_champions(self, lineup: Lineup, before: RoutedModel | None = None) -> RoutedModel:
        """Return this route with the newest champion of a lineup, and behind it those before, and ``before`` them."""
        shadow, newest = None, before
        if self.route.shadow and lineup.challenger is not None:
            shadow = replace(self, loaded=lineup.challenger)
        for from_us, model in lineup.champions:
            newest = replace(self, loaded=model, from_us=from_us, before=newest, shadow=shadow)
        assert newest is not None
        return newest

    def at(self, recorded_us: int) -> RoutedModel:
        """Return this route with the model that has the frames recorded at a time (microseconds since the epoch)."""
        found = self
        while found.before is not None and recorded_us < found.from_us:
            found = found.before
        return found

    def threshold_for(self, machine_id: str) -> float:
        """Return the alert threshold: the route's, else the model's for the machine; 1 without a model."""
        if self.loaded is None:
            return self.route.threshold or 1.0
        return self.route.threshold or self.model.metadata.thresholds_for(machine_id).alert_threshold

    def early_test_for(self, machine_id: str) -> EarlyTest | None:
        """Return the test for an early finding: the model's for the machine; None where there is or should be none."""
        wanted = self.route.early and self.route.mode == "state" and not self.learning
        return self.model.metadata.thresholds_for(machine_id).early if wanted else None


class Router:
    """Finds a machine's route. Immutable: a new champion makes a new router.

    Args:
        routed: The routes, each with its model; one whose machines have their own has none here.
        own: The models of single machines, by address.

    Attributes:
        routed: Each route with its newest champion, in order.
        all: The same, and those with the champions before.
        own: The champions of single machines, by address.
        shadows: The challengers that score in shadow, by digest.
    """

    def __init__(self, routed: Sequence[RoutedModel], own: Mapping[str, Lineup] | None = None) -> None:
        self.routed = tuple(routed)
        self.all = tuple(_with_those_before(self.routed))
        self.own = dict(own or {})
        of_routes = [one.shadow.loaded for one in self.routed if one.shadow is not None]
        challengers = [*of_routes, *(lineup.challenger for lineup in self.own.values())]
        self.shadows = {model.digest: model for model in challengers if model is not None}
        self._templates = [ModelTemplate.parse(one.route.model) for one in self.routed]
        # Machine ids come from outside, so what is remembered of them is bounded.
        self._find = lru_cache(maxsize=65_536)(self._first_match)

    @classmethod
    def from_routes(cls, routes: Sequence[Route], models: Mapping[str, Model | Lineup]) -> Router:
        """Return the router of ``routes``.

        Args:
            routes: The routing table.
            models: Each route's model, or models, by ``route.model``. Of a route whose machines have a model each
                (:class:`~schemas.model_uri.ModelTemplate`), theirs by address: ``models:/whirr.pump-7@champion``; a
                machine that has none is learning.

        Raises:
            SettingsError: A route names a model that ``models`` lacks.
        """
        routed = []
        for route in routes:
            template = ModelTemplate.parse(route.model)
            if template is None and route.model not in models:
                raise SettingsError(f"route {route.match!r} names the model {route.model!r}, which is not loaded")
            until = route.muted_until
            muted_until_us = int(until.timestamp() * 1e6) if until else 0
            rule = Rule(route.k, route.n, route.m, route.hysteresis, route.critical_ratio)
            forget_after_us = None if route.forget_after_h is None else round(route.forget_after_h * US_PER_HOUR)
            awaited = "" if template is None else template.name
            one = RoutedModel(route, None, rule, muted_until_us, forget_after_us, awaited=awaited)
            routed.append(one.with_champions(_lineup(models[route.model])) if template is None else one)
        named = {route.model for route in routes}
        return cls(routed, {address: _lineup(given) for address, given in models.items() if address not in named})

    @property
    def models(self) -> dict[str, Model]:
        """The newest champions by ``route.model``, and those of single machines by address."""
        named = {one.route.model: one.loaded for one in self.routed if one.loaded is not None}
        return named | {address: lineup.champions[-1].model for address, lineup in self.own.items()}

    def models_of(self, routed: RoutedModel) -> list[Model]:
        """Return the newest champion of a route, or those of its machines."""
        template = ModelTemplate.parse(routed.route.model)
        if template is None:
            return [routed.model]
        return [lineup.champions[-1].model for address, lineup in self.own.items() if template.is_own(address)]

    def of_machines(self) -> Iterator[Model]:
        """Yield all models of single machines: champions, those before them, challengers."""
        for lineup in self.own.values():
            yield from (champion.model for champion in lineup.champions)
            if lineup.challenger is not None:
                yield lineup.challenger

    def of_machine(self, machine_id: str) -> Iterator[Model]:
        """Yield the models that may score a machine's frames."""
        one = self._find(machine_id)
        while one is not None:
            for routed in (one, one.shadow):
                if routed is not None and routed.loaded is not None:
                    yield routed.loaded
            one = one.before

    def find(self, machine_id: str, recorded_us: int | None = None) -> RoutedModel:
        """Return the first route that matches.

        Args:
            machine_id: The machine.
            recorded_us: With the champion of that recording time; default: with the newest.

        Raises:
            FrameRejected: None does (``no_route``).
        """
        found = self._find(machine_id)
        if found is None:
            patterns = ", ".join(repr(routed.route.match) for routed in self.routed)
            raise FrameRejected("no_route", f"machine {machine_id!r} matches no route; there are {patterns or 'none'}")
        return found if recorded_us is None else found.at(recorded_us)

    def _first_match(self, machine_id: str) -> RoutedModel | None:
        for routed, template in zip(self.routed, self._templates, strict=True):
            if routed.route.matches(machine_id):
                return routed if template is None else self._with_own(routed, template.uri(machine_id))
        return None

    def _with_own(self, routed: RoutedModel, uri: ModelUri) -> RoutedModel:
        learning = replace(routed, awaited=uri.name)
        lineup = self.own.get(str(uri))
        if lineup is None:
            return learning
        # Frames from before its first champion, where that is known, were nobody's.
        return learning.with_champions(lineup, learning if lineup.champions[0].from_us > 0 else None)


def _with_those_before(routed: Iterable[RoutedModel]) -> Iterator[RoutedModel]:
    for newest in routed:
        one: RoutedModel | None = newest
        while one is not None:
            yield one
            one = one.before


def _lineup(given: Model | Lineup) -> Lineup:
    return given if isinstance(given, Lineup) else Lineup((Champion(0, given),))
