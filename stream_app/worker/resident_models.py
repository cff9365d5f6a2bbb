"""The models of single machines that can score now: loaded when a frame needs one, within a bound in bytes."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from schemas.errors import ModelError
from stream_app.pipeline import Model
from stream_app.pipeline.model import model_bytes
from stream_app.pipeline.model_stack import Stacks


class ResidentCount(NamedTuple):
    """What is resident, and how often that changed.

    Attributes:
        models: So many models can score.
        n_bytes: About how much memory that takes.
        loaded, evicted: How often one was loaded, and how often one was evicted to make room.
    """

    models: int = 0
    n_bytes: int = 0
    loaded: int = 0
    evicted: int = 0


class CopyGone(ModelError):
    """A model's file has gone, or has changed since it was tried."""


class ResidentModels:
    """Loads models when they are needed, and lets go of those that have been unused for longest.

    A model's weights come and go; what it says of itself stays. What it answers does not depend on either.

    Args:
        max_bytes: So much memory all may take, but for those that one batch needs.

    Attributes:
        max_bytes: The same.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._stacks = Stacks()
        self._paths: Mapping[str, Sequence[Path]] = {}  # by digest
        self._models: OrderedDict[str, Model] = OrderedDict()  # by digest, the longest unused first
        self._count = ResidentCount()

    @property
    def count(self) -> ResidentCount:
        """What is resident."""
        return self._count

    def need(self, model: Model) -> None:
        """Have a model ready to score; until :meth:`trim` it stays.

        Raises:
            CopyGone: Its file has gone or changed since it was tried, wherever it lay.
            ModelError: It can't be computed after all.
        """
        if model.digest in self._models:
            self._models.move_to_end(model.digest)
        elif not model.can_score:
            model.wake(self._read(model), self._stacks)
            self._models[model.digest] = model
            count = self._count
            self._count = count._replace(
                models=count.models + 1, n_bytes=count.n_bytes + model.n_bytes, loaded=count.loaded + 1
            )

    def trim(self) -> None:
        """Let go of what goes beyond the bound, the longest unused first."""
        while self._count.n_bytes > self.max_bytes and self._models:
            self._drop(next(iter(self._models)))
            self._count = self._count._replace(evicted=self._count.evicted + 1)

    def keep(self, paths: Mapping[str, Sequence[Path]]) -> None:
        """Let go of all models but those, which may be needed again.

        Args:
            paths: Where the file of each lies, by digest: machines may have files that are equal.
        """
        self._paths = paths
        for digest in self._models.keys() - paths.keys():
            self._drop(digest)

    def _drop(self, digest: str) -> None:
        model = self._models.pop(digest)
        count = self._count
        self._count = count._replace(models=count.models - 1, n_bytes=count.n_bytes - model.n_bytes)
        model.rest()

    def _read(self, model: Model) -> bytes:
        """Return what a model's file holds.

        Raises:
            CopyGone: It has gone, or holds something else by now.
        """
        reasons = []
        for path in self._paths.get(model.digest, (model.path,)):
            try:
                raw = model_bytes(path)
            except ModelError as error:
                reasons.append(str(error))
                continue
            if hashlib.sha256(raw).hexdigest() == model.digest:
                return raw
            reasons.append(f"model {str(path)!r}: the file has changed since it was tried")
        raise CopyGone("; ".join(reasons))
