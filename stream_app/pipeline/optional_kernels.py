"""The compiled loops, where numba is installed (it comes with the extras `stream` and `train`).

Compiling takes a processor some twenty seconds, once on a machine: numba keeps the result beside the code, in the
user's cache, or where ``NUMBA_CACHE_DIR`` says.
"""

from __future__ import annotations

import importlib
import logging
import time
from functools import lru_cache
from pathlib import Path
from types import ModuleType

log = logging.getLogger(__name__)

_INSTEAD = "features are computed by numpy, at a half of the speed"


@lru_cache(maxsize=1)
def find_kernels() -> ModuleType | None:
    """Return :mod:`stream_app.pipeline.kernels`, all of it compiled, or None where numpy has to do.

    That is without numba, without a place to keep compiled code, and where what is kept there is damaged and can't be
    made anew. The first call in a process loads what is kept, or compiles it.
    """
    try:
        from stream_app.pipeline import kernels
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("numba", "llvmlite"):
            raise
        return None
    except RuntimeError as error:  # numba's, of a function for which it finds no place
        log.warning(
            "%s: there is no place to keep compiled code (%s); set NUMBA_CACHE_DIR to a folder that can be written to",
            _INSTEAD,
            error,
        )
        return None
    if not hasattr(kernels.spectra, "stats"):
        log.warning("%s: NUMBA_DISABLE_JIT is set", _INSTEAD)
        return None
    return _tried(kernels)


def _tried(kernels: ModuleType) -> ModuleType | None:
    """Return the kernels once all of them have computed something; what numba kept and can't read is thrown away."""
    from stream_app.pipeline.compiled import try_out

    began_s = time.monotonic()
    try:
        if try_out():
            log.info("compiled the loops for this processor in %.0f s; they are kept", time.monotonic() - began_s)
        return kernels
    except MemoryError:
        raise
    except Exception as error:  # whatever half a file makes of its reader
        place = Path(kernels.spectra.stats.cache_path)
        log.warning("compiled code in %s can't be used (%s: %s); compiling anew", place, type(error).__name__, error)
    try:
        for file in place.glob("kernels.*.nb?"):
            file.unlink(missing_ok=True)
        again = importlib.reload(kernels)
        try_out()
    except MemoryError:
        raise
    except Exception as error:
        log.warning("%s: compiled code can't be kept in %s (%s: %s)", _INSTEAD, place, type(error).__name__, error)
        return None
    return again
