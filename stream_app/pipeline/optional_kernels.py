"""The compiled loops, where numba is installed (it comes with the extras `stream` and `train`).

Compiling takes a processor some twenty seconds, once on a machine: numba keeps the result beside the code, in the
user's cache, or where ``NUMBA_CACHE_DIR`` says.
"""

from __future__ import annotations

import logging
import time
from functools import lru_cache
from types import ModuleType

log = logging.getLogger(__name__)


@lru_cache(maxsize=1)
def find_kernels() -> ModuleType | None:
    """Return :mod:`stream_app.pipeline.kernels`, or None where numpy has to do: without numba, or a place to keep it.

    The first call takes as long as the import.
    """
    try:
        from stream_app.pipeline import kernels
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("numba", "llvmlite"):
            raise
        return None
    except RuntimeError as error:  # numba's, of a function for which it finds no place
        log.warning(
            "features are computed by numpy, at a half of the speed: there is no place to keep compiled code (%s); "
            "set NUMBA_CACHE_DIR to a folder that can be written to",
            error,
        )
        return None
    return kernels


@lru_cache(maxsize=1)
def compile_now() -> None:
    """Compile what is not yet, once on a machine; from then on, and in every process, it is only loaded."""
    if find_kernels() is None:
        return
    from stream_app.pipeline.compiled import try_out

    began_s = time.monotonic()
    if try_out():
        log.info("compiled the loops for this processor in %.0f s; they are kept", time.monotonic() - began_s)
