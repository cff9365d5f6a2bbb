"""Export: from a trained torch module to the one-file ONNX artifact that the worker computes."""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from torch import nn

from schemas import ModelMetadata
from stream_app.pipeline.model import INPUT, MAX_BATCH, METADATA_KEY, OUTPUTS
from whirr.errors import ModelError

Float32 = NDArray[np.float32]

OPSET = 18
TOLERANCE = 1e-4  # relative above 1, absolute below
_METADATA: TypeAdapter[ModelMetadata] = TypeAdapter(ModelMetadata)


class Graph:
    """An exported graph without its metadata, ready to score.

    Attributes:
        version: The first 12 hex digits of the graph's SHA-256: the same training gives the same version.
    """

    def __init__(self, proto: onnx.ModelProto) -> None:
        self._proto = proto
        raw = proto.SerializeToString(deterministic=True)
        self.version = hashlib.sha256(raw).hexdigest()[:12]
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1  # as in a worker
        options.log_severity_level = 3
        self._session = ort.InferenceSession(raw, options, providers=["CPUExecutionProvider"])

    def score(self, windows: Float32) -> tuple[Float32, Float32]:
        """Score windows as a worker would.

        Args:
            windows: float32 [window, channel, band, time].

        Returns:
            score float32 [window] and band_error float32 [window, channel, band].
        """
        parts = [
            self._session.run(OUTPUTS, {INPUT: np.ascontiguousarray(windows[at : at + MAX_BATCH])})
            for at in range(0, len(windows), MAX_BATCH)
        ]
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def save(self, path: Path, metadata: ModelMetadata) -> None:
        """Write the graph with its metadata; the file appears complete or not at all.

        Raises:
            ModelError: The metadata is not valid.
        """
        proto = onnx.ModelProto()
        proto.CopyFrom(self._proto)
        entry = proto.metadata_props.add()
        entry.key, entry.value = METADATA_KEY, metadata_json(metadata)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            unfinished.write_bytes(proto.SerializeToString(deterministic=True))
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)


def export(module: nn.Module, shape: tuple[int, int, int], check: Float32) -> Graph:
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


def metadata_json(metadata: ModelMetadata) -> str:
    """Return the metadata as JSON, after it has been read back and found valid.

    Raises:
        ModelError: It is not valid, or not finite.
    """
    try:
        text = _METADATA.dump_json(metadata)
        _METADATA.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise ModelError(f"the model's metadata: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return text.decode()


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
