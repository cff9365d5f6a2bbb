"""Which label and part names say, and when they say none, or two."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recordings.layout import label_of
from recordings.name_words import LABEL_OF_WORD, AmbiguousLabel, folder_name, label_in

DOCS = Path(__file__).parents[2] / "docs" / "datasets.md"


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
        ("test/normal/12.wav", "normal"),
        ("Test/Normal/12.wav", "normal"),
        ("normal recordings/12.wav", "normal"),
        ("abnormal_02/12.wav", "anomaly"),
        ("train_normal/12.wav", "normal"),
        ("normaliser-2/test/12.wav", None),  # a machine, not a label
        ("fan/test/12.wav", None),
        ("ok-1/test/12.wav", None),
        ("12.normal.wav", "normal"),
        ("12.normal", None),
        # At the end, with a counter, in humps.
        ("000_normal.wav", "normal"),
        ("100_anomaly.wav", "anomaly"),
        ("pump7Anomaly03.wav", "anomaly"),
        ("testNormal.wav", "normal"),
        ("FAULTY7.wav", "anomaly"),
        ("bearing_fault_3.wav", "anomaly"),
        ("OK/0001.wav", "normal"),
        ("NG/0001.wav", "anomaly"),
        # Words that other names have too.
        ("bad.wav", "anomaly"),
        ("pump_7_bad_001.wav", "anomaly"),
        ("rec_014_bad_recording.wav", "anomaly"),
        ("normal/bad_homburg_1.wav", "normal"),
        ("anomaly/bad_bearing_1.wav", "anomaly"),
        ("ok_pump_3.wav", "normal"),
        ("station_ok_city_3.wav", None),
        ("compressor_ng_line_3.wav", None),
        ("compressor_3_ng.wav", "anomaly"),
        ("leak-test-3/7.wav", None),
        ("leak tester/7.wav", None),
        ("wear-plate-2/7.wav", None),
        ("leak_2/7.wav", "anomaly"),
        ("kaputt/7.wav", "anomaly"),
        ("gut/7.wav", "normal"),
        ("no.7_normal.wav", "normal"),  # a number, no negation
        ("a_normal_1.wav", "normal"),
        # "normal" within another word that is no label.
        ("clip_normalized.wav", None),
        ("renamed_default.wav", None),
        ("test/normal/clip_0_normalized.wav", "normal"),
        ("test/anomaly/clip_0_normalised.wav", "anomaly"),
        # Digests and UUIDs spell words by chance.
        ("pump-7/20260101T033000.000000Z_797bad1b5b6d1a552dbecc58e0fa0280.flac", None),
        ("pump-7/20260101T033000.000000Z_7976311b5b6d1a552dbecc58e0fa0bad.flac", None),
        ("pump-7/797BAD1B5B6D1A552DBECC58E0FA0280_normal.flac", "normal"),
        ("pump-7/3f2504e0-4bad-11d3-9a0c-0305e82c3301.wav", None),
        ("pump-7/3f2504e0_bad.wav", "anomaly"),
        # Name and folder agree, whatever else the folder says.
        ("pump-7_faulty/fault_1.wav", "anomaly"),
    ],
)
def test_names_tell_labels(name: str, label: str | None):
    assert label_of(name) == label


@pytest.mark.parametrize(
    "name",
    [
        "unnormal.wav", "not_normal.wav", "notNormal_3.wav", "non-normal.wav", "Non Normal.wav", "no_anomaly.wav",
        "noAnomaly.wav", "without_anomaly.wav", "without-any-anomaly.wav", "anomaly-free.wav", "fault free.wav",
        "faultless.wav", "ab_normal.wav", "AbNormal.wav", "nearly normal.wav", "subnormal.wav", "nofault.wav",
        "pumpnormal.wav", "normal_vs_anomaly.wav", "ok_or_faulty.wav",
        "anomaly/normal_07.wav", "normal/anomaly_07.wav", "normal/100_faulty.wav", "OK/ng_3.wav",
        "normal/anomaly/3.wav", "not normal/3.wav", "no_anomaly/3.wav",
        "bad_homburg_1.wav", "pump_bad_homburg_1.wav", "leak_tester_1.wav", "lagerschaden_3.wav",
        "pump-7_cavitation/3.wav", "pump 7 bad/3.wav",
        "pump-7_faulty/3.wav", "inner race fault/normal_load_3.wav", "pump-7 normal/3.wav",
    ],
)  # fmt: skip
def test_what_would_have_to_be_guessed_is_unclear(name: str):
    assert isinstance(label_of(name), AmbiguousLabel)


def test_a_contradiction_says_what_says_what():
    said = label_of("plant/anomaly/normal_07.wav")
    assert said == AmbiguousLabel("its name says normal, folder 'anomaly' says anomaly")


@pytest.mark.parametrize(
    ("name", "part", "is_role"),
    [
        ("train", "train", True),
        ("Train", "train", True),
        ("TEST", "test", True),
        ("training", "train", True),
        ("test data", "test", True),
        ("validation", "test", True),
        ("train_normal", "train", True),
        ("test_rig", None, False),  # a machine
        ("test-2", None, False),
        ("normal_2", None, True),
        ("trainer", None, False),
        ("valve", None, False),
    ],
)
def test_folders_are_named_for_parts_in_any_case(name: str, part: str | None, is_role: bool):
    found = folder_name(name)
    assert (found.split, found.is_role) == (part, is_role)


def test_the_words_are_those_of_the_documentation():
    rows = dict(re.findall(r"^\| (normal|anomaly) \| (`.*`) \|$", DOCS.read_text(), re.MULTILINE))
    documented = {word: label for label, words in rows.items() for word in re.findall(r"`(\w+)`", words)}
    assert documented == LABEL_OF_WORD


@given(
    word=st.sampled_from(sorted(LABEL_OF_WORD)),
    spelt=st.sampled_from([str.lower, str.upper, str.capitalize]),
    before=st.sampled_from(["", "pump_", "7-", "001 ", "Press.12_"]),
    after=st.sampled_from(["", "_7", "-001", " 2", ".3", "12"]),
)
def test_a_word_is_found_wherever_it_stands(word, spelt, before, after):
    assert label_in(before + spelt(word) + after) == LABEL_OF_WORD[word]


@given(st.text(max_size=60))
def test_any_name_has_an_answer(text: str):
    label_of(text)
    folder_name(text)
