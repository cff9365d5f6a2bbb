"""Where on this machine each route's model is: a path as it stands, a registered model as a copy.

Copies are named ``NAME-VERSION-SHA.onnx`` after what they hold, and ``NAME@ALIAS.used`` or ``NAME-VERSION.used`` beside
them holds the name of the copy that a worker used last: it can start again while the registry is away. Those of a
machine's own model have a folder to themselves.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from schemas.errors import ModelError, ServiceUnavailable
from schemas.model_uri import ModelTemplate, ModelUri
from stream_app.pipeline.model import model_bytes
from stream_app.worker import tried_models
from whirr.mlflow_client import Listed, Version
from whirr.outputs import replacing

log = logging.getLogger(__name__)

OWN_FOLDER = "machines"
KEPT_COPIES = 4  # of each model: a rollback needs no download
_SHA_DIGITS = 12


class VersionSource(Protocol):
    """Where versions of models are: :class:`whirr.mlflow_client.ModelRegistry`."""

    def resolve(self, uri: ModelUri) -> Version: ...  # noqa: D102

    def listed(self, template: ModelTemplate) -> dict[str, Listed]: ...  # noqa: D102

    def download(self, name: str, number: int, folder: Path) -> Path: ...  # noqa: D102


class ModelFiles:
    """Finds the files of models whose routes give a path."""

    def locate(self, model: str) -> Path:
        """Return where a route's model is now.

        Raises:
            ModelError: It is nowhere, or not what was registered.
            ServiceUnavailable: The registry can't be reached.
        """
        return Path(model)

    def last_used(self, model: str) -> Path | None:  # noqa: ARG002
        """Return the copy that was used last, if there is one besides what :meth:`locate` finds."""
        return None

    def used(self, model: str, path: Path) -> None:
        """Take note that a route's model has been loaded from ``path``."""

    def version(self, model: str, path: Path, *, ask: bool = True) -> Version | None:  # noqa: ARG002
        """Return what the registry says of the champion of which ``path`` is the copy; None of all other models.

        Args:
            model: Its address.
            path: Of the copy.
            ask: Whether the registry may be asked; else what it said the last time, if it did.

        Raises:
            ServiceUnavailable: The registry can't be reached.
        """
        return None

    def copy(self, model: str, version: Version) -> Path:  # noqa: ARG002
        """Return where another version of a registered model is, after a download if need be.

        Raises:
            ModelError: It is not registered, or the file is not the one that was registered.
            ServiceUnavailable: The registry can't be reached.
        """
        raise ModelError(f"{model!r} has no versions")

    def listed(self, template: ModelTemplate) -> Mapping[str, Listed]:  # noqa: ARG002
        """Return which version is meant now, of each machine that has a model, by its address.

        Raises:
            ServiceUnavailable: The registry can't be reached.
        """
        return {}

    def kept(self, template: ModelTemplate) -> Sequence[str]:  # noqa: ARG002
        """Return the addresses of machines' models of which there is a copy."""
        return ()


class RegisteredFiles(ModelFiles):
    """Finds the files of registered models too, and keeps copies of them.

    Args:
        folder: Of the copies; workers may share it.
        registry: Where they come from.
    """

    def __init__(self, folder: Path, registry: VersionSource) -> None:
        self._folder = folder
        self._registry = registry
        self._verified: set[Path] = set()
        self._refused: dict[tuple[str, int], str] = {}
        self._own: dict[str, RegisteredFiles] = {}
        self._listed: dict[str, Listed] = {}
        self._resolved: dict[str, dict[int, Version]] = {}  # by address and number

    def locate(self, model: str) -> Path:
        """Return where a route's model is now, after a download if need be.

        Raises:
            ModelError: It is not registered, or the file is not the one that was registered.
            ServiceUnavailable: The registry can't be reached.
        """
        if model in self._own:
            return self._own[model].locate(model)
        uri = ModelUri.parse(model)
        if uri is None:
            return super().locate(model)
        listed = self._listed.get(model)
        if listed is not None:
            # It was asked for a moment ago, together with thousands of others.
            copy = self._copy(uri.name, Version(listed.number, None))
            if copy is not None:
                return copy
        return self._had(uri.name, self._resolve(model, uri))

    def version(self, model: str, path: Path, *, ask: bool = True) -> Version | None:
        """Return what the registry says of the champion of which ``path`` is the copy; None of all other models.

        It is asked only where it has not been since the aliases moved.

        Args:
            model: Its address.
            path: Of the copy.
            ask: Whether the registry may be asked; else what it said the last time, if it did.

        Raises:
            ServiceUnavailable: The registry can't be reached.
        """
        if model in self._own:
            return self._own[model].version(model, path, ask=ask)
        uri = ModelUri.parse(model)
        if uri is None or uri.alias is None:
            return None
        found = self._known(model, uri, path)
        listed = self._listed.get(model)
        moved = listed is not None and found is not None and listed.number == found.number and listed != _listed(found)
        if ask and (found is None or moved):
            self._resolve(model, uri)
            found = self._known(model, uri, path)
        return found

    def copy(self, model: str, version: Version) -> Path:
        """Return where another version of a registered model is, after a download if need be.

        Raises:
            ModelError: It is not registered, or the file is not the one that was registered.
            ServiceUnavailable: The registry can't be reached.
        """
        if model in self._own:
            return self._own[model].copy(model, version)
        uri = ModelUri.parse(model)
        return super().copy(model, version) if uri is None else self._had(uri.name, version)

    def _resolve(self, model: str, uri: ModelUri) -> Version:
        version = self._registry.resolve(uri)
        self._resolved.setdefault(model, {})[version.number] = version
        return version

    def _known(self, model: str, uri: ModelUri, path: Path) -> Version | None:
        known = self._resolved.get(model, {}).values()
        return next((one for one in known if path.name.startswith(f"{uri.name}-{one.number}-")), None)

    def _had(self, name: str, version: Version) -> Path:
        refused = self._refused.get((name, version.number))
        if refused is not None:  # a version never changes: no need to fetch it again
            raise ModelError(refused)
        return self._copy(name, version) or self._fetched(name, version)

    def listed(self, template: ModelTemplate) -> Mapping[str, Listed]:
        """Return the versions of machines' models, by address; one request for a thousand of them.

        Raises:
            ServiceUnavailable: The registry can't be reached.
        """
        found: dict[str, Listed] = {}
        for name, listed in self._registry.listed(template).items():
            uri = ModelUri(name, template.alias, None)
            found[str(uri)] = listed
            self._of_machine(uri)._listed[str(uri)] = listed
        return found

    def kept(self, template: ModelTemplate) -> Sequence[str]:
        """Return the addresses of machines' models of which there is a copy."""
        names = [folder.name for folder in self._folder.glob(f"{OWN_FOLDER}/*") if template.machine(folder.name)]
        uris = [ModelUri(name, template.alias, None) for name in sorted(names)]
        return [str(uri) for uri in uris if self._of_machine(uri).last_used(str(uri)) is not None]

    def _of_machine(self, uri: ModelUri) -> RegisteredFiles:
        # A folder each: to look for one machine's copies among thousands would take longer than to load it.
        address = str(uri)
        if address not in self._own:
            self._own[address] = RegisteredFiles(self._folder / OWN_FOLDER / uri.name, self._registry)
        return self._own[address]

    def last_used(self, model: str) -> Path | None:
        """Return the copy of a registered model that was used last, if it is still there and whole."""
        if model in self._own:
            return self._own[model].last_used(model)
        uri = ModelUri.parse(model)
        if uri is None:
            return None
        try:
            path = self._folder / self._pointer(uri).read_text().strip()
        except OSError:
            return None
        return path if self._is_whole(path) else None

    def used(self, model: str, path: Path) -> None:
        """Take note that a route's model has been loaded from ``path``, and let go of its oldest copies."""
        if model in self._own:
            self._own[model].used(model, path)
            return
        uri = ModelUri.parse(model)
        if uri is None:
            return
        pointer = self._pointer(uri)
        try:
            with replacing(pointer, text=True) as file:
                file.write(path.name)
            os.utime(path)
            self._prune(uri.name)
        except OSError as error:  # it costs a start without the registry, nothing else
            log.warning("no note of the copy in use could be taken in %s: %s", self._folder, error)

    def _copy(self, name: str, version: Version) -> Path | None:
        sha = (version.digest or "*")[:_SHA_DIGITS]
        found = sorted(self._folder.glob(f"{name}-{version.number}-{sha}.onnx"))
        return next((path for path in found if self._is_whole(path)), None)

    def _fetched(self, name: str, version: Version) -> Path:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".download-", dir=self._folder) as folder:
                file = self._registry.download(name, version.number, Path(folder))
                digest = self._checked(file, name, version)
                path = self._folder / f"{name}-{version.number}-{digest[:_SHA_DIGITS]}.onnx"
                file.replace(path)
        except OSError as error:
            raise ServiceUnavailable(
                f"no copy of model {name!r} can be kept in {str(self._folder)!r}: {error}"
            ) from None
        self._verified.add(path)
        log.info("fetched model %s version %d from the registry into %s", name, version.number, path)
        return path

    def _checked(self, file: Path, name: str, version: Version) -> str:
        """Return the SHA-256 of what was fetched."""
        digest = file_digest(file)
        if digest is not None and version.digest in (None, digest):
            return digest
        what = f"model {name!r} version {version.number}: the file in the registry is not the one that was registered"
        self._refused[name, version.number] = f"{what}; its SHA-256 is {digest}, expected {version.digest}"
        raise ModelError(self._refused[name, version.number])

    def _is_whole(self, path: Path) -> bool:
        """Whether a copy is there and holds what its name says; looked into once."""
        if path in self._verified and path.is_file():
            return True
        digest = file_digest(path)
        if digest is None or not path.stem.endswith(f"-{digest[:_SHA_DIGITS]}"):
            return False
        self._verified.add(path)
        return True

    def _pointer(self, uri: ModelUri) -> Path:
        return self._folder / (f"{uri.name}@{uri.alias}.used" if uri.alias else f"{uri.name}-{uri.version}.used")

    def _prune(self, name: str) -> None:
        in_use = {pointer.read_text().strip() for pointer in self._folder.glob("*.used")}
        copies = [path for path in self._folder.glob("*.onnx") if path.stem.rsplit("-", 2)[0] == name]
        for path in sorted(copies, key=lambda path: path.stat().st_mtime_ns)[:-KEPT_COPIES]:
            if path.name not in in_use:
                path.unlink(missing_ok=True)
                tried_models.forget(path)


def file_digest(path: Path) -> str | None:
    """Return the SHA-256 of a model file, in hex, or None where it can't be read."""
    try:
        return hashlib.sha256(model_bytes(path)).hexdigest()
    except ModelError:
        return None


def _listed(version: Version) -> Listed:
    return Listed(version.number, None if version.challenger is None else version.challenger.number)
