"""A small autoencoder, judged by its code's and its residual's Mahalanobis distance, as a detector."""

from __future__ import annotations

from functools import partial
from typing import Final

from trainer.ae_mahalanobis.graphs import CodeAndResidual, CodeAndResidualMahalanobis
from trainer.detector import Detector, Fitted, OnEpoch
from trainer.graph import Graph, build
from trainer.spectrograms import Prepared
from trainer.train_options import TrainConfig
from trainer.windows import training_windows

LEAST_WINDOWS: Final = 50  # a network learns fewer by heart


class AutoencoderMahalanobisDetector(Detector):
    """Pooled spectra through a narrow code; the Mahalanobis distance of code and residual."""

    name = "ae_mahalanobis"
    sound_rate_hz = 48_000
    any_length = True

    def fit(self, data: Prepared, config: TrainConfig, on_epoch: OnEpoch) -> Fitted:  # noqa: ARG002
        """Train the network; a refit keeps it, and estimates the covariance anew."""
        windows = training_windows(data.train)
        if len(windows) < LEAST_WINDOWS:
            embed = CodeAndResidual(windows)
            why = f"{len(windows)} windows, too few for a network: the spectra themselves"
        else:
            from trainer.ae_mahalanobis.network import CODE, trained_layers

            embed = CodeAndResidual(windows, partial(trained_layers, seed=config.seed))
            why = f"a code of {CODE} from {len(windows)} windows"
        refit = partial(_judging, embed)
        return Fitted(refit(data), why, refit=refit)


def _judging(embed: CodeAndResidual, data: Prepared) -> Graph:
    """Return the graph whose covariance is that of the training windows of ``data``."""
    return build(CodeAndResidualMahalanobis(embed, training_windows(data.train)), data.shape)
