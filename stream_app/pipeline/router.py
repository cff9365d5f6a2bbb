"""The routing table with its models: which model and which rule a machine has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from schemas.errors import FrameRejected, SettingsError
from schemas.model_metadata import EarlyTest
from stream_app.pipeline.lineup import Champion, Lineup
from stream_app.pipeline.model import Model
from stream_app.pipeline.rule import Rule
from whirr.settings import Route

US_PER_HOUR = 3_600_000_000


@dataclass(frozen=True, slots=True)
class RoutedModel:
    """One route with a model of its loaded.

    Attributes:
        route: As the settings give it.
        model: The model that it names; of a registered one, the version that was champion for a while.
        rule: The route's rule.
        muted_until_us: Frames recorded before are idle; 0 for none.
        forget_after_us: So much between two frames' recording times, or more, makes the later one the first of a new
            stream; None for never.
        from_us: Frames recorded from then on are the model's.
        before: The same route with the model that has the frames before; None where there is none.
        shadow: The same route with the challenger, which scores in shadow; None where there is none.
    """

    route: Route
    model: Model
    rule: Rule
    muted_until_us: int
    forget_after_us: int | None = None
    from_us: int = 0
    before: RoutedModel | None = None
    shadow: RoutedModel | None = None

    def at(self, recorded_us: int) -> RoutedModel:
        """Return this route with the model that has the frames recorded at a time (microseconds since the epoch)."""
        found = self
        while found.before is not None and recorded_us < found.from_us:
            found = found.before
        return found

    def threshold_for(self, machine_id: str) -> float:
        """Return the alert threshold: the route's, else the model's for the machine."""
        return self.route.threshold or self.model.metadata.thresholds_for(machine_id).alert_threshold

    def early_test_for(self, machine_id: str) -> EarlyTest | None:
        """Return the test for an early finding: the model's for the machine; None where there is or should be none."""
        wanted = self.route.early and self.route.mode == "state"
        return self.model.metadata.thresholds_for(machine_id).early if wanted else None


class Router:
    """Finds a machine's route. Immutable: a new champion makes a new router.

    Attributes:
        routed: Each route with its newest champion, in order.
        all: The same, and those with the champions before.
    """

    def __init__(self, routed: Sequence[RoutedModel]) -> None:
        self.routed = tuple(routed)
        self.all = tuple(_with_those_before(self.routed))
        # Machine ids come from outside, so what is remembered of them is bounded.
        self._find = lru_cache(maxsize=65_536)(self._first_match)

    @classmethod
    def from_routes(cls, routes: Sequence[Route], models: Mapping[str, Model | Lineup]) -> Router:
        """Return the router of ``routes``; ``models`` holds each route's model, or models, by ``route.model``.

        Raises:
            SettingsError: A route names a model that ``models`` lacks.
        """
        routed = []
        for route in routes:
            if route.model not in models:
                raise SettingsError(f"route {route.match!r} names the model {route.model!r}, which is not loaded")
            until = route.muted_until
            muted_until_us = int(until.timestamp() * 1e6) if until else 0
            rule = Rule(route.k, route.n, route.m, route.hysteresis, route.critical_ratio)
            forget_after_us = None if route.forget_after_h is None else round(route.forget_after_h * US_PER_HOUR)
            given = models[route.model]
            lineup = given if isinstance(given, Lineup) else Lineup((Champion(0, given),))
            newest = shadow = None
            if route.shadow and lineup.challenger is not None:
                shadow = RoutedModel(route, lineup.challenger, rule, muted_until_us, forget_after_us)
            for from_us, model in lineup.champions:
                newest = RoutedModel(
                    route, model, rule, muted_until_us, forget_after_us, from_us=from_us, before=newest, shadow=shadow
                )
            assert newest is not None
            routed.append(newest)
        return cls(routed)

    @property
    def models(self) -> dict[str, Model]:
        """The newest champions by ``route.model``."""
        return {routed.route.model: routed.model for routed in self.routed}

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
        return next((routed for routed in self.routed if routed.route.matches(machine_id)), None)


def _with_those_before(routed: Iterable[RoutedModel]) -> Iterator[RoutedModel]:
    for newest in routed:
        one: RoutedModel | None = newest
        while one is not None:
            yield one
            one = one.before
