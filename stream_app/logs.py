"""What a worker logs, and how."""

from __future__ import annotations

import logging

_NOISY = {
    "aiokafka": logging.ERROR,
    "alembic": logging.WARNING,
    "asyncio": logging.WARNING,
    "faust": logging.WARNING,
    "mlflow": logging.ERROR,
    "mode": logging.WARNING,
}


def configure_logging(level: str) -> None:
    """Log one line an event on standard error; libraries only when something is wrong, unless ``level`` is debug."""
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)
    if level != "debug":
        for name, least in _NOISY.items():
            logging.getLogger(name).setLevel(least)
