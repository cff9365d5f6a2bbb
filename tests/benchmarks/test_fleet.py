"""The plan and the simulation of a fleet: what docs/scale.md says."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import orjson
import pytest
from aiokafka.partitioner import murmur2 as reference
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.fleet.__main__ import main
from benchmarks.fleet.plan import GROUP_BYTES, Assumptions, Plan, limits, reached_at
from benchmarks.fleet.simulation import Placement, failure, machine_keys, murmur2, placed, waits
from benchmarks.fleet.sizes import Sizes, group_bytes, measured
from schemas.frame import MAX_VALUE_BYTES
from tests.helpers import REPOSITORY

SIZES = Sizes(header=200, flac_share=0.5, score=600, alert=1800, state=500, series=100)
FLEET = Assumptions(sensors=20_000, every_s=10.0, worker_frames_per_second=500.0)


def plan(**changes: float) -> Plan:
    return Plan(replace(FLEET, **changes), SIZES)


_PREFIXES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}


def _apart(text: str) -> tuple[str, list[float]]:
    """Return a text without its numbers, and these; how far apart columns stand is no matter."""
    found = re.findall(r"(\d[\d,]*(?:\.\d+)?)(?: ([kMGTP])(?![a-z]))?", text)
    words = re.sub(r"\d[\d,]*(?:\.\d+)?(?: [kMGTP](?![a-z]))?", "#", text)
    return " ".join(words.split()), [float(number.replace(",", "")) * _PREFIXES[prefix] for number, prefix in found]


def test_the_page_holds_what_the_command_prints_to_a_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    page = (REPOSITORY / "docs" / "scale.md").read_text("utf-8")
    (block,) = re.findall(r"<!-- make fleet -->\n```text\n(.*?)\n```", page, re.DOTALL)
    printed = main([])
    (words, numbers), (words_now, numbers_now) = _apart(block), _apart("\n".join(printed))
    told = "run: make fleet ARGS='--page docs/scale.md'"
    assert words == words_now, told
    assert numbers == pytest.approx(numbers_now, rel=0.1, abs=2), told  # a metric more, another release of a library
    figures = orjson.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["sensors"] == 1_000_000
    assert figures["largest_group"] < 100


def test_sizes_are_those_of_messages_and_none_of_them_is_forgotten() -> None:
    sizes = measured()
    assert 0.1 < sizes.flac_share < 1
    for size in (sizes.header, sizes.score, sizes.alert, sizes.state, sizes.series):
        assert 50 < size < MAX_VALUE_BYTES


def test_the_record_of_a_group_grows_faster_than_the_group() -> None:
    assert group_bytes(20, 80) > 3 * group_bytes(10, 40)
    one = plan()
    assert group_bytes(one.largest_group, one.largest_group * 4) <= GROUP_BYTES
    assert group_bytes(one.largest_group + 2, (one.largest_group + 2) * 4) > GROUP_BYTES


def test_a_fleet_takes_what_its_frames_ask_for() -> None:
    one = plan()
    assert one.frames_per_second == 2000
    assert one.workers == math.ceil(2000 / (500 * 0.6))
    assert one.partitions == 4 * one.workers
    assert plan(every_s=1.0).workers == pytest.approx(10 * one.workers, abs=10)
    assert plan(frame_s=2.0).workers == 2 * one.workers
    assert plan(rate_hz=32_000.0).worker_rate == one.worker_rate / 2
    assert plan(packed=1.0).frame_bytes == 44 + 32_000 + SIZES.header
    assert plan(frames_retention_h=144.0).frames_bytes == 2 * one.frames_bytes
    assert plan(sensors=40_000, sensors_a_machine=2).look_s == one.look_s


def test_a_limit_is_passed_with_one_more_sensor_or_so() -> None:
    here = plan()
    for limit in limits(here):
        sensors = reached_at(limit, here)
        if sensors is not None and sensors > 1:
            assert limit.used(plan(sensors=sensors * 1.001)) > limit.most, limit.name
            assert limit.used(plan(sensors=max(1, int(sensors * 0.999) - 1))) <= limit.most, limit.name


@given(st.binary(max_size=40))
def test_keys_are_placed_as_producers_place_them(key: bytes) -> None:
    ours = murmur2(np.frombuffer(key * 3, np.uint8).reshape(3, len(key)))
    assert ours.tolist() == [reference(key) & 0xFFFFFFFF] * 3


def test_machines_have_ids_of_their_own() -> None:
    keys = [bytes(key) for key in machine_keys(12_345)]
    assert keys[12_344] == b"plant-0012.pump-0012344"
    assert len(set(keys)) == 12_345


def test_sensors_of_one_machine_share_its_partition() -> None:
    alone, together = placed(plan()), placed(plan(sensors_a_machine=4))
    assert len(alone.partition) == len(together.partition) == 20_000
    assert (together.partition.reshape(-1, 4) == together.partition[::4, np.newaxis]).all()
    assert together.worker_skew > alone.worker_skew >= 1


def _one_by_one(moments: np.ndarray, period_s: float, service_s: float) -> list[float]:
    """Serve the frames of one worker, period after period, as they come."""
    free_s, taken = 0.0, []
    for period in range(5):
        taken = []
        for moment in np.sort(moments) + period * period_s:
            free_s = max(free_s, moment) + service_s
            taken.append(free_s - moment)
    return taken


@pytest.mark.parametrize("spread_s", [10.0, 0.5])
def test_frames_wait_as_long_as_if_each_were_served_in_turn(spread_s: float) -> None:
    one = plan(sensors=3000, busy=0.95)
    placement = placed(one)
    found = waits(one, placement, spread_s)
    assert found is not None
    worker = placement.worker[placement.partition]
    moments = np.random.default_rng(15).uniform(0, spread_s, len(worker))
    taken = [_one_by_one(moments[worker == number], 10.0, 1 / 500) for number in range(one.workers)]
    flat = np.concatenate(taken)
    assert found == pytest.approx((*np.percentile(flat, [50, 99]), flat.max()))


def test_more_than_a_worker_can_do_is_told() -> None:
    one = plan(sensors=6000, busy=1.2)
    assert waits(one, placed(one), one.given.every_s) is None


def test_a_workers_partitions_go_to_several_others() -> None:
    one = plan()
    four = failure(one, placed(one))
    assert four.still_s == pytest.approx(10 + 2, abs=0.2)
    assert 0.6 < four.busiest < 1
    assert 0 < four.caught_up_s < math.inf
    # With a partition each, one other takes all of it, and can't.
    lonely = plan(partitions_a_worker=1)
    alone = failure(lonely, placed(lonely))
    assert alone.busiest > 1
    assert alone.caught_up_s == math.inf


def test_a_worker_that_is_alone_has_nobody_to_take_over() -> None:
    one = plan(sensors=100)
    placement = Placement(np.zeros(100, np.int64), np.zeros(4, np.int64), 1.0, 1.0)
    assert failure(one, placement).caught_up_s == math.inf
