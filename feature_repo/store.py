"""Feast's feature store as Whirr opens it: which folder, which store, and one clear error for whatever Feast raises."""

from __future__ import annotations

import logging
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import feature_repo
from feature_repo import fields
from schemas.errors import FeatureStoreError, MissingExtra, ServiceUnavailable, SettingsError, WhirrError
from whirr.settings import Settings

YAML_VARIABLE = "FEAST_FS_YAML_FILE_PATH"  # the stock client's own
_DEFAULT_YAML = "feature_store.yaml"
_STATE = "data"
_DEFAULT_REGISTRY = f"{_STATE}/registry.db"
_UNSET = re.compile(r"\$\{?(\w+)")
_SECRET = re.compile(r"(password|passwd|pwd)=([^,;&\s]+)", re.IGNORECASE)
_APPLY = "`whirr feast apply`"
_REFUSED = re.compile(r"password|authenticat|WRONGPASS|NOAUTH|NOPERM|permission denied|role .* does not exist", re.I)


def repo_folder(settings: Settings) -> Path:
    """Return the Feast repository: the setting's, else the one that Whirr came with."""
    return (settings.feature_repo or Path(feature_repo.__file__).parent).absolute()


def state_folder(settings: Settings) -> Path:
    """Return the folder that relative paths of the store's YAML file and the history belong to.

    A repository of the user's own, else ``.whirr/features`` here; but the repository that Whirr came with, if a store
    of 0.1 or of the stock client is there.
    """
    own, old = Path(".whirr/features").absolute(), repo_folder(settings)
    if settings.feature_repo is None and (not (old / _STATE).is_dir() or (own / _STATE).is_dir()):
        return own
    return old


def history_folder(settings: Settings) -> Path:
    """Return the folder of the history's Parquet files: ``WHIRR_FEATURE_HISTORY``, else beside the default store."""
    return fields.history_folder(state_folder(settings))


def store_yaml(settings: Settings) -> Path:
    """Return the YAML file that says which store: the setting's, else Feast's variable's, else SQLite's."""
    chosen = settings.feature_store_yaml or os.environ.get(YAML_VARIABLE)
    return Path(chosen).absolute() if chosen else repo_folder(settings) / _DEFAULT_YAML


def is_wanted(settings: Settings) -> bool:
    """Whether a worker writes to the store: as set, else if a store was chosen or the default one was applied."""
    if settings.feature_push is not None:
        return settings.feature_push
    chosen = settings.feature_store_yaml is not None or bool(os.environ.get(YAML_VARIABLE))
    return chosen or (state_folder(settings) / _DEFAULT_REGISTRY).is_file()


class OpenStore:
    """An open feature store, and how to speak of it.

    Attributes:
        feast: Feast's ``FeatureStore``.
        shown: Its kind and address, without credentials.
    """

    def __init__(self, feast: Any) -> None:
        self.feast = feast
        self.shown, self._hint = _described(feast.config)
        self._secrets = _secrets(feast.config)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn whatever Feast and its drivers raise within into one error of one line, without credentials.

        Raises:
            ServiceUnavailable: The store can't be reached, or refuses.
            FeatureStoreError: The definitions are not there.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except WhirrError:
            raise
        except Exception as error:  # the drivers and Feast have no common ancestor
            text = self.masked(_first_line(error))
            if type(error).__module__ == "feast.errors" or _is_missing_table(text):
                raise FeatureStoreError(f"{self.shown}: {text}; {_APPLY} writes the definitions") from None
            hint = f"; check {self._hint}" if self._hint and _REFUSED.search(text) else ""
            raise ServiceUnavailable(f"{self.shown} can't be used: {text}{hint}") from None

    def masked(self, text: str) -> str:
        """Return a text without passwords."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return _SECRET.sub(r"\1=***", text)

    def check_applied(self) -> None:
        """Return if the repository has been applied.

        Raises:
            FeatureStoreError: It has not.
            ServiceUnavailable: The registry can't be reached.
        """
        with self.errors():
            sources = {source.name for source in self.feast.list_data_sources(allow_cache=True)}
        if fields.PUSH_SOURCE not in sources:
            raise FeatureStoreError(
                f"{self.shown}: its registry has no push source {fields.PUSH_SOURCE!r}; {_APPLY} writes the definitions"
            )


def open_store(settings: Settings, *, applied: bool = True) -> OpenStore:
    """Return the feature store that the settings name; takes seconds, since it imports Feast.

    Args:
        settings: The settings in force.
        applied: Refuse a store whose definitions have not been applied.

    Raises:
        SettingsError: The YAML file is missing, malformed, or names variables that are not set.
        FeatureStoreError: The definitions have not been applied.
        ServiceUnavailable: The registry can't be reached.
        MissingExtra: Feast is not installed.
    """
    state, yaml_file = state_folder(settings), store_yaml(settings)
    _check_yaml(yaml_file)
    if find_spec("feast") is None:
        raise MissingExtra("The feature store", "stream")
    if applied:  # before Feast is imported, which takes long
        _check_registry(yaml_file, state)
    else:
        state.mkdir(parents=True, exist_ok=True)
        if state != repo_folder(settings) and not (state / _DEFAULT_YAML).exists():
            shutil.copy(repo_folder(settings) / _DEFAULT_YAML, state)  # for the stock client: feast -c .whirr/features
    logging.getLogger("feast").setLevel(logging.ERROR)  # it warns of what is meant to be so
    from feast import FeatureStore
    from feast.repo_config import load_repo_config

    try:
        config = load_repo_config(state, yaml_file)
        store = OpenStore(FeatureStore(repo_path=str(state), config=config))
    except Exception as error:  # YAML's, pydantic's, Feast's
        text = _SECRET.sub(r"\1=***", _first_line(error))
        raise SettingsError(f"{yaml_file}: {text}") from None
    with store.errors():
        _tell_registries_apart(store.feast.registry)
    if applied:
        store.check_applied()
    return store


def _tell_registries_apart(registry: Any) -> None:
    """Give each state that is read of an SQL registry a version of its own.

    Feast remembers what it found in a registry by the memory address of what it read and by this version, which an SQL
    registry leaves empty: at the address of one that is gone, another was taken for it.
    """
    from feast.infra.registry.caching_registry import CachingRegistry

    if not isinstance(registry, CachingRegistry):
        return
    read = registry.proto

    def proto() -> Any:
        found = read()
        found.version_id = found.version_id or uuid4().hex
        return found

    registry.proto = proto
    registry.cached_registry_proto.version_id = uuid4().hex


def _check_registry(yaml_file: Path, state: Path) -> None:
    """Refuse a registry that is no file where it should be one: Feast would write an empty one."""
    import yaml

    try:
        said = yaml.safe_load(os.path.expandvars(yaml_file.read_text()))  # as Feast reads it
    except (yaml.YAMLError, UnicodeDecodeError):
        return  # Feast tells
    registry = said.get("registry") if isinstance(said, dict) else None
    if isinstance(registry, str):
        registry = {"path": registry}
    if not isinstance(registry, dict) or registry.get("registry_type", "file") != "file":
        return
    path = registry.get("path")
    if isinstance(path, str) and "://" not in path and not (state / path).is_file():
        raise FeatureStoreError(f"{state / path} is no file; {_APPLY} writes the definitions")


def _check_yaml(path: Path) -> None:
    if not path.is_file():
        raise SettingsError(f"{YAML_VARIABLE} or feature_store_yaml names {str(path)!r}, which is no file")
    lines = [line.split(" #")[0] for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    unset = sorted({name for name in _UNSET.findall("\n".join(lines)) if name not in os.environ})
    if unset:
        raise SettingsError(f"{path} needs the environment variables {', '.join(unset)}; set them, if only to ''")


def _described(config: Any) -> tuple[str, str]:
    """Return how to speak of the store, and which variables hold its credentials."""
    online = config.online_store
    kind = getattr(online, "type", "?")
    if kind == "sqlite":
        return f"feature store (SQLite, {config.repo_path / online.path})", ""
    if kind == "redis":
        address = online.connection_string.partition(",")[0]
        return f"feature store (Redis, {address})", "FEAST_REDIS_CONNECTION_STRING"
    if kind == "postgres":
        address = f"{online.host}:{online.port}/{online.database}"
        return f"feature store (PostgreSQL, {address})", "PGUSER, PGPASSWORD and PGDATABASE"
    return f"feature store ({kind})", ""


def _secrets(config: Any) -> list[str]:
    online = config.online_store
    found = [getattr(online, "password", None), os.environ.get("PGPASSWORD")]
    found += [match[1] for match in _SECRET.findall(getattr(online, "connection_string", ""))]
    found += re.findall(r"://[^:/@]*:([^@]+)@", str(config.registry.path))
    return sorted({str(secret) for secret in found if secret}, key=len, reverse=True)


def _is_missing_table(text: str) -> bool:
    return "no such table" in text or ("relation" in text and "does not exist" in text)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
