"""Training the small autoencoder: seconds on a core, so it needs no epochs, checkpoints or held-out loss."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import torch
from torch import nn
from torch.nn import functional

from trainer.frame_spectrum.autoencoder import Layer
from trainer.graph import Float64

HIDDEN: Final = 32
CODE: Final = 4
STEPS: Final = 400
BATCH: Final = 64
HIGHEST_RATE: Final = 4e-3
# Standard deviations, more than the spectra have themselves: to take it off again the network has to know what all
# bands do together, and can't learn windows by heart, which would leave smaller residuals in training than elsewhere.
NOISE: Final = 2.0


def trained_layers(vectors: Float64, seed: int) -> list[Layer]:
    """Return the layers of a denoising autoencoder, two of its encoder and two of its decoder.

    Args:
        vectors: Standardised, float64 ``[vector, entry]``.
        seed: For the first weights, the noise, and the order of the vectors.
    """
    known = torch.from_numpy(vectors).float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        widths = (known.shape[1], HIDDEN, CODE, HIDDEN, known.shape[1])
        linear = [nn.Linear(width_in, width_out) for width_in, width_out in pairwise(widths)]
        network = nn.Sequential(linear[0], nn.ReLU(), linear[1], linear[2], nn.ReLU(), linear[3])
        optimiser = torch.optim.Adam(network.parameters(), weight_decay=1e-4, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, HIGHEST_RATE, total_steps=STEPS)
        for _ in range(STEPS):
            batch = known[torch.randint(len(known), (BATCH,))]
            loss = functional.mse_loss(network(batch + NOISE * torch.randn_like(batch)), batch)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    return [(layer.weight.detach().numpy().T.copy(), layer.bias.detach().numpy()) for layer in linear]
