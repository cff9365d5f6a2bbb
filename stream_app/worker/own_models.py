"""The models of single machines, of routes that name one for each: which of them are new in the registry."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from schemas.errors import ServiceUnavailable
from schemas.model_uri import ModelTemplate
from stream_app.worker.model_files import ModelFiles
from whirr.mlflow_client import Listed
from whirr.settings import Route

log = logging.getLogger(__name__)

LOOK_SHARE: Final = 0.1  # of the time at most is spent on looking: MLflow takes half a second for 1,000 models
LONGEST_PAUSE_S: Final = 30.0  # well below the time from a promotion to the first frame that is the new champion's
_QUICK_S = 0.1


def templates_of(routes: Sequence[Route]) -> list[ModelTemplate]:
    """Return the templates that routes have in place of a model, each once."""
    found = [ModelTemplate.parse(route.model) for route in routes]
    return [template for template in dict.fromkeys(found) if template is not None]


def addresses_at_start(templates: Sequence[ModelTemplate], files: ModelFiles) -> list[str]:
    """Return the addresses of all models that machines have of their own.

    While the registry is away, those that have a copy; every other machine is learning meanwhile.
    """
    try:
        return [address for template in templates for address in files.listed(template)]
    except ServiceUnavailable as error:
        kept = [address for template in templates for address in files.kept(template)]
        log.warning("%s; starting with the copies of %d machines' models; the others are learning", error, len(kept))
        return kept


class OwnModels:
    """Notices new versions by one question for all machines.

    Args:
        routes: The routing table.
        files: Finds the models.
        clock_s: Monotonic time.
    """

    def __init__(
        self, routes: Sequence[Route], files: ModelFiles, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._templates = templates_of(routes)
        self._files = files
        self._clock_s = clock_s
        self._not_before_s = -1.0
        self._found: dict[str, Listed] = {}
        self._listed: dict[str, Listed] = {}
        self._gone: set[str] = set()

    def changed(self) -> dict[str, Listed]:
        """Return the versions that are new since they were last taken note of, by address.

        A registry that takes long to answer is asked more seldom; until then what it said last counts.

        Raises:
            ServiceUnavailable: The registry can't be reached.
        """
        began_s = self._clock_s()
        if began_s < self._not_before_s:
            return self._new(self._found)
        found: dict[str, Listed] = {}
        for template in self._templates:
            found |= self._files.listed(template)
        ended_s = self._clock_s()
        if ended_s - began_s > _QUICK_S:
            self._not_before_s = ended_s + min((ended_s - began_s) * (1 / LOOK_SHARE - 1), LONGEST_PAUSE_S)
        self._found = found
        if gone := sorted(self._listed.keys() - found.keys() - self._gone):
            more = f" and {len(gone) - 1} more" if len(gone) > 1 else ""
            log.warning(
                "%s%s: no such model, or alias, is registered any more; what is in use goes on until this worker ends",
                gone[0],
                more,
            )
        self._gone = (self._gone | set(gone)) - found.keys()
        return self._new(found)

    def _new(self, found: dict[str, Listed]) -> dict[str, Listed]:
        return {address: listed for address, listed in found.items() if self._listed.get(address) != listed}

    def took(self, address: str, listed: Listed) -> None:
        """Take note that a version was looked at, whether it can be used or not."""
        self._listed[address] = listed
