"""Export: from a trained torch module to its graph."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO

import numpy as np
import onnx
import torch
from torch import nn

from schemas.errors import ModelError
from stream_app.pipeline.model import INPUT, OUTPUTS
from trainer.graph import OPSET, Float32, Graph, Shape

TOLERANCE = 1e-4  # relative above 1, absolute below


def export(module: nn.Module, shape: Shape, check: Float32) -> Graph:
    """Return a module's graph, after it has given the module's scores.

    Args:
        module: Takes float32 [window, channel, band, time], gives score and band_error.
        shape: Channels, bands and columns of a window.
        check: Windows to compare on, float32 [window, channel, band, time].

    Raises:
        ModelError: The graph's scores differ from the module's by more than 1e-4, or are not finite.
    """
    module = module.cpu().eval()
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            module,
            (torch.zeros(2, *shape),),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            external_data=False,
            verbose=False,
        )
        expected = [output.numpy() for output in module(torch.from_numpy(np.ascontiguousarray(check)))]
    assert program is not None
    proto = program.model_proto
    _tidy(proto)
    graph = Graph(proto)
    for name, ours, theirs in zip(OUTPUTS, graph.score(check), expected, strict=True):
        _compare(name, ours, theirs)
    return graph


def _compare(name: str, exported: Float32, expected: Float32) -> None:
    difference = np.abs(exported - expected) / np.maximum(1.0, np.abs(expected))
    worst = float(difference.max()) if np.isfinite(exported).all() else float("nan")
    if not worst <= TOLERANCE:
        raise ModelError(
            f"the exported graph's {name} differs from the trained one's by {worst:g}; at most {TOLERANCE}"
        )


def _tidy(proto: onnx.ModelProto) -> None:
    """Name the window axis, and drop the exporter's notes: they hold paths of the machine that trained."""
    proto.graph.name = "whirr"
    del proto.metadata_props[:]
    graph = proto.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        del value.metadata_props[:]
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for tensor in graph.initializer:
        del tensor.metadata_props[:]
    del graph.value_info[:]
    del graph.metadata_props[:]
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "window"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's chatter (its steps, operators of libraries that are not there) off the terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
