"""Label spans: what verdicts say of the frames of a time, and what that does to training, evaluation and replay."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from backtest.evaluation.evaluate import evaluate
from backtest.evaluation.evaluate_options import EvaluateConfig
from backtest.evaluation.labelled import find_labelled
from backtest.evaluation.tracking import figures, publish_evaluation
from backtest.replay.finding import Finder
from backtest.replay.replay_options import ReplayConfig
from backtest.replay.routing import load, routes_of
from backtest.score_store import opened
from recordings.listing import read_spans
from recordings.naming import Naming, RecordingMetadata
from schemas import Verdict, VerdictWord
from schemas.errors import RecordingError
from tests.models import encoded, noise
from tests.registered_models import sound_model
from trainer.recording_set import data_hash, find_recordings
from trainer.train import TrainConfig, train_model
from whirr.label_spans import LabelSpan, label_groups, spans_of, write_spans
from whirr.settings import Settings

HEADER = "machine,source,label,from,until,fault,verdict,verdict_id\n"


def at(minute: int) -> str:
    return f"2026-01-31T12:{minute:02}:00.000000Z"


def verdict(word: VerdictWord, number: int = 1, **more: str | None) -> Verdict:
    """Of an incident from 12:10 to 12:20; said at 12:40."""
    told = {"began_at": at(10), "ended_at": at(20), "time": at(40), "machine_id": "pump-7", "source": "mic"}
    return Verdict(
        verdict_id=f"{number:032x}",
        incident_id=f"{number:032x}",
        verdict=word,
        by="ana",
        **{"kind": "machine", **told, **more},  # type: ignore[arg-type]
    )


def rows(tmp_path: Path, *verdicts: Verdict, ended: dict[str, str | None] | None = None) -> list[str]:
    """Return the lines of the file that verdicts become, which is read as it was written."""
    spans = spans_of(verdicts, ended or {})
    write_spans(tmp_path / "verdicts.csv", spans)
    assert read_spans(tmp_path / "verdicts.csv") == spans
    lines = (tmp_path / "verdicts.csv").read_text().splitlines()
    assert lines[0] + "\n" == HEADER
    for span, line in zip(spans, lines[1:], strict=True):
        assert line.endswith(f",{span.verdict},{span.verdict_id}")
    short = [line.replace("2026-01-31T12:", "").replace("00.000000Z", "") for line in lines[1:]]
    return [line.rsplit(",", 2)[0] for line in short]


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (verdict("confirmed", fault="bearing, outer"), 'pump-7,,anomaly,10:,20:00.000001Z,"bearing, outer"'),
        (verdict("confirmed", ended_at=None), "pump-7,,anomaly,10:,,"),  # it lasts
        (verdict("confirmed", kind="sensor"), "pump-7,mic,anomaly,10:,20:00.000001Z,"),
        (verdict("confirmed", kind="drift", source=None), "pump-7,,anomaly,10:,20:00.000001Z,"),
        (verdict("repaired", since=at(30), fault="belt"), "pump-7,,anomaly,10:,30:,belt"),
        (verdict("false_alarm"), "pump-7,mic,normal,10:,20:00.000001Z,"),
        (verdict("false_alarm", ended_at=None), "pump-7,mic,normal,10:,40:,"),  # nobody knows of tomorrow
        (verdict("new_normal", since=at(15)), "pump-7,mic,normal,15:,40:,"),
    ],
)
def test_what_a_verdict_says_of_frames(tmp_path: Path, said: Verdict, line: str) -> None:
    assert rows(tmp_path, said) == [line]


def test_what_says_nothing_of_frames(tmp_path: Path) -> None:
    assert rows(tmp_path, verdict("seen"), verdict("withdrawn"), verdict("repaired", since=at(5))) == []
    # That a machine has not drifted doesn't say that all of that time was well.
    assert rows(tmp_path, verdict("false_alarm", kind="drift", source=None)) == []


def test_an_incident_that_ended_after_the_verdict_is_known_by_its_alerts(tmp_path: Path) -> None:
    said = verdict("confirmed", ended_at=None)
    assert rows(tmp_path, said, ended={said.incident_id: at(50)}) == ["pump-7,,anomaly,10:,50:00.000001Z,"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (",,anomaly,2026-01-31T12:00:00Z,,", "machine is ''"),
        ("pump 7,,anomaly,2026-01-31T12:00:00Z,,", "machine is 'pump 7'"),
        ("p,,perhaps,2026-01-31T12:00:00Z,,", "label is 'perhaps'"),
        ("p,,anomaly,noon,,", "from is 'noon'"),
        (
            "p,,anomaly,2026-01-31T12:00:00Z,2026-01-31T11:00:00Z,",
            "until is '2026-01-31T11:00:00Z'; expected a time after",
        ),
        ("p,,normal,2026-01-31T12:00:00Z,,", "until is '' of a normal time"),
        ("p,,anomaly,2026-01-31T12:00:00Z,,,confirmed,7", "verdict_id is '7'; expected 32 digits"),
        (f"p,,anomaly,2026-01-31T12:00:00Z,,,seen,{7:032x}", "verdict is 'seen'; expected one of false_alarm"),
    ],
)
def test_a_wrong_span_is_named_with_its_line(tmp_path: Path, line: str, told: str) -> None:
    file = tmp_path / "verdicts.csv"
    file.write_text(HEADER + line + "\n")
    with pytest.raises(RecordingError, match=rf"verdicts\.csv', line 2: {told}"):
        read_spans(file)


# A machine's frames, one a minute, as `whirr record` leaves them; at 12:10 something happens


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for minute in range(30):
        path = tmp_path / "data" / "pump-7" / f"20260131T12{minute:02}00Z.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(noise(1.0, 0.02, seed=minute)))
    return tmp_path / "data"


def labels(tmp_path: Path, *verdicts: Verdict) -> Path:
    write_spans(tmp_path / "verdicts.csv", spans_of(verdicts, {}))
    return tmp_path / "verdicts.csv"


def minutes(names: list[str]) -> list[int]:
    return [int(name.split("T12")[1][:2]) for name in names]


def test_a_confirmed_faults_frames_never_train(folder: Path, tmp_path: Path) -> None:
    file = labels(
        tmp_path, verdict("confirmed", fault="bearing"), verdict("false_alarm", 2, began_at=at(19), ended_at=at(25))
    )
    found = find_recordings(folder, Naming(labels=file))
    assert minutes([one.name for one in found.recordings]) == [*range(10), *range(21, 30)], (
        "what is disputed is a fault"
    )
    assert found.left_out == (("of a confirmed fault", 11),)
    assert minutes([one.name for one in find_recordings(folder, Naming()).recordings]) == list(range(30))


def test_a_frame_that_a_fault_begins_in_does_not_train(folder: Path, tmp_path: Path) -> None:
    began = at(10).replace("00.0", "00.5")
    found = find_recordings(folder, Naming(labels=labels(tmp_path, verdict("confirmed", began_at=began))))
    assert 10 not in minutes([one.name for one in found.recordings])


def test_a_recording_of_no_time_or_no_machine_never_trains_beside_a_fault(folder: Path, tmp_path: Path) -> None:
    for name in (
        "pump-7/normal_later.wav",
        "20260131T121500Z.wav",
        "20260131T123000Z.wav",
        "fan-1/20260131T121500Z.wav",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(encoded(noise(1.0, 0.02, seed=99)))
    found = find_recordings(folder, Naming(labels=labels(tmp_path, verdict("confirmed"))))
    trains = {one.name for one in found.recordings}
    assert {"20260131T123000Z.wav", "fan-1/20260131T121500Z.wav"} <= trains
    assert "20260131T121500Z.wav" not in trains, "nothing says whose it is"
    reasons = {problem.name: problem.reason for problem in found.problems}
    assert "it may be of a fault" in reasons["pump-7/normal_later.wav"]


def test_a_false_alarm_trains_whatever_its_name_says(folder: Path, tmp_path: Path) -> None:
    name = "pump-7/anomaly_20260131T121000Z.wav"
    (folder / "pump-7" / "20260131T121000Z.wav").rename(folder / name)
    assert name not in {one.name for one in find_recordings(folder).recordings}
    found = find_recordings(folder, Naming(labels=labels(tmp_path, verdict("false_alarm", source=None))))
    assert name in {one.name for one in found.recordings}


def test_the_model_is_that_of_the_folder_without_the_fault(folder: Path, tmp_path: Path) -> None:
    """All the way through a training: what it learnt from is as if the fault had never been recorded."""
    file = labels(tmp_path, verdict("confirmed"))
    options = {"detector": "pooled", "mlflow": False, "frame_s": 1.0}
    with_labels = train_model(TrainConfig(normal=folder, out=tmp_path / "a.onnx", labels=file, **options))  # type: ignore[arg-type]
    whole = data_hash(find_recordings(folder).recordings)
    for minute in range(10, 21):
        (folder / "pump-7" / f"20260131T12{minute}00Z.wav").unlink()
    assert with_labels.metadata.data_hash == data_hash(find_recordings(folder).recordings) != whole


def test_an_evaluation_is_scored_by_verdicts(folder: Path, tmp_path: Path) -> None:
    for minute in range(10, 21):
        (folder / "pump-7" / f"20260131T12{minute}00Z.wav").write_bytes(encoded(noise(1.0, 0.5, seed=minute)))
    good = verdict("new_normal", 2, began_at=at(0), since=at(0), time=at(10), source=None)
    file = labels(tmp_path, verdict("confirmed", fault="bearing"), good)
    found = find_labelled(folder, Naming(labels=file))
    assert minutes([one.name for one in found.recordings if one.anomalous]) == list(range(10, 21))
    assert minutes([one.name for one in found.recordings if not one.anomalous]) == list(range(10))
    assert {one.fault for one in found.recordings} == {None, "bearing"}
    assert {problem.reason.partition(":")[0] for problem in found.problems} == {"no label"}, "of what nobody has said"
    model = sound_model(tmp_path / "m.onnx", "tiny")
    result = evaluate(EvaluateConfig(folder=folder, model=model, labels=file, resamples=0))
    assert (result.overall.normals, result.overall.anomalies) == (10, 11)
    assert result.overall.values["auc"] == 1.0
    assert result.by_fault["bearing"].anomalies == 11
    assert dict(figures(result))["evaluation/auc/fault bearing"] == 1.0


@pytest.mark.slow
def test_mlflow_says_which_verdicts_went_into_a_training_and_an_evaluation(folder: Path, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    settings, client = Settings(mlflow_tracking_uri=uri), MlflowClient(tracking_uri=uri)
    said = (
        verdict("confirmed", 1, fault="bearing", began_at=at(10), ended_at=at(12)),
        verdict("confirmed", 2, fault="bearing", began_at=at(14), ended_at=at(16)),
        verdict("repaired", 3, fault="belt, slipped", began_at=at(18), since=at(20)),
        verdict("new_normal", 4, since=at(0), time=at(9), source=None),
    )
    of_others = verdict("confirmed", 5, machine_id="fan-1"), verdict("new_normal", 6, source="another")
    file = labels(tmp_path, *said, *of_others, verdict("seen", 7))

    def trained(labels: Path | None) -> dict[str, str]:
        out = tmp_path / "m.onnx"
        config = TrainConfig(normal=folder, out=out, detector="pooled", trim=False, labels=labels, register=False)
        run_id = train_model(config, None, settings).metadata.run_id
        return {name: one for name, one in client.get_run(run_id).data.params.items() if name.startswith("verdicts")}

    expected = {
        "verdicts": "4",
        "verdicts.by_word": '{"confirmed":2,"new_normal":1,"repaired":1}',
        "verdicts.by_fault": '{"bearing":2,"belt, slipped":1}',
    }
    first = trained(file)
    assert first.items() >= expected.items()
    assert trained(None) == {}
    config = EvaluateConfig(folder=folder, model=tmp_path / "m.onnx", labels=file, resamples=0)
    result = evaluate(config)
    tags = client.get_run(publish_evaluation(result, None, settings)).data.tags
    assert {name: tags[f"evaluation.{name}"] for name in first} == first, "the same verdicts"
    other = label_groups(spans_of(said[:3], {}))
    assert other["verdicts"] == "3"
    assert other["verdicts.hash"] != first["verdicts.hash"]


def test_verdicts_of_another_file_with_the_same_ones_are_the_same(tmp_path: Path) -> None:
    spans = spans_of([verdict("confirmed"), verdict("false_alarm", 2)], {})
    assert label_groups(reversed(spans)) == label_groups(spans)
    stated = label_groups([LabelSpan(machine="p", label="normal", from_us=0, until_us=1)])
    assert stated["verdicts.by_word"] == '{"normal":1}'


def test_a_replay_is_scored_by_verdicts(folder: Path, tmp_path: Path) -> None:
    model = sound_model(tmp_path / "m.onnx", "tiny")
    champions = load(routes_of(Settings(), str(model), use_routes=False), Settings())
    file = labels(
        tmp_path, verdict("confirmed"), verdict("false_alarm", 2, began_at=at(25), ended_at=at(27), source=None)
    )
    config = ReplayConfig(folder=folder, out=tmp_path / "out", labels=file)
    with opened(tmp_path / "out", {}) as store:
        Finder(config, store, champions.router, lambda _: None).find()
        found = store.db.execute("SELECT name, label FROM files ORDER BY start_us").fetchall()
    known = ["anomaly" if 10 <= i <= 20 else "normal" if 25 <= i < 27 else None for i in range(30)]
    assert [label for _, label in found] == known


def test_what_only_the_folder_names_the_machine_of_has_that_machines_labels(tmp_path: Path) -> None:
    """Another machine's fault is none of its, and its own normal time is."""
    folder = tmp_path / "pump-7"
    folder.mkdir()
    for minute in range(30):
        (folder / f"20260131T12{minute:02}00Z.wav").write_bytes(encoded(noise(1.0, 0.02, seed=minute)))
    good = verdict("new_normal", 2, began_at=at(0), since=at(0), time=at(5), source=None)
    file = labels(tmp_path, verdict("confirmed", machine_id="fan-3"), good)
    found = find_labelled(folder, Naming(labels=file))
    assert [(one.machine, one.anomalous) for one in found.recordings] == [("pump-7", False)] * 5
    assert "the labels name machines of which no recording is here: fan-3" in found.machine_notes
    config = ReplayConfig(folder=folder, out=tmp_path / "out", labels=file)
    champions = load(routes_of(Settings(), str(sound_model(tmp_path / "m.onnx", "tiny")), use_routes=False), Settings())
    with opened(tmp_path / "out", {}) as store:
        Finder(config, store, champions.router, lambda _: None).find()
        replayed = store.db.execute("SELECT label FROM files ORDER BY start_us").fetchall()
    assert [label for (label,) in replayed] == ["normal"] * 5 + [None] * 25


def test_a_comma_too_much_is_refused_and_moves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(HEADER + f"pump-7,mic,anomaly,{at(0)},{at(5)},belt,slipped,confirmed,{1:032x}\n")
    with pytest.raises(RecordingError, match="line 2: has more fields than the header; expected quotes"):
        read_spans(file)
    file.write_text(HEADER + f"pump-7,mic,anomaly,{at(0)},{at(5)},belt,confirmed,{1:032x},\n")
    assert read_spans(file)[0].fault == "belt"


def test_a_fault_that_begins_within_a_recording_is_its_onset() -> None:
    span = LabelSpan(machine="p", label="anomaly", from_us=5_000_000, until_us=None, fault="belt")
    known = RecordingMetadata(
        name="a.wav", machine="p", source=None, label="normal", unclear="?", onset_s=None, split=None, start=0,
        unplaced=None, spans=(span,),
    )  # fmt: skip
    dated = known.dated(10.0)
    assert (dated.label, dated.onset_s, dated.unclear, dated.span) == ("anomaly", 5.0, None, span)
    assert known.dated(5.0) == known, "it ended before"
    assert replace(known, start=6_000_000).dated(1.0).onset_s is None
