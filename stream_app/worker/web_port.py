"""Which port a worker's pages are served on."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket

from schemas.errors import SettingsError
from whirr import process
from whirr.settings import Settings

log = logging.getLogger(__name__)

PATIENCE_S = 5.0  # a worker that this one replaces may still be ending
_RETRY_S = 0.2


async def choose_web_port(settings: Settings, patience_s: float = PATIENCE_S) -> int:
    """Return a port that can be listened on: the one that is set, or any where none was set and the default is taken.

    Raises:
        SettingsError: The port that was set is another program's, or the address is not this machine's.
    """
    host, port = settings.web_host, settings.web_port
    if port == 0:
        return process.free_port(host)
    loop = asyncio.get_running_loop()
    chosen, until_s = "web_port" in settings.model_fields_set, loop.time() + patience_s
    while (trouble := why_not(host, port)) is not None:
        if not chosen and trouble.errno == errno.EADDRINUSE:
            other = process.free_port(host)
            log.warning(
                "port %d of %s is taken, by another worker perhaps: this one's pages are on port %d; "
                "web_port (WHIRR_WEB_PORT) chooses one",
                port,
                host,
                other,
            )
            return other
        if trouble.errno != errno.EADDRINUSE or loop.time() > until_s:
            raise SettingsError(
                f"web_port is {port} on {host}, which can't be listened on ({trouble.strerror}); "
                "expected a port of its own for each worker (WHIRR_WEB_PORT, --web-port), or 0 for any that is free"
            )
        await asyncio.sleep(_RETRY_S)
    return port


def why_not(host: str, port: int) -> OSError | None:
    """Return why a server can't listen on an address, or None if it can."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return error
    return None
