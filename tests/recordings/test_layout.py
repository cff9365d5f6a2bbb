"""What the path of a recording says of it: machine and part, in the layouts that people have."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive.retained import record
from recordings.find import sort_key, walk
from recordings.layout import home_machine, path_info
from recordings.machine_ids import machine_id
from recordings.naming import MetadataResolver, Naming
from schemas.condition import Condition
from schemas.errors import RecordingError
from schemas.frame import MACHINE_ID, FrameRecord, frame_headers
from tests.models import encoded, noise
from trainer.recording_set import find_recordings


@pytest.mark.parametrize(
    ("name", "folder", "expected"),
    [
        # A folder for each machine, and one machine alone.
        ("pump-1/train/7.wav", "/data/plant", ("pump-1", None, "train")),
        ("pump-1/test/anomaly_7.wav", "/data/plant", ("pump-1", "anomaly", "test")),
        ("b/deep/2.flac", "/data/plant", ("b", None, None)),
        ("normal/7.wav", "/data", (None, "normal", None)),
        ("test/abnormal_7.wav", "/data", (None, "anomaly", "test")),
        # Blanks, umlauts, capitals, and the parts first.
        ("Pump 7/train/5.wav", "/data/plant", ("Pump-7", None, "train")),
        ("Lüfter-1/test/normal_5.wav", "/data/plant", ("Luefter-1", "normal", "test")),
        ("pump-7/Train/5.wav", "/data/plant", ("pump-7", None, "train")),
        ("pump-7/TEST/anomaly_5.wav", "/data/plant", ("pump-7", "anomaly", "test")),
        ("train/pump-1/5.wav", "/data/plant", ("pump-1", None, "train")),
        ("Test/Pump 2/anomaly_5.wav", "/data/plant", ("Pump-2", "anomaly", "test")),
        ("Normal/pump-2/5.wav", "/data/plant", ("pump-2", "normal", None)),
        ("pump-2/test/Abnormal/5.wav", "/data/plant", ("pump-2", "anomaly", "test")),
        # Dates name no machine; the next folder does.
        ("2024-05-01/7.wav", "/data/S", (None, None, None)),
        ("2024-05-01/pump-1/7.wav", "/data/S", ("pump-1", None, None)),
        ("pump-1/20240501/normal/7.wav", "/data/S", ("pump-1", "normal", None)),
        ("2024/05/01/7.wav", "/data/S", (None, None, None)),
        ("2024-05/pump-1/7.wav", "/data/S", ("pump-1", None, None)),
        ("2024-05-01_10-00-00/7.wav", "/data/S", (None, None, None)),
        ("31.05.2024/10-00/7.wav", "/data/S", (None, None, None)),
        ("20249901/7.wav", "/data/S", ("20249901", None, None)),  # a number, no date
        ("4711/7.wav", "/data/S", ("4711", None, None)),
        ("2024-05-01 pump/7.wav", "/data/S", ("2024-05-01-pump", None, None)),
        # MIMII, as it is unpacked, with the folder of one noise level around it, and one unit alone.
        ("fan/id_00/normal/00000007.wav", "/data/mimii", ("fan-id_00", "normal", None)),
        ("fan/id_02/abnormal/00000007.wav", "/data/mimii", ("fan-id_02", "anomaly", None)),
        ("6_dB_fan/fan/id_00/normal/00000007.wav", "/data/mimii", ("fan-id_00", "normal", None)),
        ("id_00/normal/00000007.wav", "/data/mimii/fan", ("fan-id_00", "normal", None)),
        ("normal/00000007.wav", "/data/mimii/fan/id_00", (None, "normal", None)),
        # DCASE 2020 and later.
        ("fan/train/normal_id_00_00000007.wav", "/data/dcase", ("fan-id_00", "normal", "train")),
        ("test/anomaly_id_06_00000007.wav", "/data/dcase/ToyCar", ("ToyCar-id_06", "anomaly", "test")),
        ("anomaly_id_06_00000007.wav", "/data/dcase/ToyCar/test", ("ToyCar-id_06", "anomaly", None)),
        (
            "fan/train/section_00_source_train_normal_0000_strength_1_ambient_no_fault.wav",
            "/data/dcase",
            ("fan-section_00", "normal", "train"),
        ),
        ("section_01_target_test_anomaly_0007.wav", "/data/fan", ("fan-section_01", "anomaly", "test")),
        ("section_01_target_test_anomaly_0007.wav", "/", ("section_01", "anomaly", "test")),
    ],
)
def test_paths_tell_machine_label_and_part(name: str, folder: str, expected: tuple[str | None, ...]):
    found = path_info(name, Path(folder))
    assert (found.machine, found.label, found.split) == expected


@pytest.mark.parametrize(
    ("folder", "machine"),
    [
        ("/data/plant/pump-1", "pump-1"),
        ("/data/plant/pump-1/test", "pump-1"),
        ("/data/plant/Pump 1/Test/normal", "Pump-1"),
        ("/data/mimii/fan/id_00", "fan-id_00"),
        ("/data/mimii/fan/id_00/abnormal", "fan-id_00"),
        ("/data/plant/pump-1/2024-05-01", "pump-1"),
        ("/data/plant/pump-1/2024/05/01/normal", "pump-1"),
        ("/2024-05-01", None),
        ("/test/normal", None),
        ("/", None),
    ],
)
def test_folders_tell_whose_they_are(folder: str, machine: str | None):
    assert home_machine(Path(folder)) == machine


@pytest.mark.parametrize(
    ("name", "machine"),
    [
        ("Pump 7", "Pump-7"),
        ("Lüfter-1", "Luefter-1"),
        ("Lu\u0308fter-1", "Luefter-1"),  # as macOS writes it
        ("Größe_ÖÄß", "Groesse_OeAess"),
        ("pompe à eau", "pompe-a-eau"),
        ("Pump (7) #2", "Pump-7-2"),
        ("Łódź", "Lodz"),
        ("Pump7", "Pump7"),
        ("-x-", "-x-"),  # allowed as it is
    ],
)
def test_folders_names_become_ids(name: str, machine: str):
    assert machine_id(name) == machine


@pytest.mark.parametrize("name", ["泵-7", "насос 1", "()", "x" * 129, "№ ½ 泵"])
def test_names_without_a_counterpart_are_refused_and_say_what_helps(name: str):
    with pytest.raises(RecordingError, match=r"--machine, or --pattern"):
        machine_id(name)


@given(st.text(min_size=1, max_size=60))
def test_ids_are_allowed_on_the_wire_or_refused_and_stay_as_they_are(name: str):
    try:
        found = machine_id(name)
    except RecordingError:
        return
    assert MACHINE_ID.fullmatch(found)
    assert machine_id(found) == found


RECORDED_US = 1_769_857_200_000_000


def frame(machine: str, source: str, after_us: int) -> FrameRecord:
    value = encoded(noise())
    headers = tuple(frame_headers(machine, source, RECORDED_US + after_us, value, 0))
    return FrameRecord(machine.encode(), value, headers, RECORDED_US // 1000 + 1000, "frames")


def _namer(folder: Path = Path("/data/plant"), **naming) -> MetadataResolver:
    return MetadataResolver(folder, Naming(**naming))


def test_two_folders_are_never_one_machine():
    namer = _namer()
    assert [namer.known(f"{one}/1.wav").machine for one in ("Pump 7", "Pump 8")] == ["Pump-7", "Pump-8"]
    with pytest.raises(RecordingError, match=r"'Pump 7' and 'Pump-7' would both be machine 'Pump-7'"):
        namer.known("Pump-7/1.wav")
    with pytest.raises(RecordingError, match=r"'Pump 8' and 'Pump \(8\)'"):
        namer.known("Pump (8)/1.wav")
    assert _namer(machine="x").known("泵/1.wav").machine == "x"


def test_what_became_of_names_is_told():
    namer = _namer()
    for name in ("Pump 7/1.wav", "fan/1.wav", "hall/pump-1/1.wav", "hall/pump-2/1.wav", "Fan/2024-01-31/1.wav"):
        namer.known(name)
    notes = "\n".join(namer.notes())
    assert "machine Pump-7 is the folder 'Pump 7'" in notes
    assert re.search(r"machine hall has recordings in 2 folders \(pump-1, pump-2\).*--pattern", notes)
    assert "fan and Fan are taken as different machines" in notes
    assert len(namer.notes()) == 3


@pytest.mark.parametrize(
    ("names", "note"),
    [
        ([f"{pump}_2024-05-01_10-00-0{s}" for pump in ("pump-1", "pump-2") for s in (0, 1)], "'{machine}_{time}'"),
        ([f"2024-05-01/normal_{pump}_{s:04}" for pump in ("pump-1", "pump-2") for s in (0, 1)], "'{machine}_*'"),
        ([f"pump-1_2024-05-01_10-00-0{second}" for second in range(4)], None),
        ([f"2024-05-01_10-00-0{second}_pump" for second in range(4)], None),
        (["a_1", "b_1", "c_1"], None),
        ([f"p/{pump}_{s}" for pump in ("a", "b") for s in (0, 1)], None),
    ],
)
def test_names_that_tell_of_several_machines_are_told(names: list[str], note: str | None):
    namer = _namer()
    for name in names:
        namer.known(f"{name}.wav")
    notes = [one for one in namer.notes() if "without a machine begin in 2 ways ('pump-1', 'pump-2')" in one]
    assert len(notes) == (note is not None)
    assert note is None or note in notes[0]


def test_folders_within_a_machine_may_be_faults():
    namer = _namer()
    for name in ("pump-1/before repair/1.wav", "pump-1/after repair/1.wav"):
        namer.known(name)
    assert "machines, or faults?" in "".join(namer.notes())


def test_a_pattern_names_machines_in_its_own_way():
    namer = _namer(pattern="hall/{machine}/{source}_{time}", zone="Europe/Berlin")
    known = namer.known("hall/Pump 7/x_20260131120000.wav")
    assert (known.machine, known.source, known.start) == ("Pump-7", "x", 1_769_857_200_000_000)
    assert "does not match" in (namer.known("odd.wav").unplaced or "")


def test_a_pattern_and_lists_say_how_the_machine_ran(tmp_path: Path):
    namer = _namer(pattern="{machine}/*_{rpm}rpm_{load}pct*")
    assert namer.known("m/x_1478.5rpm_-20pct_7.wav").condition == (1478.5, -20.0)
    assert "does not match" in (namer.known("m/x_0rpm_5pct.wav").unplaced or "")
    labels = tmp_path / "labels.csv"
    labels.write_text("path,label,rpm,load\nm/x_1rpm_2pct.wav,normal,,80\nm/y.wav,normal,1500,\n")
    namer = MetadataResolver(tmp_path, Naming(labels=labels, pattern="{machine}/*_{rpm}rpm_{load}pct*"))
    assert namer.known("m/x_1rpm_2pct.wav").condition == (1.0, 80.0)
    assert MetadataResolver(tmp_path, Naming(labels=labels)).known("m/y.wav").condition == (1500.0, None)
    labels.write_text("path,label,rpm\nm/y.wav,normal,-5\n")
    with pytest.raises(RecordingError, match=r"line 2: rpm is '-5'; expected a number above 0"):
        MetadataResolver(tmp_path, Naming(labels=labels))


@pytest.mark.parametrize("begun_before", [False, True])
def test_whirr_record_keeps_how_the_machine_ran(tmp_path: Path, begun_before: bool):
    if begun_before:  # by a version that knew of no conditions
        (tmp_path / "recordings.csv").write_text("path,time,machine,source,label,frame_id\n")
    value = encoded(noise())
    headers = tuple(frame_headers("pump-1", None, RECORDED_US, value, condition=Condition(1478.5, None)))

    async def records():
        yield FrameRecord(b"pump-1", value, headers, RECORDED_US // 1000)

    asyncio.run(record(records(), tmp_path, "normal"))
    (found,) = find_recordings(tmp_path).recordings
    assert found.condition == Condition(None if begun_before else 1478.5, None)
    assert found.start == RECORDED_US


def test_what_whirr_record_wrote_is_found_again_whatever_the_machines_are_called(tmp_path: Path):
    machines = ["pump-1", "test", "Normal", "ok", "id_00", "..", ".hidden", "a:b", "-", "fault-3", "train"]
    frames = [frame(machine, f"{machine}-sensor", index) for index, machine in enumerate(machines)]

    async def records():
        for one in frames:
            yield one

    asyncio.run(record(records(), tmp_path, "normal"))
    namer = MetadataResolver(tmp_path)
    known = [namer.known(one) for one in walk(tmp_path, (".wav",)) if isinstance(one, str)]
    assert sorted((one.machine, one.source, one.label, one.split, one.start) for one in known) == sorted(
        (machine, f"{machine}-sensor", "normal", None, RECORDED_US + index) for index, machine in enumerate(machines)
    )
    assert find_recordings(tmp_path, on_error="fail").machines == dict.fromkeys(
        (one.machine for one in sorted(known, key=lambda one: sort_key(one.name))), 1
    )
