"""Labels from names and from CSV files, and whose a recording is."""

from __future__ import annotations

from pathlib import Path

import pytest

from backtest.evaluation.challenger_auc import recording_auc
from backtest.evaluation.evaluate import evaluate
from backtest.evaluation.evaluate_options import EvaluateConfig
from backtest.evaluation.labelled import find_labelled
from backtest.evaluation.tracking import figures
from recordings.listing import read_list
from recordings.naming import MetadataResolver, Naming
from schemas.errors import RecordingError, SettingsError
from tests.models import encoded, noise
from tests.registered_models import sound_model
from tests.trainer.conftest import vibration, write


def _recordings(folder: Path, *names: str) -> None:
    for name in names:
        write(folder / name, vibration(1, 0))


def test_normals_come_first_in_time_order_and_train_is_left_out(tmp_path: Path) -> None:
    _recordings(tmp_path, "a/test/anomaly_1.wav", "a/test/normal_10.wav", "a/test/normal_9.wav", "a/train/normal_1.wav")
    found = find_labelled(tmp_path)
    assert [one.name for one in found.by_machine["a"]] == [
        "a/test/normal_9.wav",
        "a/test/normal_10.wav",
        "a/test/anomaly_1.wav",
    ]
    assert found.in_train == 1


def test_unlabelled_and_unusable_files_are_named_or_fatal(tmp_path: Path) -> None:
    _recordings(tmp_path, "normal_1.wav", "clip.wav")
    (tmp_path / "anomaly_1.flac").write_bytes(b"no flac at all")
    found = find_labelled(tmp_path)
    assert [one.name for one in found.recordings] == ["normal_1.wav"]
    reasons = {problem.name: problem.reason for problem in found.problems}
    assert "no label" in reasons["clip.wav"]
    assert "can't be read" in reasons["anomaly_1.flac"]
    with pytest.raises(RecordingError, match=r"2 of the files.*clip\.wav: no label"):
        find_labelled(tmp_path, on_error="fail")


def test_folders_without_anything_to_evaluate_are_errors(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no folder"):
        find_labelled(tmp_path / "absent")
    with pytest.raises(RecordingError, match=r"no audio to evaluate.*\.wav \.flac \.ogg \.mp3"):
        find_labelled(tmp_path)
    _recordings(tmp_path, "train/normal_1.wav")
    with pytest.raises(RecordingError, match="1 recording in folders named 'train'"):
        find_labelled(tmp_path)
    assert len(find_labelled(tmp_path / "train").recordings) == 1
    _recordings(tmp_path, "clip.wav")
    with pytest.raises(RecordingError, match=r"no usable recording; .*clip\.wav"):
        find_labelled(tmp_path)
    with pytest.raises(SettingsError, match="machine id is 'press 3'"):
        find_labelled(tmp_path, Naming(machine="press 3"))


def _csv(folder: Path, *lines: str) -> Path:
    file = folder / "labels.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def test_a_csv_gives_labels_machines_and_onsets(tmp_path: Path) -> None:
    _recordings(tmp_path, "a/1.wav", "a/2.wav", "b/normal_3.wav", "a/4.wav")
    file = _csv(
        tmp_path,
        "label,path,onset_s,machine,remark",
        "normal,a/1.wav,,,quiet",
        f"1,{tmp_path / 'a' / '2.wav'},0.25,press-2,",
        "Anomalous,b/normal_3.wav,,,",
        "0,c/5.wav,,,",
    )
    found = find_labelled(tmp_path, Naming(labels=file))
    assert {
        (one.name, machine, one.label, one.onset_s) for machine, own in found.by_machine.items() for one in own
    } == {
        ("a/1.wav", "a", "normal", None),
        ("a/2.wav", "press-2", "anomaly", 0.25),
        ("b/normal_3.wav", "b", "anomaly", None),  # the file comes before the name
    }
    reasons = {problem.name: problem.reason for problem in found.problems}
    assert "no label in" in reasons["a/4.wav"]
    assert "no such file; line 5" in reasons["c/5.wav"]


def test_names_of_columns_may_be_in_capitals_and_have_blanks_around_them(tmp_path: Path) -> None:
    _recordings(tmp_path, "1.wav")
    file = _csv(tmp_path, "Path, LABEL,RPM , Load,Machine", "1.wav,normal,1500,60,pump-1")
    (found,) = find_labelled(tmp_path, Naming(labels=file)).recordings
    assert (found.machine, found.condition) == ("pump-1", (1500.0, 60.0))
    spans = _csv(tmp_path, "Machine,Label, From ,UNTIL", "pump-1,anomaly,2026-01-31T12:00:00Z,")
    (span,) = MetadataResolver(tmp_path, Naming(labels=spans)).spans
    assert (span.machine, span.label) == ("pump-1", "anomaly")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("file,label", "1.wav,normal"), r"labels\.csv', line 1: no column 'path' among file, label"),
        (
            ("path,label", "1.wav,normal", "2.wav,fine"),
            r"labels\.csv', line 3: label is 'fine'; expected one of normal",
        ),
        (("path,label", "1.wav"), r"labels\.csv', line 2: label is ''"),
        (("path,label", ",normal"), r"labels\.csv', line 2: path is ''"),
        (("path,label", "../1.wav,normal"), r"labels\.csv', line 2: path is '\.\./1\.wav'"),
        (("path,label", "/1.wav,normal"), r"labels\.csv', line 2: path is '/1\.wav'"),
        (("path,label", "1.wav,normal", "./1.wav,anomaly"), r"line 3: '1\.wav' has a label already, on line 2"),
        (("path,label,machine", "1.wav,normal,press 3"), r"labels\.csv', line 2: machine is 'press 3'"),
        (("path,label,onset_s", "1.wav,anomaly,soon"), r"labels\.csv', line 2: onset_s is 'soon'; expected seconds"),
        (("path,label,onset_s", "1.wav,anomaly,-1"), r"labels\.csv', line 2: onset_s is '-1'"),
        (("path,label,onset_s", "1.wav,anomaly,nan"), r"labels\.csv', line 2: onset_s is 'nan'"),
        (("path,label,onset_s", "1.wav,normal,1"), r"labels\.csv', line 2: onset_s is '1' for a normal recording"),
        (("path,label", '"1.wav,normal'), r"labels\.csv', line 2: unexpected end of data"),
        (("path,label",), r"labels\.csv' hold no row"),
        (("path,label,rpm,RPM", "1.wav,normal,1,2"), r"labels\.csv', line 1: column 'rpm' stands there 2 times"),
    ],
    ids=str,
)
def test_errors_in_a_csv_name_file_and_line(tmp_path: Path, lines: tuple[str, ...], message: str) -> None:
    with pytest.raises(RecordingError, match=message):
        read_list(_csv(tmp_path, *lines), tmp_path, "label")


def test_a_csv_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"absent\.csv' can't be read: No such file"):
        read_list(tmp_path / "absent.csv", tmp_path, "label")
    (tmp_path / "sound.csv").write_bytes(b"path,label\n\xff\xfe,normal\n")
    with pytest.raises(RecordingError, match=r"sound\.csv': byte 11 is no UTF-8"):
        read_list(tmp_path / "sound.csv", tmp_path, "label")


def test_an_onset_beyond_the_recording_is_a_problem(tmp_path: Path) -> None:
    _recordings(tmp_path, "1.wav", "2.wav")
    file = _csv(tmp_path, "path,label,onset_s", "1.wav,anomaly,1.5", "2.wav,normal,")
    (problem,) = find_labelled(tmp_path, Naming(labels=file)).problems
    assert (problem.name, problem.reason) == ("1.wav", "onset_s is 1.5, but it is 1 s long")


# The judge of challengers


def test_the_judge_scores_labelled_recordings(tmp_path: Path) -> None:
    file = sound_model(tmp_path / "m.onnx", "tiny")
    with pytest.raises(RecordingError, match="no audio to evaluate"):
        recording_auc(tmp_path)
    levels = {"normal_0": 1, "normal_1": 4, "anomaly_0": 2, "abnormal_1": 10, "other": 100}
    for seed, (stem, level) in enumerate(levels.items()):
        (tmp_path / f"{stem}.wav").write_bytes(encoded(noise(2.0, 0.02 * level, seed=seed)))
    evaluation = evaluate(EvaluateConfig(folder=tmp_path, model=file, resamples=0))
    assert 0.0 <= recording_auc(tmp_path)(file) == evaluation.overall.values["auc"] <= 1.0
    (tmp_path / "not_normal_7.wav").write_bytes(encoded(noise(2.0)))
    with pytest.raises(RecordingError, match=r"1 recording .* may be normal or not: not_normal_7\.wav"):
        recording_auc(tmp_path)


def test_each_fault_is_judged_against_the_normals_of_its_machines(tmp_path: Path) -> None:
    """A belt that hums loudly is found, a bearing that sounds like a normal is not."""
    lines = ["path,label,fault"]
    levels = {"a/1": (1, ""), "a/2": (1.1, ""), "a/3": (30, "belt"), "a/4": (1, "bearing, dry"), "b/1": (50, "")}
    for seed, (stem, (level, fault)) in zip((1, 2, 3, 1, 4), levels.items(), strict=True):
        path = tmp_path / "set" / f"{stem}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(noise(2.0, 0.02 * level, seed=seed)))
        lines.append(f'{stem}.wav,{"anomaly" if fault else "normal"},"{fault}"')
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    file = sound_model(tmp_path / "m.onnx", "tiny")
    labels = tmp_path / "labels.csv"
    result = evaluate(EvaluateConfig(folder=tmp_path / "set", model=file, labels=labels, resamples=0))
    assert list(result.by_fault) == ["bearing, dry", "belt"]
    assert {name: (one.normals, one.anomalies) for name, one in result.by_fault.items()} == {
        "bearing, dry": (2, 1),
        "belt": (2, 1),
    }
    assert result.by_fault["belt"].values["auc"] == 1.0
    dry = result.by_fault["bearing, dry"].values["auc"]
    assert dry in (0.25, 0.75), "as the one normal, and above or below the other"
    assert result.as_dict()["by_fault"]["belt"]["auc"] == 1.0
    assert dict(figures(result))["evaluation/auc/fault bearing_ dry"] == dry


def test_a_fault_of_a_normal_recording_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("path,label,fault\na.wav,normal,belt\n")
    with pytest.raises(RecordingError, match="line 2: fault is 'belt' for what is normal"):
        read_list(tmp_path / "labels.csv", tmp_path, "label")
