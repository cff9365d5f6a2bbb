"""The model registry as a worker sees it: which version a name means now, and that version's file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from schemas.errors import ModelError
from schemas.registry import DIGEST_TAG, MODEL_FILE, ModelUri
from whirr.settings import Settings
from whirr.tracking_server import TrackingServer, is_missing


class Version(NamedTuple):
    """A version of a registered model.

    Attributes:
        number: Counts from 1; what it holds never changes.
        digest: SHA-256 of its file, in hex, or None where it was not registered by Whirr.
    """

    number: int
    digest: str | None


class Registry(Protocol):
    """Where versions of models are."""

    def resolve(self, uri: ModelUri) -> Version:
        """Return the version that is meant now.

        Raises:
            ModelError: There is none.
            ServiceUnavailable: The registry can't be reached.
        """

    def download(self, name: str, number: int, folder: Path) -> Path:
        """Fetch a version's file into a folder, and return where it is.

        Raises:
            ServiceUnavailable: The registry, or where it keeps its files, can't be reached.
        """


class MlflowRegistry:
    """MLflow's registry; it is imported when a route first names a model in it.

    Args:
        settings: Tracking server.
    """

    def __init__(self, settings: Settings) -> None:
        # A worker asks again after a few seconds anyway, and must not be kept from stopping.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        self._server = TrackingServer(settings)

    def resolve(self, uri: ModelUri) -> Version:
        """Return the version that is meant now.

        Raises:
            ModelError: There is no such model, alias or version.
            ServiceUnavailable: MLflow can't be reached.
            MissingExtra: It is a database, and what talks to one is not installed.
        """
        with self._server.client(must_exist=True) as client:
            number = uri.version if uri.alias is None else self._aliases(client, uri.name).get(uri.alias)
            if number is None:
                raise ModelError(
                    f"model {str(uri)!r}: {uri.name!r} has no {uri.alias!r} in MLflow at {self._server.shown}"
                )
            return Version(int(number), self._tags(client, uri, str(number)).get(DIGEST_TAG))

    def download(self, name: str, number: int, folder: Path) -> Path:
        """Fetch a version's file into a folder, and return where it is.

        Raises:
            ServiceUnavailable: MLflow, or its artifact store, can't be reached, or doesn't have the file.
        """
        with self._server.client(must_exist=True) as client:
            return self._server.download(client, name, str(number), MODEL_FILE, folder)

    def _aliases(self, client: Any, name: str) -> dict[str, str]:
        try:
            return dict(client.get_registered_model(name).aliases)
        except Exception as error:
            raise self._absent(error, f"model {name!r}") from None

    def _tags(self, client: Any, uri: ModelUri, number: str) -> dict[str, str]:
        try:
            return dict(client.get_model_version(uri.name, number).tags)
        except Exception as error:
            raise self._absent(error, f"model {uri.name!r} version {number}") from None

    def _absent(self, error: Exception, what: str) -> Exception:
        if not is_missing(error):
            return error
        return ModelError(
            f"{what} is not registered in MLflow at {self._server.shown}; `whirr train --register` does that"
        )
