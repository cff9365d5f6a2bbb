"""Which files of a folder train, whose they are, and which are held out."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from recordings.find import sort_key
from recordings.naming import Naming
from schemas.errors import RecordingError, SettingsError
from tests.trainer.conftest import vibration, write
from trainer.recording_set import Recording, data_hash, find_recordings, split


def test_folders_name_the_machines_and_test_folders_are_left_out(tmp_path: Path) -> None:
    for name in ("a/train/1.wav", "a/test/1.wav", "b/1.flac", "b/deep/2.flac", "train/3.wav", "4.wav", "a b/5.wav"):
        write(tmp_path / name, vibration(1, 0))
    found = {recording.name: recording.machine for recording in find_recordings(tmp_path).recordings}
    assert found == {
        "a/train/1.wav": "a",
        "b/1.flac": "b",
        "b/deep/2.flac": "b",
        "train/3.wav": None,
        "4.wav": None,
        "a b/5.wav": "a-b",  # as the wire allows it
    }


def test_all_recordings_are_taken_where_not_only_normal_ones_are_wanted(tmp_path: Path) -> None:
    for name in ("a/test/anomaly_1.wav", "a/train/1.wav", "test/2.wav"):
        write(tmp_path / name, vibration(1, 0))
    found = find_recordings(tmp_path, normal_only=False).recordings
    assert {recording.name: recording.machine for recording in found} == {
        "a/test/anomaly_1.wav": "a",
        "a/train/1.wav": "a",
        "test/2.wav": None,
    }


def test_anomalies_of_public_data_sets_do_not_train(tmp_path: Path) -> None:
    names = (
        "fan/id_00/normal/00000000.wav",
        "fan/id_00/abnormal/00000000.wav",
        "pump/section_00_source_train_normal_0000_x.wav",
        "pump/section_00_source_test_normal_0001_x.wav",
        "pump/section_00_target_test_anomaly_0002_x.wav",
        "normal/1.wav",
    )
    for name in names:
        write(tmp_path / name, vibration(1, 0))
    found = find_recordings(tmp_path, on_error="fail")
    assert {recording.name: recording.machine for recording in found.recordings} == {
        names[0]: "fan-id_00",
        names[2]: "pump-section_00",
        names[5]: None,
    }


def test_a_given_machine_comes_before_the_folders(tmp_path: Path) -> None:
    write(tmp_path / "a" / "1.wav", vibration(1, 0))
    assert find_recordings(tmp_path, Naming(machine="press-3")).machines == {"press-3": 1}
    with pytest.raises(SettingsError, match="press 3"):
        find_recordings(tmp_path, Naming(machine="press 3"))


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3", ".WAV"])
def test_every_format_is_found(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / f"one{suffix}", vibration(1, 0, rate_hz=16_000, channels=1), 16_000)
    (recording,) = find_recordings(tmp_path).recordings
    assert (recording.rate_hz, recording.channels) == (16_000, 1)
    assert recording.duration_s == pytest.approx(1, abs=0.1)


def test_a_folder_without_audio_is_named_with_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no audio")
    with pytest.raises(RecordingError, match=rf"{tmp_path}.*\.wav \.flac \.ogg \.mp3"):
        find_recordings(tmp_path)
    with pytest.raises(RecordingError, match="no folder"):
        find_recordings(tmp_path / "absent")


def test_files_that_cannot_be_used_are_named_and_skipped_or_fatal(tmp_path: Path) -> None:
    write(tmp_path / "fine.wav", vibration(1, 0))
    write(tmp_path / "short.wav", vibration(0.05, 0))
    write(tmp_path / "anomaly_1.wav", vibration(1, 0))
    (tmp_path / "noise.flac").write_bytes(b"no flac at all")
    found = find_recordings(tmp_path)
    assert [recording.name for recording in found.recordings] == ["fine.wav"]
    reasons = {problem.name: problem.reason for problem in found.problems}
    assert set(reasons) == {"short.wav", "anomaly_1.wav", "noise.flac"}
    assert "0.05 s" in reasons["short.wav"]
    assert "anomalous" in reasons["anomaly_1.wav"]
    with pytest.raises(RecordingError, match=r"3 of the files.*noise\.flac"):
        find_recordings(tmp_path, on_error="fail")


def test_only_unusable_files_is_an_error_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "noise.wav").write_bytes(b"RIFF")
    with pytest.raises(RecordingError, match=r"no usable recording; .*noise\.wav"):
        find_recordings(tmp_path)


def test_numbers_in_names_sort_as_numbers() -> None:
    names = ["clip10.wav", "clip9.wav", "a/2.wav", "clip.wav", "10/1.wav", "9/1.wav"]
    assert sorted(names, key=sort_key) == ["9/1.wav", "10/1.wav", "a/2.wav", "clip9.wav", "clip10.wav", "clip.wav"]


def _recordings(machine: str | None, count: int, samples: int = 1000) -> list[Recording]:
    return [
        Recording(path=Path("x"), name=f"{machine}/{i}", machine=machine, rate_hz=200, channels=1, samples=samples)
        for i in range(count)
    ]


def test_the_last_fifth_of_each_machine_is_held_out() -> None:
    train, held_out = split([*_recordings("a", 10), *_recordings("b", 2)], frame_s=1)
    assert [part.recording.name for part in held_out] == ["a/8", "a/9", "b/1"]
    assert not {part.recording.name for part in train} & {part.recording.name for part in held_out}
    assert len(train) == 9


def test_a_single_recording_is_cut_at_a_frame_border_without_overlap() -> None:
    (first,), (last,) = split(_recordings("a", 1, samples=2090), frame_s=1)
    assert (first.start, first.stop, last.start, last.stop) == (0, 1600, 1600, 2090)
    assert split(_recordings("a", 1, samples=250), frame_s=1)[1] == []


def test_the_data_hash_depends_on_names_and_contents_only(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        for name in ("a.wav", "b.wav"):
            write(tmp_path / folder / name, vibration(1, ord(name[0])))
    one, two = (find_recordings(tmp_path / folder).recordings for folder in ("one", "two"))
    assert data_hash(one) == data_hash(two[::-1])
    write(tmp_path / "two" / "b.wav", np.zeros((200, 3), np.float32))
    assert data_hash(one) != data_hash(two)


def _put(folder: Path, *names: str) -> Path:
    for name in names:
        write(folder / name, vibration(1, len(name)))
    return folder


@pytest.mark.parametrize(
    "faulty",
    ["p/100_anomaly.wav", "p/anomaly_3.wav", "p/7_FAULTY.wav", "p/bearingDefect2.wav", "p/clip_3_abnormal.wav"],
)
def test_a_fault_among_the_normals_never_trains_and_is_named(tmp_path: Path, faulty: str) -> None:
    _put(tmp_path, "p/000_normal.wav", "p/001_normal.wav", faulty)
    found = find_recordings(tmp_path)
    assert [one.name for one in found.recordings] == ["p/000_normal.wav", "p/001_normal.wav"]
    assert [problem.name for problem in found.problems] == [faulty]


@pytest.mark.parametrize("name", ["p/unnormal_1.wav", "p/not_normal.wav", "normal/anomaly_1.wav", "p_faulty/1.wav"])
def test_an_unclear_label_refuses_the_training_and_asks_for_labels(tmp_path: Path, name: str) -> None:
    _put(tmp_path, "p/1.wav", name)
    with pytest.raises(RecordingError, match=rf"1 recording may be normal or not: {name}.*--labels"):
        find_recordings(tmp_path)
    labels = tmp_path / "labels.csv"
    labels.write_text(f"path,label\np/1.wav,normal\n{name},anomaly\n")
    found = find_recordings(tmp_path, Naming(labels=labels), "fail")
    assert [one.name for one in found.recordings] == ["p/1.wav"]
    assert found.left_out == (("labelled anomaly", 1),)
    assert len(find_recordings(tmp_path, normal_only=False).recordings) == 2


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    _put(tmp_path, "p/Train/1.wav", "p/TEST/2.wav", "p/Abnormal/3.wav", "p/Abnormal/4.wav")
    found = find_recordings(tmp_path, on_error="fail")
    assert dict(found.left_out) == {"labelled anomaly": 2, "of a test set": 1}
    (tmp_path / "p/Train/1.wav").unlink()
    with pytest.raises(RecordingError, match=r"no audio in .* but .*2 labelled anomaly.*left out"):
        find_recordings(tmp_path)


def test_what_is_no_file_is_a_problem_and_hangs_nothing(tmp_path: Path) -> None:
    _put(tmp_path, "p/1.wav")
    os.mkfifo(tmp_path / "p" / "fifo.csv")
    (tmp_path / "p" / "zero.wav").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to(".")
    (tmp_path / os.fsdecode(b"p/\xff.wav")).write_bytes(b"x")
    found = find_recordings(tmp_path)
    assert {problem.name for problem in found.problems} == {"p/fifo.csv", "p/zero.wav", "loop", r"p/\xff.wav"}
    assert len(found.recordings) == 1


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (("healthy/1.wav", "bearing/1.wav"), "bearing/1.wav"),  # two folders that look like machines
        (("p/normal/1.wav", "p/before repair/1.wav"), "p/before repair/1.wav"),
        (("p/gut/1.wav", "p/Wellenschlag/1.wav"), "p/Wellenschlag/1.wav"),
        (("p/normal_1.wav", "p/rec_2.wav"), "p/rec_2.wav"),
        (("p/normal/1.wav", "p/train/1.wav"), "p/train/1.wav"),  # to be in train is no label
        (("p/train/normal_1.wav", "p/train/2.wav"), "p/train/2.wav"),
    ],
)
def test_what_carries_no_label_beside_normals_never_trains(tmp_path: Path, names: tuple[str, ...], named: str) -> None:
    _put(tmp_path, *names)
    with pytest.raises(RecordingError, match=rf"^1 recording may be normal or not: {named} .*--labels.*alone"):
        find_recordings(tmp_path)
    labels = tmp_path / "labels.csv"
    labels.write_text(f"path,label\n{names[0]},normal\n{names[1]},anomaly\n")
    assert [one.name for one in find_recordings(tmp_path, Naming(labels=labels)).recordings] == [names[0]]


@pytest.mark.parametrize(
    "names", [("p/normal/1.wav", "q/1.wav"), ("train/1.wav", "2.wav"), ("p/healthy/1.wav", "p/cavitation/1.wav")]
)
def test_labels_count_for_what_lies_beside_them(tmp_path: Path, names: tuple[str, ...]) -> None:
    _put(tmp_path, *names)
    found = find_recordings(tmp_path, on_error="fail")
    assert {one.name for one in found.recordings} == {name for name in names if "cavitation" not in name}


@pytest.mark.parametrize("fault", ["failure", "failed", "leak", "cavitation", "imbalance", "kaputt", "worn", "crack"])
def test_a_fault_among_unlabelled_recordings_never_trains(tmp_path: Path, fault: str) -> None:
    _put(tmp_path, "fan/rec_013.wav", f"fan/rec_014_{fault}.wav", f"fan/{fault}/1.wav", f"fan/{fault}_2/1.wav")
    found = find_recordings(tmp_path)
    assert [one.name for one in found.recordings] == ["fan/rec_013.wav"]


def test_recordings_without_a_machine_beside_others_are_named(tmp_path: Path) -> None:
    _put(tmp_path, "p/1.wav", "2.wav")
    assert "1 recording has no machine, others have one: 2.wav" in find_recordings(tmp_path).notes


def test_several_machines_in_one_folder_are_never_trained_as_one(tmp_path: Path) -> None:
    times = [f"{pump}_2024-05-01_10-0{minute}-00" for pump in ("pump-1", "pump-2") for minute in (0, 1)]
    _put(tmp_path, *(f"{time}.wav" for time in times))
    with pytest.raises(RecordingError, match=r"begin in 2 ways \('pump-1', 'pump-2'\).*--pattern.*'{machine}_{time}'"):
        find_recordings(tmp_path)
    assert find_recordings(tmp_path, Naming(pattern="{machine}_{time}")).machines == {"pump-1": 2, "pump-2": 2}
    assert find_recordings(tmp_path, Naming(machine="press-3")).machines == {"press-3": 4}
