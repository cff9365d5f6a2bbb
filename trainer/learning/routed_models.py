"""The models of all machines whose routes name a model of their own, whatever each route calls them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from schemas.errors import ModelError
from schemas.model_uri import ModelTemplate
from trainer.learning.learner import Decision, MachineModels
from trainer.learning.machine_models import FleetRegistry
from whirr.settings import Settings


def template_of(settings: Settings, machine_id: str) -> ModelTemplate | None:
    """Return how a machine's own model is named; None where its route names one of many machines, or a file."""
    route = next((one for one in settings.route if one.matches(machine_id)), None)
    return None if route is None else ModelTemplate.parse(route.model)


class RoutedModels:
    """The registry of all routes.

    Args:
        settings: With the routes, and for MLflow.
        now_us: Wall clock, microseconds since the epoch.

    Raises:
        SettingsError: A route's template means another alias than the champion's.
    """

    def __init__(self, settings: Settings, now_us: Callable[[], int]) -> None:
        self._settings = settings
        templates = {ModelTemplate.parse(route.model): None for route in settings.route}
        self._registries = {one: FleetRegistry(settings, one, now_us) for one in templates if one is not None}

    def poll(self) -> Mapping[str, MachineModels]:
        """Return what the registry holds of each machine that has a model.

        Raises:
            ServiceUnavailable: It can't be reached.
        """
        return {
            machine: models
            for template, registry in self._registries.items()
            for machine, models in registry.poll().items()
            if template_of(self._settings, machine) == template
        }

    def apply(self, decision: Decision) -> None:
        """Do what was decided.

        Raises:
            ModelError: The machine has no model of its own, or no such version.
            PromotionRefused: The version was rolled back.
            ServiceUnavailable: The registry can't be reached.
        """
        template = template_of(self._settings, decision.machine_id)
        if template is None:
            raise ModelError(f"no route names a model of its own for {decision.machine_id!r}")
        self._registries[template].apply(decision)
