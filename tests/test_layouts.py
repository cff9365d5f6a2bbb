"""What the path of a recording says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from whirr.layouts import Place, label_of, machine_of, place


@pytest.mark.parametrize(
    ("name", "folder", "expected"),
    [
        # A folder for each machine, and one machine alone.
        ("pump-1/train/7.wav", "/data/plant", Place("pump-1", None, "train")),
        ("pump-1/test/anomaly_7.wav", "/data/plant", Place("pump-1", "anomaly", "test")),
        ("b/deep/2.flac", "/data/plant", Place("b", None, None)),
        ("normal/7.wav", "/data", Place(None, "normal", None)),
        ("test/abnormal_7.wav", "/data", Place(None, "anomaly", "test")),
        ("a b/5.wav", "/data/plant", Place(None, None, None)),
        # MIMII, as it is unpacked, with the folder of one noise level around it, and one unit alone.
        ("fan/id_00/normal/00000007.wav", "/data/mimii", Place("fan-id_00", "normal", None)),
        ("fan/id_02/abnormal/00000007.wav", "/data/mimii", Place("fan-id_02", "anomaly", None)),
        ("6_dB_fan/fan/id_00/normal/00000007.wav", "/data/mimii", Place("fan-id_00", "normal", None)),
        ("id_00/normal/00000007.wav", "/data/mimii/fan", Place("fan-id_00", "normal", None)),
        ("normal/00000007.wav", "/data/mimii/fan/id_00", Place(None, "normal", None)),
        # DCASE 2020 and later.
        ("fan/train/normal_id_00_00000007.wav", "/data/dcase", Place("fan-id_00", "normal", "train")),
        ("test/anomaly_id_06_00000007.wav", "/data/dcase/ToyCar", Place("ToyCar-id_06", "anomaly", "test")),
        ("anomaly_id_06_00000007.wav", "/data/dcase/ToyCar/test", Place("ToyCar-id_06", "anomaly", None)),
        (
            "fan/train/section_00_source_train_normal_0000_strength_1_ambient.wav",
            "/data/dcase",
            Place("fan-section_00", "normal", "train"),
        ),
        ("section_01_target_test_anomaly_0007.wav", "/data/fan", Place("fan-section_01", "anomaly", "test")),
        ("section_01_target_test_anomaly_0007.wav", "/", Place("section_01", "anomaly", "test")),
    ],
)
def test_paths_tell_machine_label_and_part(name: str, folder: str, expected: Place) -> None:
    assert place(name, Path(folder)) == expected


def test_the_folders_looked_in_tell_the_machine_where_the_path_does_not() -> None:
    assert machine_of("normal/00000007.wav", Path("/data/mimii/fan/id_00")) == "fan-id_00"
    assert machine_of("00000007.wav", Path("/data/mimii/fan/id_00/abnormal")) == "fan-id_00"


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("normal_id_00_00000000.wav", "normal"),
        ("anomaly_id_00_00000000.wav", "anomaly"),
        ("abnormal_03.flac", "anomaly"),  # contains "normal"
        ("pump/test/Abnormal-03.WAV", "anomaly"),
        ("2024_pump3_ANOMALOUS.ogg", "anomaly"),
        ("fan/anomalies/00000000.wav", "anomaly"),
        ("fan/id_00/abnormal/00000000.wav", "anomaly"),
        ("fan/id_00/normal/00000000.wav", "normal"),
        ("anomaly/normal_07.wav", "normal"),  # the file's own name counts first
        ("test/normal/12.wav", "normal"),
        ("normaliser-2/test/12.wav", None),  # a machine, not a label
        ("fan/test/12.wav", None),
        ("12.normal.wav", "normal"),
        ("12.normal", None),
    ],
)
def test_names_tell_labels(name: str, label: str | None) -> None:
    assert label_of(name) == label


@pytest.mark.parametrize(
    ("name", "folder", "machine"),
    [
        ("pump-1/test/normal_1.wav", "/data/plant", "pump-1"),
        ("pump-1/normal_1.wav", "/data/plant", "pump-1"),
        ("normal_1.wav", "/data/plant/pump-1", "pump-1"),
        ("normal/1.wav", "/data/plant/pump-1", "pump-1"),
        ("test/normal_1.wav", "/data/plant/pump-1", "pump-1"),
        ("normal_1.wav", "/data/plant/pump-1/test", "pump-1"),
        ("normal_1.wav", "/test/normal", "machine"),
        ("a b/normal_1.wav", "/data/plant", "plant"),  # no machine id
    ],
)
def test_folders_tell_machines(name: str, folder: str, machine: str) -> None:
    assert machine_of(name, Path(folder)) == machine
