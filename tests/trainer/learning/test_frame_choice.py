"""Which archived frames are learnt."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from tests.archive.kept import MACHINE, entry
from tests.models import START_US
from trainer.learning.frame_choice import learnable, represent, usual_interval_s
from trainer.learning.machine_incidents import Unlearnable
from trainer.learning.spans import Span
from whirr.maintenance import Maintenance, MaintenanceWindow


def test_a_frame_that_reaches_into_what_is_left_out_is_left_out():
    entries = [entry(number) for number in range(5)]
    span = Span(entries[1].recorded_us + 500_000, entries[3].recorded_us)
    found = learnable(entries, [Unlearnable(span, "incident")])
    assert found.entries == [entries[0], *entries[3:]]
    assert found.left_out == {"incident": 2}
    quiet = [*entries, entry(9, level_db=-80.0)]
    assert learnable(quiet, [], running_dbfs=-60.0).left_out == {"idle": 1}
    window = MaintenanceWindow(match=MACHINE, start=datetime.fromtimestamp(START_US / 1e6 + 1, UTC), duration="2s")
    assert learnable(entries, [], maintenance=Maintenance([window])).left_out == {"maintenance": 2}


def test_few_stand_for_all_of_the_time_and_for_each_state():
    entries = [entry(60.0 * number) for number in range(2000)]
    rare = entries[777]
    entries[777] = replace(rare, spectrum=tuple(one + 40 for one in rare.spectrum))
    found = represent(entries, 200)
    assert len(found) == 200
    assert found == sorted(found, key=lambda one: one.recorded_us)
    assert 777 * 60 in {(one.recorded_us - entries[0].recorded_us) // 1_000_000 for one in found}
    quarters = [sum(one.recorded_us < entries[500 * part - 1].recorded_us for one in found) for part in (1, 2, 3)]
    assert all(abs(count - 50 * part) <= 10 for part, count in enumerate(quarters, 1))
    assert represent(entries[:150], 200) == entries[:150]


def test_each_stream_has_its_share():
    entries = [entry(2.0 * number + side, source="ab"[side]) for number in range(500) for side in (0, 1)]
    found = represent(entries, 100)
    assert [sum(one.source == side for one in found) for side in "ab"] == [50, 50]


def test_how_far_apart_frames_come_is_asked_of_those_that_nothing_was_thinned_of():
    thinned = [entry(3600.0 * number) for number in range(100)]
    recent = [entry(3600.0 * 100 + 30 * number) for number in range(100)]
    assert usual_interval_s([*thinned, *recent]) == 30.0
    assert usual_interval_s(thinned) == 3600.0
    assert usual_interval_s(thinned[:5]) is None
