"""The routing table with its models: which model and which rule a machine has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from schemas.errors import FrameRejected, SettingsError
from schemas.model_metadata import EarlyTest
from stream_app.pipeline.model import Model
from stream_app.pipeline.rule import Rule
from whirr.settings import Route

US_PER_HOUR = 3_600_000_000


@dataclass(frozen=True, slots=True)
class RoutedModel:
    """One route with its model loaded.

    Attributes:
        route: As the settings give it.
        model: The model that it names.
        rule: The route's rule.
        muted_until_us: Frames recorded before are idle; 0 for none.
        forget_after_us: So much between two frames' recording times, or more, makes the later one the first of a new
            stream; None for never.
    """

    route: Route
    model: Model
    rule: Rule
    muted_until_us: int
    forget_after_us: int | None = None

    def threshold_for(self, machine_id: str) -> float:
        """Return the alert threshold: the route's, else the model's for the machine."""
        return self.route.threshold or self.model.metadata.thresholds_for(machine_id).alert_threshold

    def early_test_for(self, machine_id: str) -> EarlyTest | None:
        """Return the test for an early finding: the model's for the machine; None where there is or should be none."""
        wanted = self.route.early and self.route.mode == "state"
        return self.model.metadata.thresholds_for(machine_id).early if wanted else None


class Router:
    """Finds a machine's route. Immutable: a new champion makes a new router."""

    def __init__(self, routed: Sequence[RoutedModel]) -> None:
        self.routed = tuple(routed)
        # Machine ids come from outside, so what is remembered of them is bounded.
        self._find = lru_cache(maxsize=65_536)(self._first_match)

    @classmethod
    def from_routes(cls, routes: Sequence[Route], models: Mapping[str, Model]) -> Router:
        """Return the router of ``routes``; ``models`` holds each route's model by ``route.model``.

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
            routed.append(RoutedModel(route, models[route.model], rule, muted_until_us, forget_after_us))
        return cls(routed)

    @property
    def models(self) -> dict[str, Model]:
        """The models by ``route.model``."""
        return {routed.route.model: routed.model for routed in self.routed}

    def find(self, machine_id: str) -> RoutedModel:
        """Return the first route that matches.

        Raises:
            FrameRejected: None does (``no_route``).
        """
        found = self._find(machine_id)
        if found is None:
            patterns = ", ".join(repr(routed.route.match) for routed in self.routed)
            raise FrameRejected("no_route", f"machine {machine_id!r} matches no route; there are {patterns or 'none'}")
        return found

    def _first_match(self, machine_id: str) -> RoutedModel | None:
        return next((routed for routed in self.routed if routed.route.matches(machine_id)), None)
