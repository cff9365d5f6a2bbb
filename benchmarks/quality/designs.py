"""The designs that are compared: of each detector, by name, options of :class:`trainer.train_options.TrainConfig`.

To try a design, add it here; ``make quality`` measures it on every row, chooses between a detector's designs on one
half of the rows, and reports the chosen one on the other half. The first design of a detector is its default.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from trainer.detector import DETECTORS
from trainer.train_options import POOLINGS

Design = Mapping[str, Any]

DESIGNS: Final[Mapping[str, Mapping[str, Design]]] = MappingProxyType(
    {
        **{name: {"default": {}} for name in DETECTORS},
        "frame_spectrum": {
            "default": {},
            "untrimmed": {"trim": 0.0},
            **{f"without {name}": {"poolings": tuple(one for one in POOLINGS if one != name)} for name in POOLINGS},
        },
        "auto": {
            "default": {},
            "untrimmed": {"trim": 0.0},
            "without an autoencoder": {"candidates": ("frame_spectrum",)},
            "with mixture": {"candidates": ("frame_spectrum_ae", "twfr_gmm")},
        },
    }
)
# Measured where they are named, and never chosen: what they leave out earns nothing on the clean normals of the rows.
ABLATIONS: Final = frozenset({"untrimmed"})
