"""One graph for all models of one architecture: their weights are given with each call.

Models whose graphs are equal but for the values of their weights are scored together. What is added or multiplied
entry by entry (means, deviations) is put together with a row for each window. Matrices and tables stay where they
are: the graph has some places, each window of a call has one of them, and each place multiplies and looks up by itself.
So a window is computed by the very kernels that compute it alone, and its score is bit for bit that of the model's own
session, whatever stands beside it.

Not every graph can be put together so. Of two-dimensional convolutions onnxruntime would lose the layout that makes
them twice as fast, and a window costs them no more alone than among others: such models keep a session each.
"""

from __future__ import annotations

import bisect
import hashlib
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper, shape_inference

log = logging.getLogger(__name__)

PLACES: Final = (1, 4, 16)  # windows in a call
INPUT: Final = "log_mel"
OUTPUTS: Final = ("score", "band_error")
SMALL: Final = "small"
FLOAT: Final = onnx.TensorProto.FLOAT
CACHE_LINE: Final = 64  # bytes
ANY: Final = -1  # a length that differs from call to call
OPSET: Final = 18  # the operators mean what they mean there; it is the one of all models that Whirr trains

Float32 = NDArray[np.float32]
Shape = tuple[int, ...]


class NotStackable(Exception):
    """A graph that can't be computed for several models at once; the text says why."""


class Weights:
    """A model's weights, by the names that they have in its graph.

    What is there several times is held once. All lie in one piece of memory, which goes back when the model goes.

    Args:
        proto: Loses the values of its weights, which are most of it.

    Attributes:
        architecture: The same for models that can be scored together.
        n_bytes: How much memory they take.

    Raises:
        NotStackable: A weight has more or fewer values than its shape says, or is there twice.
    """

    def __init__(self, proto: onnx.ModelProto) -> None:
        places: dict[bytes, int] = {}
        found: dict[str, tuple[Shape, int]] = {}
        at = 0
        for tensor in proto.graph.initializer:
            if tensor.data_type != FLOAT or _is_fixed(tensor):
                continue
            raw = tensor.raw_data or numpy_helper.to_array(tensor).astype("<f4").tobytes()
            if len(raw) != 4 * math.prod(tensor.dims) or tensor.name in found:
                raise NotStackable(f"the weight {tensor.name!r} of the shape {list(tensor.dims)} has {len(raw)} bytes")
            if raw not in places:
                places[raw] = at
                at += -(-len(raw) // CACHE_LINE) * CACHE_LINE // 4
            found[tensor.name] = tuple(tensor.dims), places[raw]
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")
        self._all = np.empty(at, np.float32)
        for raw, start in places.items():
            self._all[start : start + len(raw) // 4] = np.frombuffer(raw, "<f4")
        self._found = found
        self._taken: dict[Laid, Taken] = {}
        self.n_bytes = self._all.nbytes
        del proto.metadata_props[:]
        self.architecture = hashlib.sha256(proto.SerializeToString(deterministic=True)).hexdigest()

    def array(self, name: str) -> Float32:
        """Return a weight; it is not copied."""
        shape, start = self._found[name]
        return self._all[start : start + math.prod(shape)].reshape(shape)

    def table(self, name: str) -> Float32:
        """Return a matrix; the kernel of a convolution over one place is one, too."""
        array = self.array(name)
        return array.reshape(flat_shape(array.shape))

    def taken(self, by: Laid) -> Taken:
        """Return the weights as a graph takes them; kept, as they are taken again with each window."""
        if by not in self._taken:
            rows = [self.array(name).ravel() for name in by.small]
            small = np.concatenate(rows) if rows else np.empty(0, np.float32)
            tables = [ort.OrtValue.ortvalue_from_numpy(self.table(name)) for name in by.tables]
            self._taken[by] = Taken(small, tables)
        return self._taken[by]


def flat_shape(shape: Sequence[int]) -> list[int]:
    """Return the shape of a kernel over one place as that of a matrix; others as they are."""
    return list(shape[:2]) if len(shape) == 3 and shape[2] == 1 else list(shape)


class Taken(NamedTuple):
    """A model's weights as a graph takes them.

    Attributes:
        small: float32 [entry], what is added or multiplied, one after the other.
        tables: Each matrix and table.
    """

    small: Float32
    tables: list[ort.OrtValue]


@dataclass(frozen=True, slots=True, eq=False)
class Laid:
    """How graphs for windows of some number of columns take weights.

    Attributes:
        small, tables: The names of those of each kind, in order.
        names: For each place, how a graph calls its tables.
    """

    small: tuple[str, ...]
    tables: tuple[str, ...]
    names: tuple[tuple[str, ...], ...]


class End(NamedTuple):
    """An input or output of a graph, described as onnxruntime does; a length that is not fixed is None."""

    name: str
    shape: list[int | None]
    type: str


class Stack:
    """Scores windows of any models of one architecture. Safe to use from several threads.

    Args:
        proto: Of one of them; without its weights' values.

    Raises:
        NotStackable: It can't be done.
    """

    def __init__(self, proto: onnx.ModelProto) -> None:
        _check_understood(proto)
        self._proto = proto
        self._limits = sorted(_limits(proto.graph.node, _Lengths(proto.graph)))
        # By how many of the limits a length has reached.
        self._sessions: dict[int, tuple[Laid, dict[int, ort.InferenceSession]]] = {}
        # With one place alone it would not be seen that a graph mixes windows.
        for columns in (0, *self._limits):
            _Places(proto, columns, PLACES[-1])
            _Places(proto, columns, PLACES[1]).session()

    @property
    def ends(self) -> list[End]:
        """What it takes and gives."""
        graph = self._proto.graph
        return [
            End(
                one.name,
                [None if size == ANY else size for size in _dims(one)],
                "tensor(float)" if one.type.tensor_type.elem_type == FLOAT else "another",
            )
            for one in (*graph.input, *graph.output)
        ]

    def score(self, weights: Sequence[Weights], windows: Float32) -> tuple[Float32, Float32]:
        """Score windows, each by weights of its own.

        Args:
            weights: Of each window's model.
            windows: float32 [window, channel, band, time].

        Returns:
            As :meth:`stream_app.pipeline.Model.score`.
        """
        laid, sessions = self._ready(windows.shape[3])
        parts = []
        for at in range(0, len(windows), PLACES[-1]):
            some = windows[at : at + PLACES[-1]]
            places = next(places for places in PLACES if places >= len(some))
            taken = [one.taken(laid) for one in weights[at : at + len(some)]]
            if spare := places - len(some):  # what an empty place computes is thrown away
                taken += taken[-1:] * spare
                some = np.concatenate([some, np.repeat(some[-1:], spare, axis=0)])
            # Bound one by one: for hundreds of inputs, to look over a dictionary of them takes as long as all the rest.
            binding = sessions[places].io_binding()
            some = np.ascontiguousarray(
                some
            )  # it and the next are used where they are, so they must stay until the end
            binding.bind_cpu_input(INPUT, some)
            small = np.stack([one.small for one in taken])
            if laid.small:
                binding.bind_cpu_input(SMALL, small)
            for names, one in zip(laid.names, taken, strict=False):
                for name, table in zip(names, one.tables, strict=True):
                    binding.bind_ortvalue_input(name, table)
            for name in OUTPUTS:
                binding.bind_output(name)
            sessions[places].run_with_iobinding(binding)
            parts.append([one.numpy()[: places - spare] for one in binding.get_outputs()])
        if len(parts) == 1:
            return parts[0][0], parts[0][1]
        return np.concatenate([one[0] for one in parts]), np.concatenate([one[1] for one in parts])

    def _ready(self, columns: int) -> tuple[Laid, dict[int, ort.InferenceSession]]:
        """Return what computes windows of so many columns, by places; built once for all lengths of a kind."""
        reached = bisect.bisect_right(self._limits, columns)
        if reached not in self._sessions:
            graphs = {places: _Places(self._proto, columns, places) for places in PLACES}
            self._sessions[reached] = graphs[1].laid(), {places: one.session() for places, one in graphs.items()}
        return self._sessions[reached]


class Stacked(NamedTuple):
    """A model's weights, and what scores with them; ``metadata``: what its file carries, by key."""

    stack: Stack
    weights: Weights
    metadata: Mapping[str, str]

    def score(self, windows: Float32) -> tuple[Float32, Float32]:
        """Score windows, all by this model."""
        return self.stack.score([self.weights] * len(windows), windows)


class Stacks:
    """The stacks of a process, one for each architecture that several models have."""

    def __init__(self) -> None:
        self._seen: dict[str, bytes] = {}  # the first model of each architecture, as its hash
        self._stacks: dict[str, Stack | None] = {}  # None: it can't be stacked

    def take(self, raw: bytes) -> Stacked | None:
        """Return a model's place in a stack; None where it is the only one of its architecture, or can't have one.

        Args:
            raw: The model's file.
        """
        try:
            proto = onnx.load_model_from_string(raw)
        except Exception:
            return None  # onnxruntime says what is the matter with it
        metadata = {one.key: one.value for one in proto.metadata_props}
        try:
            weights = Weights(proto)
        except Exception as error:
            log.debug("a model has a session of its own: %s", error)
            return None
        digest = hashlib.sha256(raw).digest()
        if self._seen.setdefault(weights.architecture, digest) == digest:
            return None  # what computes a stack takes memory, too
        if weights.architecture not in self._stacks:
            self._stacks[weights.architecture] = _stack(proto)
        found = self._stacks[weights.architecture]
        return None if found is None else Stacked(found, weights, metadata)


def _stack(proto: onnx.ModelProto) -> Stack | None:
    """Return the stack of an architecture, or None: such models have a session each."""
    try:
        return Stack(proto)
    except NotStackable as error:
        log.debug("models of this kind have a session each: %s", error)
    except Exception:  # a graph is somebody else's program, and may be odd in any way
        log.warning("models of this kind have a session each: they can't be put together", exc_info=True)
    return None


def _is_fixed(tensor: onnx.TensorProto) -> bool:
    """Whether a number is the same in all models that one can think of: 2, or how many entries a vector has.

    It is part of the architecture then. A weight that is such a number by chance makes one of its own.
    """
    if math.prod(tensor.dims) != 1 or not tensor.raw_data:
        return False
    number = float(np.frombuffer(tensor.raw_data, "<f4")[0])
    return number.is_integer() or number == np.float32(1e-12)


class _Places:
    """A graph with several places, made of one that computes any number of windows with the same weights."""

    def __init__(self, proto: onnx.ModelProto, columns: int, places: int) -> None:
        self._opsets = proto.opset_import
        self._ir_version = proto.ir_version
        self._places = places
        graph = proto.graph
        if [one.name for one in graph.input] != [INPUT]:
            raise NotStackable(f"it has the inputs {[one.name for one in graph.input]}")
        size = _dims(graph.input[0])
        self._window = [places, *size[1:]]
        valued = {one.name for one in graph.initializer if one.data_type != FLOAT or one.raw_data}
        self._fixed = {one.name: one for one in graph.initializer if one.name in valued}
        self._weights = {one.name: list(one.dims) for one in graph.initializer if one.name not in valued}
        self._source = list(_chosen(graph.node, columns, _Lengths(graph)))
        used = {name for node in self._source for name in node.input}
        self._weights = {name: dims for name, dims in self._weights.items() if name in used}
        self._sizes = self._inferred()
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._small: dict[str, str] = {}  # the weight of each piece, by its name
        self._tables: dict[str, None] = {}
        self._apart: dict[str, list[str]] = {}  # the windows of a tensor one by one, by its name
        self._flat: dict[str, str] = {}  # tensors without their last axis, of length 1
        for node in self._source:
            self._take(node)

    def _inferred(self) -> dict[str, list[int]]:
        inputs = [_described(INPUT, self._window), *(_described(*one) for one in self._weights.items())]
        outputs = [helper.make_tensor_value_info(name, FLOAT, None) for name in OUTPUTS]
        whole = helper.make_graph(self._source, "whole", inputs, outputs, list(self._fixed.values()))
        model = helper.make_model(whole, opset_imports=self._opsets, ir_version=self._ir_version)
        try:
            found = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
        except Exception as error:
            raise NotStackable(f"its shapes are not known: {error}") from None
        sizes = {INPUT: self._window}
        return sizes | {one.name: _dims(one) for one in (*found.value_info, *found.output)}

    def laid(self) -> Laid:
        """Return how weights are taken."""
        small, tables = tuple(dict.fromkeys(self._small.values())), tuple(self._tables)
        return Laid(small, tables, tuple(tuple(f"{name}@{at}" for name in tables) for at in range(PLACES[-1])))

    def session(self) -> ort.InferenceSession:
        """Return what computes the graph."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4
        return ort.InferenceSession(self._model().SerializeToString(), options, providers=["CPUExecutionProvider"])

    def _model(self) -> onnx.ModelProto:
        inputs = [_described(INPUT, self._window)]
        lengths = {name: math.prod(self._weights[name]) for name in dict.fromkeys(self._small.values())}
        nodes = []
        if lengths:
            inputs.append(_described(SMALL, [self._places, sum(lengths.values())]))
            pieces = [f"{name}@" for name in lengths]
            self._constant("lengths@", list(lengths.values()))
            nodes.append(helper.make_node("Split", [SMALL, "lengths@"], pieces, axis=1))
        for name in self._tables:
            inputs += [_described(f"{name}@{place}", flat_shape(self._weights[name])) for place in range(self._places)]
        outputs = [_described(name, self._sizes[name]) for name in OUTPUTS]
        constants = [*self._fixed.values(), *self._constants.values()]
        graph = helper.make_graph(nodes + self._nodes, "places", inputs, outputs, constants)
        return helper.make_model(graph, opset_imports=self._opsets, ir_version=self._ir_version)

    def _take(self, node: onnx.NodeProto) -> None:
        by = _BY_OPERATOR.get(node.op_type)
        if by is None:
            raise NotStackable(f"it has the operator {node.op_type}")
        by(self, node)
        for name in node.output:
            if self._size(name)[0] != self._places:
                raise NotStackable(f"{node.op_type} mixes windows")

    def _size(self, name: str) -> list[int]:
        if name not in self._sizes:
            raise NotStackable(f"the shape of {name} is not known")
        return self._sizes[name]

    def _rows(self, name: str) -> list[int]:
        """Return the shape of a tensor that has a row for each window."""
        if name in self._weights or name in self._fixed:
            raise NotStackable(f"{name} is computed from weights alone")
        return self._size(name)

    def _numbers(self, node: onnx.NodeProto, at: int) -> list[int]:
        """Return the fixed numbers that a node takes as one of its inputs."""
        name = node.input[at] if at < len(node.input) else ""
        if name not in self._fixed:
            raise NotStackable(f"{node.op_type} computes its input {at}, or has none")
        return [int(one) for one in numpy_helper.to_array(self._fixed[name]).ravel()]

    def _constant(self, name: str, numbers: Sequence[int]) -> str:
        self._constants[name] = numpy_helper.from_array(np.array(numbers, np.int64), name)
        return name

    def arithmetic(self, node: onnx.NodeProto) -> None:
        """Take an operator that takes its inputs entry by entry."""
        ranks = {len(self._rows(name)) for name in node.input if not self._is_number(name)}
        if len(ranks) != 1:
            raise NotStackable(f"{node.op_type} takes tensors of several ranks")
        rank = ranks.pop()
        taken = [self._piece(name, rank) if name in self._weights else name for name in node.input]
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = taken
        self._nodes.append(copy)

    def _is_number(self, name: str) -> bool:
        return name in self._weights or (name in self._fixed and len(self._fixed[name].dims) == 0)

    def _piece(self, name: str, rank: int) -> str:
        """Return a weight with a row for each window, as wide as it must be for tensors of a rank."""
        dims = self._weights[name]
        if len(dims) == rank:
            if dims[0] != 1:
                raise NotStackable(f"the weight {name} has a row for each window")
            dims = dims[1:]
        elif len(dims) > rank:
            raise NotStackable(f"the weight {name} has more axes than what it is computed with")
        size = [self._places, *[1] * (rank - 1 - len(dims)), *dims]
        whole = [self._places, math.prod(self._weights[name])]
        self._small[name] = name
        if size == whole:
            return f"{name}@"
        piece = f"{name}@rank{rank}"
        if piece not in self._small:
            self._small[piece] = name
            shape = self._constant(f"{piece}@shape", size)
            self._nodes.append(helper.make_node("Reshape", [f"{name}@", shape], [piece]))
        return piece

    def each(self, node: onnx.NodeProto) -> None:
        """Take an operator that looks at one window after the other: its axes are others."""
        for name in node.input[:1] if node.op_type != "Concat" else node.input:
            self._rows(name)
        rank = len(self._size(node.input[0]))
        if 0 in [axis % rank for axis in self._axes(node)]:
            raise NotStackable(f"{node.op_type} is over windows")
        self._nodes.append(node)

    def _axes(self, node: onnx.NodeProto) -> list[int]:
        """Return the axes that a node is over."""
        if node.op_type in ("Concat", "Split", "ArgMin"):
            if node.op_type == "Split" and len(node.input) > 1:
                self._numbers(node, 1)
            return [next((one.i for one in node.attribute if one.name == "axis"), 0)]
        for at in range(1, len(node.input)):
            self._numbers(node, at)
        axes = self._numbers(node, 3 if node.op_type == "Slice" else 1)
        if not axes:
            raise NotStackable(f"{node.op_type} is over no axes, or all")
        return axes

    def unsqueeze(self, node: onnx.NodeProto) -> None:
        """Take the insertion of axes."""
        self._rows(node.input[0])
        rank, axes = len(self._size(node.output[0])), self._numbers(node, 1)
        if 0 in [axis % rank for axis in axes]:
            raise NotStackable("Unsqueeze makes an axis before the windows'")
        if rank == 3 and axes == [2]:
            self._flat[node.output[0]] = node.input[0]
        self._nodes.append(node)

    def squeeze(self, node: onnx.NodeProto) -> None:
        """Take the removal of axes; of a last one that was inserted nothing is left."""
        flat = self._flat.get(node.input[0])
        if flat is None or self._numbers(node, 1) != [2]:
            self.each(node)
            return
        self._nodes.append(helper.make_node("Identity", [flat], list(node.output)))
        if flat in self._apart:
            self._apart[node.output[0]] = self._apart[flat]

    def reshape(self, node: onnx.NodeProto) -> None:
        """Take another shape, if each window keeps its entries: behind the first axis are as many as before."""
        before, after = self._rows(node.input[0]), self._size(node.output[0])
        if node.op_type == "Reshape":
            self._numbers(node, 1)
        if before[0] != after[0] or ANY in before or math.prod(before) != math.prod(after):
            raise NotStackable(f"{node.op_type} mixes windows")
        self._nodes.append(node)

    def transpose(self, node: onnx.NodeProto) -> None:
        """Take another order of the axes, if windows stay the first."""
        self._rows(node.input[0])
        order = next((list(one.ints) for one in node.attribute if one.name == "perm"), [])
        if not order or order[0] != 0:
            raise NotStackable("Transpose moves the windows")
        self._nodes.append(node)

    def dense(self, node: onnx.NodeProto) -> None:
        """Take a matrix product, written as a convolution over one place."""
        vectors, kernel = node.input[0], node.input[1]
        if kernel not in self._weights or len(self._weights[kernel]) != 3 or self._weights[kernel][2] != 1:
            raise NotStackable("it has convolutions over more than one place")
        if len(node.input) > 2 or vectors not in self._flat:
            raise NotStackable("Conv of what is no vector")
        product = helper.make_node("Gemm", [], [], transB=1)
        flat = f"{node.output[0]}@flat"
        self._at_each_place(product, self._flat[vectors], kernel, flat, vector_first=True)
        self._flat[node.output[0]] = flat
        self._nodes.append(helper.make_node("Unsqueeze", [flat, self._constant("last@", [2])], list(node.output)))

    def gather(self, node: onnx.NodeProto) -> None:
        """Take the look-up of a row in a table."""
        axis = next((one.i for one in node.attribute if one.name == "axis"), 0)
        table, rows = node.input
        if table not in self._weights or axis != 0 or len(self._rows(rows)) != 1:
            raise NotStackable("Gather from what is computed")
        self._at_each_place(helper.make_node("Gather", [], []), rows, table, node.output[0], vector_first=False)

    def _at_each_place(self, what: onnx.NodeProto, rows: str, table: str, output: str, *, vector_first: bool) -> None:
        """Compute each window by itself with its own table."""
        self._rows(rows)
        if rows not in self._apart:
            self._apart[rows] = [f"{rows}@in{place}" for place in range(self._places)]
            split = helper.make_node("Split", [rows], self._apart[rows], axis=0, num_outputs=self._places)
            self._nodes.append(split)
        self._tables[table] = None
        made = [f"{output}@out{place}" for place in range(self._places)]
        for place, (one, result) in enumerate(zip(self._apart[rows], made, strict=True)):
            node = onnx.NodeProto()
            node.CopyFrom(what)
            own = f"{table}@{place}"
            node.input[:] = [one, own] if vector_first else [own, one]
            node.output[:] = [result]
            self._nodes.append(node)
        self._apart[output] = made
        self._nodes.append(helper.make_node("Concat", made, [output], axis=0))


_BY_OPERATOR: Final[Mapping[str, Callable[[_Places, onnx.NodeProto], None]]] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Max", "Min", "Sqrt", "Relu", "Identity"), _Places.arithmetic),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ArgMin", "Concat", "Split", "Slice"), _Places.each),
    **dict.fromkeys(("Reshape", "Flatten"), _Places.reshape),
    "Unsqueeze": _Places.unsqueeze,
    "Squeeze": _Places.squeeze,
    "Transpose": _Places.transpose,
    "Conv": _Places.dense,
    "Gather": _Places.gather,
}


# What is said of an operator beyond its inputs, where it is understood; of a convolution, what it must say.
_ATTRIBUTES: Final[Mapping[str, frozenset[str]]] = {
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax"), frozenset({"keepdims"})),
    "ArgMin": frozenset({"axis", "keepdims"}),
    "Concat": frozenset({"axis"}),
    "Split": frozenset({"axis", "num_outputs"}),
    "Flatten": frozenset({"axis"}),
    "Gather": frozenset({"axis"}),
    "Transpose": frozenset({"perm"}),
    "Conv": frozenset({"kernel_shape", "strides", "dilations", "pads", "group", "auto_pad"}),
    "Shape": frozenset({"start", "end"}),
    "If": frozenset({"then_branch", "else_branch"}),
}
_PLAIN_CONV: Final[Mapping[str, object]] = {
    "kernel_shape": [1],
    "strides": [1],
    "dilations": [1],
    "pads": [0, 0],
    "group": 1,
    "auto_pad": b"NOTSET",
}


def _check_understood(proto: onnx.ModelProto) -> None:
    """Raise NotStackable where a graph says anything that is not known here: it may mean anything."""
    opsets = {one.version for one in proto.opset_import if one.domain in ("", "ai.onnx")}
    if opsets != {OPSET}:
        raise NotStackable(f"it has the opset {sorted(opsets)}; expected {OPSET}")
    if proto.functions:
        raise NotStackable(f"it has functions of its own: {[one.name for one in proto.functions]}")
    for node in _all_nodes(proto.graph.node):
        if node.domain not in ("", "ai.onnx"):
            raise NotStackable(f"it has the operator {node.domain}.{node.op_type}")
        for attribute in node.attribute:
            if attribute.name not in _ATTRIBUTES.get(node.op_type, ()):
                raise NotStackable(f"{node.op_type} has the attribute {attribute.name}")
            stated = helper.get_attribute_value(attribute)
            if node.op_type == "Conv" and stated != _PLAIN_CONV[attribute.name]:
                raise NotStackable(f"{node.op_type} has the {attribute.name} {stated}")


def _all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _all_nodes(attribute.g.node)


class _Lengths:
    """What a graph knows of the length of its windows: what computes it, and what compares it with a limit."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._fixed = {one.name: one for one in graph.initializer if one.data_type != FLOAT}
        self._windows, self._lengths = {INPUT}, set[str]()
        self.limits: dict[str, int] = {}

    def takes(self, node: onnx.NodeProto) -> bool:
        """Take note of a node, and return whether it does nothing but that."""
        stated = {one.name: one.i for one in node.attribute}
        name = node.output[0]
        if node.op_type == "Identity" and node.input[0] in self._windows:
            self._windows.add(name)
        elif node.op_type == "Shape" and node.input[0] in self._windows and stated == {"start": 3, "end": 4}:
            self._lengths.add(name)
            return True
        elif node.op_type == "GreaterOrEqual" and node.input[0] in self._lengths and node.input[1] in self._fixed:
            self.limits[name] = int(numpy_helper.to_array(self._fixed[node.input[1]]).ravel()[0])
            return True
        return False


def _limits(nodes: Iterable[onnx.NodeProto], lengths: _Lengths) -> set[int]:
    """Return the lengths from which on another part of the graph is computed."""
    for node in _all_nodes(nodes):
        lengths.takes(node)
    return set(lengths.limits.values())


def _chosen(nodes: Iterable[onnx.NodeProto], columns: int, lengths: _Lengths) -> Iterator[onnx.NodeProto]:
    """Yield a graph's nodes, and of parts for several lengths those for windows of so many columns."""
    for node in nodes:
        if lengths.takes(node):
            continue
        if node.op_type != "If" or node.input[0] not in lengths.limits:
            yield node
            continue
        branches = {one.name: one.g for one in node.attribute}
        branch = branches["then_branch" if columns >= lengths.limits[node.input[0]] else "else_branch"]
        yield from _chosen(branch.node, columns, lengths)
        for inner, outer in zip(branch.output, node.output, strict=True):
            yield helper.make_node("Identity", [inner.name], [outer])


def _described(name: str, size: Sequence[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, FLOAT, [f"d{at}" if one == ANY else one for at, one in enumerate(size)])


def _dims(value: onnx.ValueInfoProto) -> list[int]:
    return [one.dim_value if one.HasField("dim_value") else ANY for one in value.type.tensor_type.shape.dim]
