"""Loading models: what is refused, and that a score does not depend on its batch."""

import os
import sys
from dataclasses import replace

import numpy as np
import onnx
import orjson
import pytest

from schemas.errors import ModelError
from stream_app.pipeline import Model, golden_array, golden_window
from stream_app.pipeline.model import MAX_BYTES
from tests.models import noise, tiny_metadata, tiny_model


def damaged_model(path, change):
    """Write a tiny model whose metadata has some values replaced."""
    document = orjson.loads(orjson.dumps(tiny_metadata()))
    for key, value in change.items():
        document[key] = {**document[key], **value} if isinstance(value, dict) else value
    return tiny_model(path, metadata_json=orjson.dumps(document))


def test_a_good_model_loads_and_scores(tmp_path):
    model = Model.load(tiny_model(tmp_path / "m.onnx"))
    log_mel = model.features.log_mel(noise())[:, :, :30]
    score, band_error = model.score(log_mel[None])
    assert score.shape == (1,)
    assert band_error.shape == (1, 1, 128)
    assert 0.3 < score[0] < 0.8


def test_golden_windows_are_checked(tmp_path):
    plain = Model.load(tiny_model(tmp_path / "plain.onnx"))
    window = plain.features.log_mel(noise())[:, :, :30]
    score = float(plain.score(window[None])[0][0])
    good = replace(tiny_metadata(), golden=[golden_window(window, score)])
    Model.load(tiny_model(tmp_path / "good.onnx", good))
    np.testing.assert_array_equal(golden_array(good.golden[0]), window)
    bad = replace(tiny_metadata(), golden=[golden_window(window, score), golden_window(window, score * 1.01)])
    with pytest.raises(ModelError, match="golden window 1 scores"):
        Model.load(tiny_model(tmp_path / "bad.onnx", bad))


def test_a_score_is_bit_identical_in_batches_of_1_to_64(tmp_path):
    model = Model.load(tiny_model(tmp_path / "m.onnx"))
    windows = np.stack([model.features.log_mel(noise(seed=i))[:, :, :30] for i in range(130)])
    together = model.score(windows)[0]
    for size in (1, 2, 3, 7, 32, 63, 64):
        assert np.array_equal(model.score(windows[:size])[0], together[:size])
    assert len(together) == 130


def test_missing_file(tmp_path):
    with pytest.raises(ModelError, match=r"nothing\.onnx.*No such file"):
        Model.load(tmp_path / "nothing.onnx")


def test_not_onnx(tmp_path):
    path = tmp_path / "noise.onnx"
    path.write_bytes(b"RIFFno")
    with pytest.raises(ModelError, match="no ONNX file"):
        Model.load(path)


def test_truncated(tmp_path):
    path = tiny_model(tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ModelError):
        Model.load(path)


def test_foreign_onnx_without_metadata(tmp_path):
    path = tiny_model(tmp_path / "m.onnx")
    proto = onnx.load(path)
    del proto.metadata_props[:]
    onnx.save(proto, path)
    with pytest.raises(ModelError, match="no metadata under 'whirr'"):
        Model.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": {"bands": -1}}, r"features\.bands"),
        ({"thresholds": {"alert_threshold": 0}}, r"thresholds\.alert_threshold"),
        ({"name": "a/b"}, "name"),
        ({"schema_version": 2}, "schema_version"),
    ],
)
def test_invalid_metadata_names_the_field(tmp_path, change, message):
    path = damaged_model(tmp_path / "m.onnx", change)
    with pytest.raises(ModelError, match=message):
        Model.load(path)


def test_metadata_that_does_not_fit_the_graph(tmp_path):
    metadata = tiny_metadata()
    other = replace(metadata, features=replace(metadata.features, window_columns=31))
    path = tiny_model(tmp_path / "m.onnx", metadata, metadata_json=orjson.dumps(other))
    with pytest.raises(ModelError, match=r"log_mel has the shape .*30.*31"):
        Model.load(path)
    other = replace(metadata, normal_band_error=[[0.0]])
    path = tiny_model(tmp_path / "m.onnx", metadata, metadata_json=orjson.dumps(other))
    with pytest.raises(ModelError, match="normal_band_error"):
        Model.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"golden": [{"shape": [1, 128, 30], "log_mel_base64": "AAAA", "score": 1.0}]}, r"golden\.0\.log_mel_base64"),
        ({"golden": [{"shape": [1, 128, 30], "log_mel_base64": "not base64 é", "score": 1.0}]}, r"golden\.0\.log_mel"),
        ({"golden": [{"shape": [1, 1, 1], "log_mel_base64": "AAAAAA==", "score": 1.0}]}, r"golden\.0\.shape"),
        ({"normal_band_error": [[0.1], [0.1, 0.2]]}, "can't be used"),
        ({"normal_band_error": [[None] * 128]}, "normal_band_error"),
        ({"features": {"n_fft": 1 << 40}}, r"features\.n_fft"),
        ({"thresholds": {"alert_threshold": "Infinity"}}, r"thresholds\.alert_threshold"),
    ],
)
def test_damaged_metadata_is_refused_and_nothing_else_is_raised(tmp_path, change, message):
    path = damaged_model(tmp_path / "m.onnx", change)
    with pytest.raises(ModelError, match=message):
        Model.load(path)


def test_scores_that_are_no_scores(tmp_path):
    with pytest.raises(ModelError, match="scores silence as -"):
        Model.load(tiny_model(tmp_path / "m.onnx", scale=-1.0))
    with pytest.raises(ModelError, match="scores silence as nan"):
        Model.load(tiny_model(tmp_path / "m.onnx", scale=float("nan")))


def test_renamed_outputs(tmp_path):
    path = tiny_model(tmp_path / "m.onnx")
    proto = onnx.load(path)
    proto.graph.node[-1].output[0] = proto.graph.output[0].name = "loss"
    onnx.save(proto, path)
    with pytest.raises(ModelError, match="no input or output 'score'"):
        Model.load(path)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"m\.onnx' is a pipe, a socket or a device; expected a file"):
        Model.load(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/dev/zero", "is a pipe, a socket or a device; expected a file"),
        ("/tmp", "can't be read: Is a directory"),
        ("a\0b.onnx", "can't be read: embedded null byte"),
    ],
)
def test_what_is_no_file_is_refused(path, message):
    with pytest.raises(ModelError, match=message):
        Model.load(path)


def test_a_link_is_followed_to_a_file_and_no_further_than_that(tmp_path):
    (tmp_path / "link.onnx").symlink_to(tiny_model(tmp_path / "m.onnx"))
    assert Model.load(tmp_path / "link.onnx").metadata == tiny_metadata()
    (tmp_path / "zero.onnx").symlink_to("/dev/zero")
    (tmp_path / "loop.onnx").symlink_to("loop.onnx")
    with pytest.raises(ModelError, match="a device; expected a file"):
        Model.load(tmp_path / "zero.onnx")
    with pytest.raises(ModelError, match=r"loop\.onnx' can't be read: Too many levels of symbolic links"):
        Model.load(tmp_path / "loop.onnx")


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "m.onnx").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ModelError, match=rf"has {1 << 40} bytes; expected at most {MAX_BYTES}"):
        Model.load(tmp_path / "m.onnx")


def test_weights_in_another_file_are_not_looked_for_where_we_stand(tmp_path, monkeypatch):
    proto = onnx.load(tiny_model(tmp_path / "m.onnx"))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((40, 40), np.float32), "weights"))
    proto.graph.node.append(onnx.helper.make_node("Identity", ["weights"], ["unused"]))
    onnx.save(proto, tmp_path / "ext.onnx", save_as_external_data=True, location="w.bin", size_threshold=1024)
    assert (tmp_path / "w.bin").is_file()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"ext\.onnx' keeps weights in another file; expected all in one"):
        Model.load("ext.onnx")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda proto: setattr(proto.graph.node[0], "domain", "com.example"), id="an unknown domain"),
        pytest.param(lambda proto: setattr(proto.graph.node[0], "op_type", "Exfiltrate"), id="an unknown operator"),
        pytest.param(lambda proto: setattr(proto.opset_import[0], "version", 999), id="an operator set to come"),
        pytest.param(lambda proto: setattr(proto, "ir_version", 999), id="a format to come"),
        pytest.param(lambda proto: proto.graph.node[0].input.__setitem__(0, "nowhere"), id="an input from nowhere"),
    ],
)
def test_a_graph_that_cannot_be_computed_is_refused_with_a_reason(tmp_path, change):
    proto = onnx.load(tiny_model(tmp_path / "m.onnx"))
    change(proto)
    onnx.save(proto, tmp_path / "odd.onnx")
    with pytest.raises(ModelError, match=r"odd\.onnx' is no ONNX file that can be computed here: "):
        Model.load(tmp_path / "odd.onnx")


def test_a_session_does_not_keep_the_file_that_it_was_made_of(tmp_path):
    """onnxruntime keeps it as an attribute of its own; should that be called otherwise, this says so."""
    raw = tiny_model(tmp_path / "model.onnx").read_bytes()
    before = sys.getrefcount(raw)
    model = Model.load(tmp_path / "model.onnx", raw)
    assert sys.getrefcount(raw) == before
    assert model.score(np.full((1, 1, 128, 30), -3.0, np.float32))[0] > 0
