"""Which routes and models a replay uses: the settings', with another model in their place if one is named."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from schemas.errors import SettingsError
from schemas.model_uri import ModelTemplate, ModelUri
from schemas.score import NO_MODEL
from stream_app.pipeline import Model, Router
from stream_app.pipeline.router import RoutedModel
from stream_app.worker.champions import Champions, load_champions
from stream_app.worker.lineups import Lineups
from stream_app.worker.model_files import ModelFiles, RegisteredFiles
from whirr.mlflow_client import ModelRegistry
from whirr.settings import Route, Settings, load_settings

_MOST_NAMED = 20
_ALIAS = re.compile(r"[A-Za-z0-9_-]{1,255}")


def settings_of(file: Path | None, **overrides: Any) -> Settings:
    """Return the settings of a file, or those in force.

    Raises:
        SettingsError: They can't be used.
    """
    if file is not None:
        os.environ["WHIRR_SETTINGS_FILE"] = str(file)
    return load_settings(**overrides)


def routes_of(settings: Settings, model: str | None, *, use_routes: bool) -> tuple[Route, ...]:
    """Return the routes of a replay.

    Args:
        settings: The routing table.
        model: A file, a registered model, an alias of the routes' registered models such as ``challenger``, or None
            for the routes' own.
        use_routes: Keep the routes' rules; otherwise one model is for all machines, with the default rule.

    Raises:
        SettingsError: There are neither routes nor a model, or an alias of models that are files.
    """
    if model is None:
        if not settings.route:
            raise SettingsError("no model: give --model FILE (or models:/NAME@champion), or --routes whirr.toml")
        return settings.route
    if _is_alias(model):
        return tuple(_with_alias(route, model) for route in _some(settings.route, model))
    if use_routes and settings.route:
        return tuple(route.model_copy(update={"model": model}) for route in settings.route)
    try:
        return (Route(match="*", model=model),)
    except ValueError as error:
        raise SettingsError(f"model is {model!r}; expected a file or models:/NAME@champion ({error})") from None


def load(routes: tuple[Route, ...], settings: Settings) -> Champions:
    """Load the routes' models; of a registered champion all that were it before, each for the frames of its time.

    Raises:
        ModelError: A model can't be used.
        ServiceUnavailable: The registry can't be reached.
    """
    registered = any(_is_registered(route) for route in routes)
    files = RegisteredFiles(settings.worker_dir / "models", ModelRegistry(settings)) if registered else ModelFiles()
    lineups = Lineups(files, routes, keep_s=None, most_challengers=0)
    return load_champions(routes, files, lineups=lineups)


def identity(champions: Champions) -> str:
    """Return a text that changes whenever a machine's model does."""
    parts = [
        f"{routed.route.match} {_whole_names(_champions(routed)) or routed.route.model}"
        + "".join(f" refuses another {reason}" for reason in routed.route.refuse_unfamiliar)
        for routed in champions.router.routed
    ]
    own = [_whole_names(lineup.champions) for _, lineup in sorted(champions.router.own.items())]
    if len(own) > _MOST_NAMED:  # a message shows it
        own = [f"{len(own)} machines' own, {hashlib.sha256('; '.join(own).encode()).hexdigest()[:16]}"]
    return "; ".join(parts + own)


def _whole_names(champions: Iterable[tuple[int, Model]]) -> str:
    """Return what identifies champions, with the times from which on frames are theirs."""
    return ", then ".join(
        f"{model.metadata.name} {model.metadata.version} {model.digest[:16]}" + (f" from {from_us}" if from_us else "")
        for from_us, model in champions
    )


def _champions(routed: RoutedModel) -> list[tuple[int, Model]]:
    """Return a route's champions, oldest first."""
    before = [] if routed.before is None else _champions(routed.before)
    return before if routed.loaded is None else [*before, (routed.from_us, routed.loaded)]


def described(champions: Champions) -> list[dict[str, Any]]:
    """Return each route with its rule and its model, for the summary."""
    return [
        {
            **routed.route.model_dump(mode="json", exclude={"model"}),
            "model": routed.route.model,
            **(_model(routed.loaded) if routed.loaded is not None else _of_template(routed, champions.router)),
        }
        for routed in champions.router.routed
    ]


def _model(model: Model) -> dict[str, Any]:
    return {
        "name": model.metadata.name,
        "version": model.metadata.version,
        "run_id": model.metadata.run_id,
        "sha256": model.digest,
        "calibrated_frame_s": model.metadata.calibration.frame_s,
    }


def _own(router: Router) -> dict[str, Model]:
    """Return the models of single machines by their addresses."""
    return {address: model for address, model in router.models.items() if address in router.own}


def _of_template(routed: RoutedModel, router: Router) -> dict[str, Any]:
    """Return what a route says whose machines have a model each, with those, by their address."""
    template = ModelTemplate.parse(routed.route.model)
    models = {uri: _model(one) for uri, one in _own(router).items() if template is not None and template.is_own(uri)}
    nothing = {"version": NO_MODEL, "run_id": None, "sha256": None, "calibrated_frame_s": None}
    return {"name": routed.awaited, **nothing, "machines": models}


def _is_alias(model: str) -> bool:
    return bool(_ALIAS.fullmatch(model)) and not Path(model).exists()


def _some(routes: tuple[Route, ...], alias: str) -> tuple[Route, ...]:
    if not any(_is_registered(route) for route in routes):
        raise SettingsError(
            f"model is {alias!r}, which is no file, and no [[route]] names a registered model that could have it as an "
            "alias; expected a file, models:/NAME@ALIAS, or an alias"
        )
    return routes


def _is_registered(route: Route) -> bool:
    return ModelTemplate.parse(route.model) is not None or ModelUri.parse(route.model) is not None


def _with_alias(route: Route, alias: str) -> Route:
    template = ModelTemplate.parse(route.model)
    if template is not None:
        return route.model_copy(update={"model": str(template.with_alias(alias))})
    uri = ModelUri.parse(route.model)
    return route if uri is None else route.model_copy(update={"model": str(ModelUri(uri.name, alias, None))})
