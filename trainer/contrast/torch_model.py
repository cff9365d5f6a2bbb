"""The network that makes an embedding of a mean spectrum, and the loss that it learns by."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.graph import Float32

HIDDEN: Final = 128
EMBEDDING: Final = 64  # entries
CLUSTERS: Final = 8  # of a class
MAX_ANGLE: Final = np.pi / 4

Layer = tuple[Float32, Float32]  # matrix [input, output] and offsets [output]


class Embedding(nn.Module):
    """Two hidden layers, without offsets of their own: none can answer with a constant.

    Args:
        entries: Of the vectors that it takes.
    """

    def __init__(self, entries: int) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(nn.Linear(size, HIDDEN, bias=False) for size in (entries, HIDDEN))
        self.norms = nn.ModuleList(nn.BatchNorm1d(HIDDEN) for _ in range(2))
        self.last = nn.Linear(HIDDEN, EMBEDDING, bias=False)

    def forward(self, vectors: Tensor) -> Tensor:
        """Return embeddings of length 1, float32 ``[vector, 64]``, of vectors ``[vector, entry]``."""
        for linear, norm in zip(self.hidden, self.norms, strict=True):
            vectors = functional.relu(norm(linear(vectors)))
        return functional.normalize(self.last(vectors), dim=1)

    @torch.no_grad()
    def layers(self) -> list[Layer]:
        """Return the trained layers, the normalisation of batches within; a ReLU is between them."""
        found = []
        pairs: Any = zip(self.hidden, self.norms, strict=True)
        for linear, norm in pairs:
            factor = norm.weight / (norm.running_var + norm.eps).sqrt()
            found.append(((linear.weight * factor[:, None]).T, norm.bias - norm.running_mean * factor))
        found.append((self.last.weight.T, torch.zeros(EMBEDDING)))
        return [(matrix.contiguous().numpy(), offsets.numpy()) for matrix, offsets in found]


class SubClusterAdaCos(nn.Module):
    """Cross-entropy of classes over angles to fixed random centres, several a class, at a scale that adapts itself.

    Args:
        classes: At least two.
    """

    _centres: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("_centres", functional.normalize(torch.randn(classes * CLUSTERS, EMBEDDING), dim=1))
        self._classes = classes
        self._scale = np.sqrt(2) * np.log(classes * CLUSTERS - 1)

    def forward(self, embeddings: Tensor, shares: Tensor) -> Tensor:
        """Return the loss of embeddings ``[vector, 64]`` that are of the classes by ``shares [vector, class]``."""
        cosines = embeddings @ self._centres.T
        self._adapt(cosines.detach(), shares.argmax(dim=1))
        logits = (self._scale * cosines).reshape(-1, self._classes, CLUSTERS).logsumexp(dim=2)
        loss: Tensor = -(shares * logits.log_softmax(dim=1)).sum(dim=1).mean()
        return loss

    def _adapt(self, cosines: Tensor, classes: Tensor) -> None:
        """Scale angles so that the loss still has a slope at the typical one."""
        largest = (self._scale * cosines).max()
        total = (self._scale * cosines - largest).exp().sum(dim=1).mean().log() + largest
        own = cosines.reshape(-1, self._classes, CLUSTERS)[torch.arange(len(cosines)), classes]
        angle = own.max(dim=1).values.clamp(-1, 1).acos().median().clamp(max=MAX_ANGLE)
        self._scale = float(total / angle.cos())
