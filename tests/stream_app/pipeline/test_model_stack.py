"""Many models in one call: the score of a window is bit for bit that of its own model alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from pydantic import TypeAdapter

from schemas.errors import ModelError
from schemas.model_metadata import FeatureConfig, ModelMetadata
from stream_app.pipeline import METADATA_KEY, Computed, Engine, Model, Router
from stream_app.pipeline.model import score_each
from stream_app.pipeline.model_stack import NotStackable, Stack, Stacked, Stacks, Weights
from tests.models import START_US, encoded, noise, record, tiny_metadata, tiny_model
from trainer.frame_spectrum.autoencoder import AutoencoderBackEnds
from trainer.frame_spectrum.graphs import BackEnds, FusedSpectra, Judge
from trainer.fusion import Fusion
from trainer.graph import Graph, build, evaluated
from trainer.pooled.graphs import FlutterPool, MeanPool, Pool, Pooling
from whirr.settings import Route

BANDS, COLUMNS, LONG = 16, 8, 20
FEATURES = FeatureConfig(
    sample_rate_hz=16_000,
    n_fft=256,
    hop=128,
    bands=BANDS,
    window_columns=COLUMNS,
    time_axis="dynamic",
    max_columns=4096,
)


def spectra(seed: int, normals: int = 30, from_columns: int = LONG) -> Graph:
    """A graph as the default detector's, with one part for short windows and another for long ones."""
    rng = np.random.default_rng(seed)
    windows = rng.normal(-8 + seed % 3, 1 + seed % 2, (normals, 1, BANDS, COLUMNS)).astype(np.float32)
    pools = Pool(), MeanPool(), FlutterPool()
    judges, fusions = [], []

    def layers(vectors: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        sizes = [vectors.shape[1], 12, 4, 12, vectors.shape[1]]
        shapes = itertools.pairwise(sizes)
        return [(rng.normal(0, 0.3, shape).astype(np.float32), np.full(shape[1], 0.1, np.float32)) for shape in shapes]

    for _ in range(2):
        own: list[tuple[Pooling, Judge]] = [(pool, BackEnds(evaluated(pool, windows))) for pool in pools]
        own.append((pools[0], AutoencoderBackEnds(evaluated(pools[0], windows), layers)))
        judges.append(own)
        fusions.append(Fusion(rng.gamma(2, 1, (3 * len(own), 50))))
        windows = windows + 0.5
    return build(FusedSpectra(judges, fusions, from_columns, (1, BANDS)), (1, BANDS, COLUMNS), any_length=True)


def saved(path: Path, seed: int, **more: int) -> Path:
    metadata = replace(
        tiny_metadata(),
        name=f"spectra-{seed}",
        features=FEATURES,
        normal_band_error=[[0.0] * BANDS],
        golden=[],
    )
    spectra(seed, **more).save(path, metadata)
    return path


def windows(count: int, columns: int = COLUMNS) -> np.ndarray:
    return np.random.default_rng(9).normal(-8, 2, (count, 1, BANDS, columns)).astype(np.float32)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    return [saved(folder / f"{seed}.onnx", seed) for seed in range(7)]


@pytest.fixture(scope="module")
def alone(files: list[Path]) -> list[Model]:
    return [Model.load(file) for file in files]


@pytest.fixture(scope="module")
def stacked(files: list[Path]) -> list[Model]:
    """The same models in one stack; the first of a stack is loaded once more for it."""
    stacks = Stacks()
    Model.load(files[-1], stacks=stacks)
    found = [Model.load(file, stacks=stacks) for file in files[:-1]]
    assert all(isinstance(one._computed, Stacked) for one in found)
    assert len({one.together for one in found}) == 1
    return found


@pytest.mark.parametrize("columns", [COLUMNS, LONG - 1, LONG, 2 * LONG + 1])
@pytest.mark.parametrize("count", [1, 2, 4, 5, 16, 17, 33, 64])
def test_each_window_has_the_bits_of_its_own_model(
    alone: list[Model], stacked: list[Model], count: int, columns: int
) -> None:
    given = windows(count, columns)
    whose = np.random.default_rng(count).integers(0, len(stacked), count)
    scores, bands = score_each([stacked[one] for one in whose], given, None)
    assert scores.shape == (count,)
    assert bands.shape == (count, 1, BANDS)
    for at, one in enumerate(whose):
        own_score, own_bands = alone[one].score(given[at : at + 1])
        assert scores[at] == own_score[0]
        assert (bands[at] == own_bands[0]).all()
    assert len(set(scores.tolist())) == count


def test_what_stands_beside_a_window_is_of_no_account(stacked: list[Model]) -> None:
    given = windows(16)
    expected = stacked[2].score(given[7:8])
    for others in (stacked[:1], stacked, stacked[::-1]):
        models = [others[at % len(others)] for at in range(16)]
        models[7] = stacked[2]
        found = score_each(models, given, None)
        assert found[0][7] == expected[0][0]
        assert (found[1][7] == expected[1][0]).all()


def test_the_two_parts_of_a_graph_differ(stacked: list[Model]) -> None:
    """Else the test of both lengths would show nothing."""
    long = windows(1, LONG)
    short = np.ascontiguousarray(long[..., :-1])
    assert abs(stacked[0].score(long)[0][0] - stacked[0].score(short)[0][0]) > 0.01


def test_an_engine_answers_many_machines_as_one_model_alone_would(alone: list[Model], stacked: list[Model]) -> None:
    routes = [Route(match=f"pump-{at}", model=f"model-{at}") for at in range(len(stacked))]
    records = [
        record(encoded(noise(rms=0.01 * (1 + at), seed=at)), f"pump-{at % len(stacked)}", START_US + at * 1_000_000)
        for at in range(20)
    ]

    def answers(models: Sequence[Model], batches: Sequence[Sequence[int]]) -> list[tuple[float, bytes]]:
        given = {route.model: model for route, model in zip(routes, models, strict=False)}
        engine = Engine(Router.from_routes(routes, given))
        found = {}
        for batch in batches:
            for at, one in zip(batch, engine.compute([records[at] for at in batch]), strict=True):
                assert isinstance(one, Computed), one
                found[at] = one.score, one.band_error.tobytes()
        return [found[at] for at in range(20)]

    expected = answers(alone, [[at] for at in range(20)])
    assert answers(stacked, [list(range(20))]) == expected
    assert answers(stacked, [list(range(20))[::-1]]) == expected
    assert answers(stacked, [[at] for at in range(20)]) == expected
    assert answers(stacked, [list(range(3)), list(range(3, 20))]) == expected


def test_the_number_of_normals_hardly_matters(tmp_path: Path) -> None:
    """References are filled up to a usual number, so that machines share an architecture."""
    stacks = Stacks()
    Model.load(saved(tmp_path / "a.onnx", 1, normals=30), stacks=stacks)
    second = Model.load(file := saved(tmp_path / "b.onnx", 2, normals=25), stacks=stacks)
    assert isinstance(second._computed, Stacked)
    assert (second.score(windows(3))[0] == Model.load(file).score(windows(3))[0]).all()


def test_filling_up_changes_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    filled = spectra(3, normals=25).score(windows(9))
    monkeypatch.setattr("trainer.frame_spectrum.graphs.USUAL_SIZES", ())
    bare = spectra(3, normals=25).score(windows(9))
    assert all((one == other).all() for one, other in zip(filled, bare, strict=True))


def test_another_architecture_has_a_stack_of_its_own(files: list[Path], tmp_path: Path) -> None:
    stacks = Stacks()
    sizes = [Model.load(saved(tmp_path / f"{seed}.onnx", seed, normals=90), stacks=stacks) for seed in (1, 2)]
    limits = [Model.load(saved(tmp_path / f"{seed}.onnx", seed, from_columns=30), stacks=stacks) for seed in (1, 2)]
    usual = [Model.load(file, stacks=stacks) for file in files[:2]]
    second = [several[1] for several in (sizes, limits, usual)]
    assert all(isinstance(one._computed, Stacked) for one in second)
    assert len({one.together for one in second}) == 3


def test_one_of_a_kind_has_a_session_however_often_it_is_loaded(files: list[Path]) -> None:
    stacks = Stacks()
    for _ in range(3):
        assert not isinstance(Model.load(files[0], stacks=stacks)._computed, Stacked)


def test_a_weight_is_held_once(files: list[Path]) -> None:
    proto = onnx.load(files[0])
    whole = sum(numpy_helper.to_array(one).nbytes for one in proto.graph.initializer)
    assert Weights(proto).n_bytes < 0.75 * whole


def test_models_that_cannot_be_stacked_have_sessions(tmp_path: Path) -> None:
    stacks = Stacks()
    files = [tiny_model(tmp_path / f"{scale}.onnx", scale=scale) for scale in (1.5, 2.5, 3.5)]
    found = [Model.load(file, stacks=stacks) for file in files]
    assert not any(isinstance(one._computed, Stacked) for one in found)
    assert len({one.together for one in found}) == 3
    given = np.full((1, *_shape(found[0])), -3.0, np.float32)
    assert [one.score(given)[0] for one in found] == [Model.load(file).score(given)[0] for file in files]


def _shape(model: Model) -> tuple[int, int, int]:
    features = model.metadata.features
    return features.channels, features.bands, features.window_columns


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)


def changed(change: Callable[[onnx.GraphProto], None]) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    proto.CopyFrom(spectra(0)._proto)
    change(proto.graph)
    Weights(proto)
    return proto


def _softmax(graph: onnx.GraphProto) -> None:
    next(one for one in _nodes(graph) if one.op_type == "Sqrt").op_type = "Softmax"


def _over_windows(graph: onnx.GraphProto) -> None:
    node = next(one for one in _nodes(graph) if one.op_type == "ReduceSum")
    axes = next(one for one in graph.initializer if one.name == node.input[1])
    axes.CopyFrom(numpy_helper.from_array(np.array([0]), axes.name))


def _newer(graph: onnx.GraphProto) -> None:
    node = next(one for one in _nodes(graph) if one.op_type == "Relu")
    node.attribute.append(helper.make_attribute("of_a_later_opset", 1))


def _over_no_axes(graph: onnx.GraphProto) -> None:
    node = next(one for one in _nodes(graph) if one.op_type == "ReduceSum")
    axes = next(one for one in graph.initializer if one.name == node.input[1])
    axes.CopyFrom(numpy_helper.from_array(np.array([], np.int64), axes.name))


def _of_its_own(graph: onnx.GraphProto) -> None:
    next(one for one in _nodes(graph) if one.op_type == "Relu").domain = "example"


@pytest.mark.parametrize("change", [_softmax, _over_windows, _newer, _over_no_axes, _of_its_own])
def test_a_graph_that_mixes_windows_or_is_unknown_is_not_stacked(change: Callable[[onnx.GraphProto], None]) -> None:
    Stack(changed(lambda _: None))
    with pytest.raises(NotStackable):
        Stack(changed(change))


OddGraph = tuple[list[onnx.NodeProto], int]
BAND_ERROR = [
    helper.make_node("Mul", ["mean", "gain"], ["scaled"]),
    helper.make_node("Mul", ["scaled", "scaled"], ["band_error"]),
]
MEAN = [helper.make_node("ReduceMean", ["log_mel", "time"], ["mean"], keepdims=0), *BAND_ERROR]


def sliced() -> OddGraph:
    nodes = [
        helper.make_node("Slice", ["band_error", "from", "to"], ["lower"]),
        helper.make_node("ReduceSum", ["lower", "both"], ["score"], keepdims=0),
    ]
    return MEAN + nodes, 18


def unsqueezed() -> OddGraph:
    nodes = [
        helper.make_node("ReduceMean", ["log_mel"], ["alone"], axes=[1, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["alone"], ["mean"], axes=[1]),
        *BAND_ERROR,
        helper.make_node("ReduceSum", ["band_error"], ["score"], axes=[1, 2], keepdims=0),
    ]
    return nodes, 11


def convolved(**stated: object) -> OddGraph:
    groups = stated.get("group", 1)
    nodes = [
        helper.make_node("Squeeze", ["band_error", "one"], ["flat"]),
        helper.make_node("Unsqueeze", ["flat", "two"], ["columns"]),
        helper.make_node("Conv", ["columns", f"kernel{groups}"], ["judged"], **stated),
        helper.make_node("ReduceMax", ["judged", "two"], ["highest"], keepdims=0),
        helper.make_node("Mul", ["highest", "highest"], ["squared"]),
        helper.make_node("ReduceSum", ["squared", "one"], ["score"], keepdims=0),
    ]
    return MEAN + nodes, 18


def odd_file(path: Path, graph: OddGraph, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    nodes, opset = graph
    size = ["n", 1, BANDS]
    numbers = {"time": [3], "one": [1], "two": [2], "both": [1, 2], "from": [0, 0, 0], "to": [1 << 31, 1, 4]}
    weights = {"gain": (BANDS,), "kernel1": (BANDS, BANDS, 1), "kernel2": (BANDS, BANDS // 2, 1)}
    used = {name for node in nodes for name in node.input}
    initializers = [numpy_helper.from_array(np.array(of, np.int64), name) for name, of in numbers.items()]
    initializers += [
        numpy_helper.from_array(rng.normal(0.5, 0.2, of).astype(np.float32), name) for name, of in weights.items()
    ]
    made = helper.make_graph(
        nodes,
        "odd",
        [helper.make_tensor_value_info("log_mel", onnx.TensorProto.FLOAT, [*size, COLUMNS])],
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, size[:n]) for name, n in SCORES.items()],
        [one for one in initializers if one.name in used],
    )
    proto = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(proto)
    features = replace(FEATURES, time_axis="fixed", max_columns=None)
    metadata = replace(tiny_metadata(), features=features, normal_band_error=[[0.0] * BANDS], golden=[])
    helper.set_model_props(proto, {METADATA_KEY: TypeAdapter(ModelMetadata).dump_json(metadata).decode()})
    onnx.save(proto, path)
    return path


SCORES = {"score": 1, "band_error": 3}
PLAIN = [convolved(), convolved(pads=[0, 0], group=1, strides=[1], dilations=[1], kernel_shape=[1])]
ODD = [
    sliced(),
    unsqueezed(),
    convolved(pads=[1, 1]),
    convolved(group=2),
    convolved(strides=[2]),
    convolved(auto_pad="SAME_UPPER"),
]


@pytest.mark.parametrize(("graph", "stacks"), [*((one, True) for one in PLAIN), *((one, False) for one in ODD)])
def test_what_loads_alone_loads_beside_others_with_the_same_scores(
    tmp_path: Path, graph: OddGraph, stacks: bool
) -> None:
    shared = Stacks()
    for seed in range(3):
        file = odd_file(tmp_path / f"{seed}.onnx", graph, seed)
        alone, among = Model.load(file), Model.load(file, stacks=shared)
        assert isinstance(among._computed, Stacked) == (stacks and seed > 0)
        for one, other in zip(alone.score(windows(5)), among.score(windows(5)), strict=True):
            assert (one == other).all()


def test_what_fails_unexpectedly_while_a_stack_is_built_or_used_costs_the_stack_alone(
    files: list[Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise IndexError("nobody thought of this")

    for what in ("__init__", "score"):
        stacks = Stacks()
        with monkeypatch.context() as patched, caplog.at_level("INFO"):
            patched.setattr(Stack, what, fails)
            found = [Model.load(file, stacks=stacks) for file in files[:3]]
        assert not any(isinstance(one._computed, Stacked) for one in found)
        assert "nobody thought of this" in caplog.text
        caplog.clear()


def _short_weights(raw: bytes) -> bytes:
    proto = onnx.load_model_from_string(raw)
    weight = max(proto.graph.initializer, key=lambda one: len(one.raw_data))
    weight.raw_data = weight.raw_data[:16]
    return proto.SerializeToString()


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[: len(raw) // 2], lambda _: b"no model", lambda _: b"", _short_weights]
)
def test_a_damaged_file_is_refused_as_ever(files: list[Path], damage: Callable[[bytes], bytes]) -> None:
    stacks = Stacks()
    for file in files[:2]:
        Model.load(file, stacks=stacks)
    raw = damage(files[2].read_bytes())
    with pytest.raises(ModelError) as expected:
        Model.load(files[2], raw)
    with pytest.raises(ModelError) as found:
        Model.load(files[2], raw, stacks)
    assert str(found.value) == str(expected.value)


def test_wrong_golden_scores_are_found_in_a_stack(files: list[Path], tmp_path: Path) -> None:
    from stream_app.pipeline import golden_window

    stacks = Stacks()
    for file in files[:2]:
        Model.load(file, stacks=stacks)
    given = windows(1)
    right = float(Model.load(files[2]).score(given)[0][0])
    for score, fits in ((right, True), (right + 0.01, False)):
        metadata = replace(Model.load(files[2]).metadata, golden=[golden_window(given[0], score)])
        spectra(2).save(tmp_path / "golden.onnx", metadata)
        if fits:
            assert isinstance(Model.load(tmp_path / "golden.onnx", stacks=stacks)._computed, Stacked)
        else:
            with pytest.raises(ModelError, match="golden window 0"):
                Model.load(tmp_path / "golden.onnx", stacks=stacks)
