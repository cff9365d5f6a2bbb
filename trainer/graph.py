"""Graphs: a detector's arithmetic as the one-file ONNX artifact that the worker computes.

A detector that is arithmetic on arrays is written down once, with :class:`Tensor`, as a graph; onnxruntime computes it
in the training as in the worker. So there is nothing to export, and nothing to compare.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import ArrayLike, NDArray
from onnx import helper, numpy_helper
from pydantic import TypeAdapter, ValidationError

from schemas import ModelMetadata
from schemas.condition import CONDITIONS
from schemas.errors import ModelError
from stream_app.pipeline.model import CONDITION, INPUT, MAX_BATCH, METADATA_KEY, OUTPUTS
from whirr.options import first_wrong
from whirr.outputs import replacing

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Shape = tuple[int, int, int]  # channels, bands and columns of a window

OPSET: Final = 18
FLOAT: Final = onnx.TensorProto.FLOAT
IR_VERSION: Final = 10  # of the format that goes with the opset; torch's exporter writes the same
_METADATA: TypeAdapter[ModelMetadata] = TypeAdapter(ModelMetadata)


class Graph:
    """A detector's graph without its metadata, ready to score.

    Attributes:
        takes_condition: Whether it has the second input, ``condition``.
        version: The first 12 hex digits of the graph's SHA-256: the same training gives the same version.
    """

    def __init__(self, proto: onnx.ModelProto) -> None:
        self._proto = proto
        self.takes_condition = any(one.name == CONDITION for one in proto.graph.input)
        raw = proto.SerializeToString(deterministic=True)
        self.version = hashlib.sha256(raw).hexdigest()[:12]
        self._session = _session(raw)

    def score(self, windows: Float32, conditions: Float32 | None = None) -> tuple[Float32, Float32]:
        """Score windows as a worker would.

        Args:
            windows: float32 [window, channel, band, time].
            conditions: float32 [window, condition], NaN for what isn't known; None: nothing is. For a graph that takes
                them.

        Returns:
            score float32 [window] and band_error float32 [window, channel, band].
        """
        inputs = {INPUT: windows}
        if self.takes_condition:
            unknown = np.full((len(windows), len(CONDITIONS)), np.nan, np.float32)
            inputs[CONDITION] = unknown if conditions is None else conditions
        score, band_error = _run(self._session, OUTPUTS, inputs)
        return score, band_error

    def within(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Compute this graph within another that is being built; return its score and band_error there."""
        return log_mel.builder.take(self._proto, log_mel)

    def save(self, path: Path, metadata: ModelMetadata) -> None:
        """Write the graph with its metadata; the file appears complete or not at all.

        Raises:
            ModelError: The metadata is not valid.
        """
        proto = onnx.ModelProto()
        proto.CopyFrom(self._proto)
        entry = proto.metadata_props.add()
        entry.key, entry.value = METADATA_KEY, metadata_json(metadata)
        with replacing(path) as file:
            file.write(proto.SerializeToString(deterministic=True))


def metadata_json(metadata: ModelMetadata) -> str:
    """Return the metadata as JSON, after it has been read back and found valid.

    Raises:
        ModelError: It is not valid, or not finite.
    """
    try:
        text = _METADATA.dump_json(metadata)
        _METADATA.validate_json(text)
    except ValidationError as error:
        raise ModelError(f"the model's metadata: {first_wrong(error)}") from None
    return text.decode()


class Tensor:
    """A tensor in a graph that is being built: arithmetic on it adds nodes to the graph.

    Sums and means over the last axis, and convolutions, give a window the same bits whatever its batch; a matrix
    product or a sum over another axis need not.
    """

    __array_ufunc__ = None  # an array on the left leaves the operation to this class

    def __init__(self, builder: _Builder, name: str) -> None:
        self.builder = builder
        self.name = name

    def __add__(self, other: Tensor | ArrayLike) -> Tensor:
        """Add, with numpy's broadcasting, as do the other operators."""
        return self._with("Add", other)

    def __sub__(self, other: Tensor | ArrayLike) -> Tensor:
        """Subtract."""
        return self._with("Sub", other)

    def __mul__(self, other: Tensor | ArrayLike) -> Tensor:
        """Multiply entry by entry."""
        return self._with("Mul", other)

    def __truediv__(self, other: Tensor | ArrayLike) -> Tensor:
        """Divide entry by entry."""
        return self._with("Div", other)

    def is_as_long_as(self, length: int, axis: int) -> Tensor:
        """Return bool [1]: whether an axis has this length or more."""
        return self.builder.add("GreaterOrEqual", self.length(axis), np.array([length]))

    def choose(self, then: Branch, otherwise: Branch) -> tuple[Tensor, Tensor]:
        """Return what one of two parts of the graph makes; the other is not computed. This is bool [1]."""
        return self.builder.choose(self, then, otherwise)

    def square(self) -> Tensor:
        """Return each entry's square."""
        return self * self

    def sqrt(self) -> Tensor:
        """Return each entry's square root."""
        return self.builder.add("Sqrt", self)

    def is_nan(self) -> Tensor:
        """Return which entries are no number, as truth values."""
        return self.builder.add("IsNaN", self)

    def negated(self) -> Tensor:
        """Return truth values turned round."""
        return self.builder.add("Not", self)

    def also(self, other: Tensor) -> Tensor:
        """Return where this and another's truth values hold."""
        return self.builder.add("And", self, other)

    def any(self) -> Tensor:
        """Return whether one of these truth values holds, a single one."""
        greatest = self.builder.add("ReduceMax", self.builder.add("Cast", self, to=FLOAT), keepdims=0)
        return self.builder.add("Cast", greatest, to=onnx.TensorProto.BOOL)

    def where(self, holds: Tensor, other: Tensor | ArrayLike) -> Tensor:
        """Return this where a truth value holds, and another's entries elsewhere."""
        otherwise = other if isinstance(other, Tensor) else np.asarray(other, np.float32)
        return self.builder.add("Where", holds, self, otherwise)

    def clipped(self, low: float, high: float) -> Tensor:
        """Return this with its entries held between two numbers."""
        return self.builder.add("Clip", self, np.float32(low), np.float32(high))

    def relu(self) -> Tensor:
        """Return this with 0 in place of what is below it."""
        return self.builder.add("Relu", self)

    def mean(self, axis: int) -> Tensor:
        """Return the mean over an axis, which goes."""
        return self.builder.add("ReduceMean", self, np.array([axis]), keepdims=0)

    def sum(self, axis: int) -> Tensor:
        """Return the sum over an axis, which goes."""
        return self.builder.add("ReduceSum", self, np.array([axis]), keepdims=0)

    def greatest(self, axis: int) -> Tensor:
        """Return the greatest entry along an axis, which goes."""
        return self.builder.add("ReduceMax", self, np.array([axis]), keepdims=0)

    def argmin(self, axis: int) -> Tensor:
        """Return where along an axis the least is, the first of several, int64."""
        return self.builder.add("ArgMin", self, axis=axis, keepdims=0)

    def of(self, table: Float32) -> Tensor:
        """Return the rows of a table that this tensor, int64, holds the numbers of."""
        return self.builder.add("Gather", table, self, axis=0)

    def one_hot(self, count: int) -> Tensor:
        """Return float32 [count, …], 1 where this tensor, int64, holds the row's number."""
        return self.builder.add("OneHot", self, np.int64(count), np.array([0, 1], np.float32), axis=0)

    def unsqueeze(self, *axes: int) -> Tensor:
        """Return this with axes of length 1 inserted."""
        return self.builder.add("Unsqueeze", self, np.array(axes))

    def squeeze(self, axis: int) -> Tensor:
        """Return this without an axis of length 1."""
        return self.builder.add("Squeeze", self, np.array([axis]))

    def reshape(self, *shape: int) -> Tensor:
        """Return this in another shape; -1: what is left."""
        return self.builder.add("Reshape", self, np.array(shape))

    def flatten(self) -> Tensor:
        """Return [window, entry]."""
        return self.builder.add("Flatten", self, axis=1)

    def cut(self, width: int) -> Tensor:
        """Return [window, …] of [frame, …, time]: each frame's windows of ``width`` columns, one frame after the other.

        What is left at a frame's end and makes no window is left out.
        """
        count = self.builder.add("Div", self.length(3), np.array([width]))
        whole = self.builder.add("Mul", count, np.array([width]))
        kept = self.builder.add("Slice", self, np.array([0]), whole, np.array([3]))
        apart = self.builder.add("Reshape", kept, np.array([0, 0, 0, -1, width])).transpose(0, 3, 1, 2, 4)
        return self.builder.add("Reshape", apart, self._sizes(np.array([-1]), apart.length(2), apart.length(3, 5)))

    def joined(self, frames: Tensor, *sizes: int) -> Tensor:
        """Return the mean [frame, …] over each frame's windows, in the order in which :meth:`cut` makes them.

        Args:
            frames: What was cut.
            sizes: This tensor's lengths behind the first axis.
        """
        apart = self.builder.add("Reshape", self, self._sizes(frames.length(0), np.array([-1, *sizes])))
        last = len(sizes) + 1
        return apart.transpose(0, *range(2, last + 1), 1).mean(last)

    def length(self, first: int, end: int | None = -1) -> Tensor:
        """Return the lengths of axes from ``first`` up to ``end`` (default: of that one), int64."""
        limits = {} if end is None else {"end": first + 1 if end == -1 else end}
        return self.builder.add("Shape", self, start=first, **limits)

    def _sizes(self, *parts: Tensor | NDArray[np.int64]) -> Tensor:
        return self.builder.add("Concat", *parts, axis=0)

    def transpose(self, *axes: int) -> Tensor:
        """Return this with its axes in another order."""
        return self.builder.add("Transpose", self, perm=axes)

    def between(self, start: int, stop: int, axis: int) -> Tensor:
        """Return a slice along an axis; negative numbers count from its end."""
        return self.builder.add("Slice", self, *(np.array([number]) for number in (start, stop, axis)))

    def chunk(self, count: int, axis: int) -> list[Tensor]:
        """Return this in equal parts along an axis."""
        return [self] if count == 1 else self.builder.split("Split", count, self, axis=axis, num_outputs=count)

    def largest(self, count: int, axis: int) -> Tensor:
        """Return the largest entries along an axis, the largest first."""
        return self.builder.split("TopK", 2, self, np.array([count]), axis=axis)[0]

    def times(self, matrix: Float32) -> Tensor:
        """Return the product [window, result] of vectors [window, entry] and a matrix [entry, result].

        A matrix product takes another path for one row than for many, and sums in another order; a convolution over one
        place is computed vector by vector.
        """
        kernel = np.ascontiguousarray(matrix.T)[:, :, np.newaxis]
        return self.builder.add("Conv", self.unsqueeze(2), kernel).squeeze(2)

    def _with(self, operator: str, other: Tensor | ArrayLike) -> Tensor:
        return self.builder.add(operator, self, other if isinstance(other, Tensor) else np.asarray(other, np.float32))


Branch = Callable[[], tuple[Tensor, Tensor]]


def concatenated(parts: Sequence[Tensor], axis: int) -> Tensor:
    """Return tensors side by side along an axis."""
    return parts[0].builder.add("Concat", *parts, axis=axis)


def maximum(one: Tensor, other: Tensor) -> Tensor:
    """Return the larger of each two entries."""
    return one.builder.add("Max", one, other)


def minimum(one: Tensor, other: Tensor) -> Tensor:
    """Return the smaller of each two entries."""
    return one.builder.add("Min", one, other)


def build(scorer: Callable[[Tensor], tuple[Tensor, Tensor]], shape: Shape, *, any_length: bool = False) -> Graph:
    """Return a detector's graph.

    Args:
        scorer: Gives score [window] and band_error [window, channel, band] of log_mel [window, channel, band, time].
        shape: Channels, bands and columns of a window.
        any_length: Whether it takes windows of any number of columns.
    """
    return _built(lambda builder: scorer(Tensor(builder, INPUT)), shape, any_length, False)


def evaluated(function: Callable[[Tensor], Tensor], windows: Float32) -> Float32:
    """Return what a part of a graph makes of windows, float32 [window, entry] of [window, channel, band, time]."""
    builder = _Builder()
    output = function(Tensor(builder, INPUT))
    channels, bands, columns = windows.shape[1:]
    proto = builder.model((channels, bands, columns), {"entries": (output, ["window", "entry"])})
    return _run(_session(proto.SerializeToString()), ("entries",), {INPUT: windows})[0]


def build_conditioned(
    scorer: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], shape: Shape, *, any_length: bool = False
) -> Graph:
    """Return the graph of a detector that takes conditions too.

    Args:
        scorer: Gives score [window] and band_error [window, channel, band] of log_mel [window, channel, band, time] and
            condition [window, condition].
        shape: Channels, bands and columns of a window.
        any_length: Whether it takes windows of any number of columns.
    """
    return _built(lambda builder: scorer(Tensor(builder, INPUT), Tensor(builder, CONDITION)), shape, any_length, True)


def _built(
    scorer: Callable[[_Builder], tuple[Tensor, Tensor]], shape: Shape, any_length: bool, conditioned: bool
) -> Graph:
    channels, bands, columns = shape
    builder = _Builder()
    outputs = scorer(builder)
    sizes: tuple[list[int | str], ...] = (["window"], ["window", channels, bands])
    named = {name: (tensor, size) for name, tensor, size in zip(OUTPUTS, outputs, sizes, strict=True)}
    return Graph(builder.model((channels, bands, "time" if any_length else columns), named, conditioned=conditioned))


class _Builder:
    """Collects nodes and constants, under names that depend on their order alone."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._known: dict[int, tuple[Any, str]] = {}  # each constant, by its address, with its name
        self._opsets: dict[str, int] = {"": OPSET}
        self._count = 0

    def add(self, operator: str, *inputs: Tensor | NDArray[Any] | np.generic, **attributes: Any) -> Tensor:
        """Add a node with one output."""
        return self.split(operator, 1, *inputs, **attributes)[0]

    def split(
        self, operator: str, outputs: int, *inputs: Tensor | NDArray[Any] | np.generic, **attributes: Any
    ) -> list[Tensor]:
        """Add a node with several outputs."""
        names = [one.name if isinstance(one, Tensor) else self._constant(np.asarray(one)) for one in inputs]
        made = [self._name() for _ in range(outputs)]
        self._nodes.append(helper.make_node(operator, names, made, **attributes))
        return [Tensor(self, name) for name in made]

    def choose(self, condition: Tensor, then: Branch, otherwise: Branch) -> tuple[Tensor, Tensor]:
        """Add two parts of which a condition says which is computed; each makes two tensors of floats."""
        outer, branches = self._nodes, []
        for make in (then, otherwise):
            self._nodes = []
            outputs = [helper.make_tensor_value_info(one.name, FLOAT, None) for one in make()]
            branches.append(helper.make_graph(self._nodes, self._name(), [], outputs))
        self._nodes = outer
        one, other = self.split("If", 2, condition, then_branch=branches[0], else_branch=branches[1])
        return one, other

    def take(self, proto: onnx.ModelProto, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Add all of another graph, with ``log_mel`` for its input; return its outputs."""
        prefix = f"{self._name()}_"
        graph = onnx.GraphProto()
        graph.CopyFrom(proto.graph)
        _rename(graph, prefix)
        self._nodes.append(helper.make_node("Identity", [log_mel.name], [prefix + INPUT]))
        self._nodes += graph.node
        self._constants += graph.initializer
        self._opsets |= {one.domain: one.version for one in proto.opset_import}
        score, band_error = (Tensor(self, prefix + name) for name in OUTPUTS)
        return score, band_error

    def model(
        self,
        shape: Sequence[int | str],
        outputs: dict[str, tuple[Tensor, list[int | str]]],
        *,
        conditioned: bool = False,
    ) -> onnx.ModelProto:
        """Return all that was added as a model of float32 windows, and conditions, with these outputs."""
        inputs = [_described(INPUT, ["window", *shape])]
        if conditioned:
            inputs.append(_described(CONDITION, ["window", len(CONDITIONS)]))
        for name, (tensor, _) in outputs.items():
            self._nodes.append(helper.make_node("Identity", [tensor.name], [name]))
        graph = helper.make_graph(
            self._nodes,
            "whirr",
            inputs,
            [_described(name, size) for name, (_, size) in outputs.items()],
            self._constants,
        )
        opsets = [helper.make_opsetid(domain, version) for domain, version in self._opsets.items()]
        return helper.make_model(graph, producer_name="whirr", ir_version=IR_VERSION, opset_imports=opsets)

    def _constant(self, value: NDArray[Any]) -> str:
        # The same array, not an equal one: else what a graph is like would depend on the numbers in it.
        if id(value) not in self._known:
            self._known[id(value)] = value, self._name()
            whole = np.ascontiguousarray(value).reshape(value.shape)
            self._constants.append(numpy_helper.from_array(whole, self._known[id(value)][1]))
        return self._known[id(value)][1]

    def _name(self) -> str:
        self._count += 1
        return f"t{self._count}"


def _rename(graph: onnx.GraphProto, prefix: str) -> None:
    """Put a prefix before every name in a graph, those in its branches too."""
    # onnx.compose leaves out what a branch takes of the graph's constants.
    for named in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        named.name = prefix + named.name
    for node in graph.node:
        node.name = node.name and prefix + node.name
        for names in (node.input, node.output):
            names[:] = [name and prefix + name for name in names]  # an input that is left out has none
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, prefix)


def _described(name: str, size: Sequence[int | str]) -> Any:
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, list(size))


def _session(raw: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # as in a worker
    options.log_severity_level = 3
    return ort.InferenceSession(raw, options, providers=["CPUExecutionProvider"])


def _run(session: ort.InferenceSession, outputs: Sequence[str], inputs: Mapping[str, Float32]) -> list[Float32]:
    """Return each output for all windows, a batch at a time."""
    parts = [
        session.run(list(outputs), {name: np.ascontiguousarray(of[at : at + MAX_BATCH]) for name, of in inputs.items()})
        for at in range(0, len(inputs[INPUT]), MAX_BATCH)
    ]
    return [np.concatenate(of_output) for of_output in zip(*parts, strict=True)]
