"""Looking through folders, hostile ones too."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recordings.find import Problem, checked_folder, printable, sort_key, walk
from schemas.errors import RecordingError

SUFFIXES = (".wav", ".csv")


def put(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


def found(folder: Path, **options) -> tuple[list[str], dict[str, str]]:
    walked = list(walk(folder, SUFFIXES, **options))
    names = [one for one in walked if isinstance(one, str)]
    return sorted(names, key=sort_key), {one.name: one.reason for one in walked if isinstance(one, Problem)}


def test_recordings_are_found_by_suffix_in_the_one_order(tmp_path: Path):
    put(tmp_path, "b/10.WAV", "b/9.wav", "a/normal_2.wav", "a/anomaly_1.wav", "1.wav", "notes.txt", ".hidden/1.wav")
    put(tmp_path, "a/.1.wav")
    names, problems = found(tmp_path)
    assert names == ["1.wav", "a/anomaly_1.wav", "a/normal_2.wav", "b/9.wav", "b/10.WAV"]
    assert not problems
    assert found(tmp_path, deep=False)[0] == ["1.wav"]
    assert found(tmp_path, leave=tmp_path / "b")[0] == names[:3]
    assert found(tmp_path, wanted=lambda path: path.parent.name == "b")[0] == names[3:]


@pytest.mark.parametrize("links", [{"a": "."}, {"a": ".", "b": "."}, {"p/a": "../q", "q/b": "../p"}, {"p/up": "../.."}])
def test_links_that_lead_back_are_named_and_passed(tmp_path: Path, links: dict[str, str]):
    folder = put(tmp_path / "plant", "p/1.wav", "q/2.wav")
    for name, target in links.items():
        (folder / name).symlink_to(target)
    names, problems = found(folder)
    assert names == ["p/1.wav", "q/2.wav"]
    assert set(problems) == set(links)
    assert all("searched anyhow" in reason for reason in problems.values())


def test_links_to_folders_elsewhere_are_followed_once(tmp_path: Path):
    put(tmp_path, "archive/pump/1.wav", "plant/fan/2.wav")
    (tmp_path / "archive/pump/back").symlink_to(tmp_path / "plant")
    (tmp_path / "plant/one").symlink_to(tmp_path / "archive/pump")
    (tmp_path / "plant/two").symlink_to(tmp_path / "archive/pump")
    (tmp_path / "plant/x.wav").symlink_to(tmp_path / "archive/pump/1.wav")
    names, problems = found(tmp_path / "plant")
    assert names == ["fan/2.wav", "one/1.wav", "x.wav"]
    assert set(problems) == {"two", "one/back"}


def test_what_is_no_file_is_named_and_never_opened(tmp_path: Path):
    put(tmp_path, "1.wav")
    os.mkfifo(tmp_path / "fifo.wav")
    os.mkfifo(tmp_path / "table.csv")
    os.mkfifo(tmp_path / "fifo.txt")
    (tmp_path / "zero.wav").symlink_to("/dev/zero")
    (tmp_path / "nothing.wav").symlink_to("nowhere")
    (tmp_path / "itself.wav").symlink_to("itself.wav")
    with socket.socket(socket.AF_UNIX) as one:
        here = Path.cwd()
        os.chdir(tmp_path)  # a socket's path is short
        try:
            one.bind("socket.wav")
        finally:
            os.chdir(here)
    names, problems = found(tmp_path, wanted=lambda path: bool(path.read_bytes()))
    assert names == ["1.wav"]
    assert problems == {
        "fifo.wav": "a FIFO; expected a file",
        "table.csv": "a FIFO; expected a file",
        "zero.wav": "a character device; expected a file",
        "socket.wav": "a socket; expected a file",
        "nothing.wav": "a link to nothing",
        "itself.wav": "a link to nothing",
    }


def test_names_that_cannot_be_printed_are_named_so_that_they_can(tmp_path: Path):
    put(tmp_path, "1.wav", "a\nb/2.wav", "\x1b]0;own\x07.wav", "ümlaut\u00a0.wav")
    for name in (b"\xff\xfe.wav", b"folder\xff/3.wav"):
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    names, problems = found(tmp_path)
    assert names == ["1.wav", "ümlaut\u00a0.wav"]
    assert set(problems) == {r"a\nb", r"\x1b]0;own\x07.wav", r"\xff\xfe.wav", r"folder\xff"}
    for shown, reason in problems.items():
        assert (shown + reason).encode("utf-8").decode().isprintable()


def test_a_folder_whose_path_is_no_utf8_is_refused(tmp_path: Path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    folder.mkdir()
    with pytest.raises(RecordingError, match=r"\\xff.*isn't UTF-8"):
        checked_folder(folder, "recordings")
    with pytest.raises(RecordingError, match="is no folder; expected one with recordings"):
        checked_folder(tmp_path / "absent", "recordings")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path):
    put(tmp_path, "1.wav", "locked/2.wav")
    (tmp_path / "locked").chmod(0)
    assert found(tmp_path) == (["1.wav"], {"locked/": "this folder can't be read (Permission denied)"})
    (tmp_path / "locked").chmod(0o700)


def test_labels_and_lengths_of_numbers_do_not_change_the_order():
    names = ["p/anomaly_3.wav", "p/normal_20.wav", "p/normal_4.wav", "p/000_normal.wav", "p/pump_normal_1.wav"]
    names += ["p/100_anomaly.wav", "p/5.wav", "p2/1.wav", "p10/1.wav"]
    assert sorted(names, key=sort_key) == [
        "p/000_normal.wav", "p/anomaly_3.wav", "p/normal_4.wav", "p/5.wav", "p/normal_20.wav", "p/100_anomaly.wav",
        "p/pump_normal_1.wav", "p2/1.wav", "p10/1.wav",
    ]  # fmt: skip


@given(st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=30))
def test_any_name_can_be_printed(name: str):
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return  # no name of a file
    assert not {"\n", "\x1b"} & set(printable(name))
    printable(name).encode("utf-8")
