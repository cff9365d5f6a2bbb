"""A few machines' days through the real services: learnt, in shadow, promoted, broken, repaired, learnt anew."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from uuid import uuid4

import pytest

from benchmarks.season.live import OF_WORKERS, Lived, LiveSeason, live_stories, live_values
from benchmarks.season.person import DAY_US
from benchmarks.season.world import START_US
from schemas import Alert, Score
from schemas.times import parse_rfc3339
from tests.helpers import KafkaUnderTest
from trainer.learning.fleet import Trained
from whirr.settings import Settings

PLANT = {one.machine_id: one for one in live_stories()}
BROKEN, HEALTHY, WORN = PLANT
(FAULT,) = PLANT[BROKEN].faults


def day(one: Alert | Score) -> float:
    return (parse_rfc3339(one.recorded_at) - START_US) / DAY_US


def spells(lived: Lived, machine: str) -> list[tuple[str, float]]:
    """What answered a machine's frames, ``learning`` or a model's version, each with the day from which on."""
    own = sorted((one for one in lived.scores if one.machine_id == machine and not one.shadow), key=day)
    named = ((one.idle_reason or one.model.version, day(one)) for one in own)
    return [(name, next(spell)[1]) for name, spell in groupby(named, key=lambda one: one[0])]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("_kafka_broker", ["embedded"], indirect=True)
@pytest.mark.parametrize("mlflow_settings", ["sqlite"], indirect=True)
async def test_machines_are_learnt_and_learnt_anew_through_the_services_and_live_equals_the_replay(
    kafka: KafkaUnderTest, mlflow_settings: Settings, tmp_path: Path
) -> None:
    values = live_values(tmp_path, f"live{uuid4().hex[:8]}") | {
        "mlflow_tracking_uri": mlflow_settings.mlflow_tracking_uri,
        "mlflow_artifact_location": mlflow_settings.mlflow_artifact_location,
        "recordings_group": f"recorder-{kafka.suffix}",
    }
    lived = await LiveSeason(kafka.settings(**values), tmp_path, list(PLANT.values())).play()
    alerts = [one for one in lived.alerts if one.kind in OF_WORKERS]

    # Each machine is learning until its first model serves it, without a restart; the second one takes over later.
    for machine in PLANT:
        (state, _), (first, learnt), (second, promoted), *_ = spells(lived, machine)
        assert (state, first != second, 1.0 < learnt < promoted < 3.2) == ("learning", True, True)
        shadow = [one for one in lived.scores if one.machine_id == machine and one.shadow]
        assert {one.model.version for one in shadow if day(one) < promoted} == {second}
        assert {one.model.version for one in shadow if promoted <= day(one) < promoted + 1} == {first}  # on probation
    judged_by = {one.frame_id: one.model.version for one in lived.scores if not one.shadow}
    assert all(one.model.version == judged_by[one.frame.frame_id] for one in alerts if one.frame is not None)

    # The fault alarms, and after the repair, which somebody says there was, the machine is learnt anew.
    assert FAULT.repaired_day is not None
    told = sorted((one for one in alerts if one.machine_id == BROKEN), key=day)
    assert next(day(one) for one in told if one.state == "opened") < FAULT.from_day + 0.2
    assert (told[-1].state, told[-1].reason) == ("closed", "repaired")
    assert [one.verdict for one in lived.verdicts] == ["repaired"]
    *_, (state, since), (third, anew) = spells(lived, BROKEN)
    assert (state, since) == ("learning", day(told[-1]))
    assert FAULT.repaired_day + 1 < anew < FAULT.repaired_day + 1.5
    assert third not in [version for version, _ in spells(lived, BROKEN)[:-1]]

    # Wear is told and never learnt, and the healthy machine is quiet.
    trained = [one for _, one in lived.done if isinstance(one, Trained) and one.job.machine_id == WORN]
    assert [one.version for one in trained] == [1, 2]
    assert "(incident)" in trained[1].why
    assert lived.told[WORN]["on"].wear_learnt == 0
    worn = {one.state for one in alerts if one.machine_id == WORN}
    assert worn >= {"changed", "opened", "reminded"}
    assert not {"closed", "settled"} & worn
    assert not [one for one in alerts if one.machine_id == HEALTHY]

    # Live is what a replay of the archive answers, with the verdicts and each champion in its time.
    assert {(one.alert_id, one.state) for one in alerts} == {(one.alert_id, one.state) for one in lived.replayed}
    off, on = lived.amount(PLANT).values()
    assert (on["faults"], on["missed"], on["false_alarms"], on["wear_learnt"], on["retrainings"]) == (2, 0, 0, 0, 4)
    assert (off["promotions"], on["promotions"]) == (3, 7)
