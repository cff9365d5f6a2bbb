"""The trainer: from a folder of normal recordings to one ONNX file with thresholds.

``import trainer`` is cheap; torch and Lightning load when one of the names below is first used.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Read when torch is first imported. Its threads otherwise spin while they wait for each other: as soon as another
# process takes a core they spin away whole time slices, and training has been measured to take seven times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from trainer.conv_ae.lightning_model import LitAutoEncoder
    from trainer.conv_ae.torch_model import ConvAutoEncoder
    from trainer.train import Observer, TrainConfig, TrainResult, train_model

_HOMES = {
    "ConvAutoEncoder": "trainer.conv_ae.torch_model",
    "LitAutoEncoder": "trainer.conv_ae.lightning_model",
    "Observer": "trainer.train",
    "TrainConfig": "trainer.train_options",
    "TrainResult": "trainer.train",
    "train_model": "trainer.train",
}

__all__ = ["ConvAutoEncoder", "LitAutoEncoder", "Observer", "TrainConfig", "TrainResult", "train_model"]


def __getattr__(name: str) -> Any:
    """Import a public name's module when the name is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """Return the module's names, those not yet imported among them."""
    return sorted({*globals(), *__all__})
