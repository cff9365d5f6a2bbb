"""What models that were tried say of themselves, noted beside their copies: a worker that starts again tries them not.

To load and try a model takes some hundredths of a second, which is minutes where each of thousands of machines has one.
A note holds for the copy with the same SHA-256, and for the same versions of what computes it.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
from pathlib import Path

import onnxruntime
import orjson
from pydantic import ValidationError

from schemas.errors import ModelError
from stream_app.pipeline import Model
from whirr.outputs import replacing

log = logging.getLogger(__name__)

SUFFIX = ".tried"


def recall(path: Path, digest: str) -> Model | None:
    """Return the model of a copy, described, if that has been tried; else None.

    Args:
        path: Of the copy.
        digest: Its SHA-256, in hex.
    """
    try:
        note = orjson.loads(_note(path).read_bytes())
        if (note["digest"], note["tried_with"]) != (digest, _versions()):
            return None
        return Model.described(note["metadata"], path, digest)
    except (OSError, ValueError, KeyError, TypeError, ValidationError, ModelError):
        return None  # it is tried, as one that is new


def remember(model: Model) -> None:
    """Note beside a model's copy that it has been tried."""
    note = {"digest": model.digest, "tried_with": _versions(), "metadata": model.metadata_json()}
    try:
        with replacing(_note(model.path)) as file:
            file.write(orjson.dumps(note))
    except OSError as error:  # it costs the next start some time, nothing else
        log.warning("no note that model %s has been tried could be taken: %s", model.path, error)


def forget(path: Path) -> None:
    """Let go of the note beside a copy that goes."""
    with contextlib.suppress(OSError):  # one that stays is of no account: it tells of which copy it speaks
        _note(path).unlink()


def _note(path: Path) -> Path:
    return path.with_name(path.name + SUFFIX)


def _versions() -> list[str]:
    return [onnxruntime.__version__, importlib.metadata.version("whirr")]
