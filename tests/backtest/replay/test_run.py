"""A replay says what the backtest says, however it is run."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest

from backtest.judging import Heeded
from backtest.replay.finding import Finder
from backtest.replay.frame_records import records
from backtest.replay.replay_options import ReplayConfig
from backtest.replay.routing import identity, load
from backtest.replay.run import ReplayObserver, replay
from backtest.score_store import StoredCounts, opened
from backtest.scoring import ScoredBatch, frame_ranges
from commands._replay import notes
from schemas import Alert, DeadLetter, FrameRecord, Score, parse_frame
from schemas.errors import RecordingError, SettingsError
from schemas.times import parse_rfc3339
from schemas.verdict import VERDICT_DELAY_S, VerdictWord
from stream_app.pipeline import Champion, Lineup, Model, backtest
from stream_app.worker.champions import Champions
from tests.backtest.replay.results import alerts, as_json, lines, score_of, scores, told
from tests.helpers import validate_message
from tests.models import NORMAL_RMS, SECOND_US, START_US, conditioned_model, encoded, noise, tiny_metadata, tiny_model
from tests.registered_models import register
from tests.verdicts import said
from trainer.registry import Registry
from whirr.maintenance import MaintenanceWindow
from whirr.settings import Route, load_settings
from whirr.verdicts import read_verdicts


class Counting(ReplayObserver):
    """Counts what is scored; may interrupt."""

    def __init__(self, most: float = float("inf")) -> None:
        self.scored = 0
        self.most = most

    def on_scored(self, answers: ScoredBatch) -> None:
        self.scored += len(answers.frames) + len(answers.letters)
        if self.scored >= self.most:
            raise KeyboardInterrupt


def run(folder: Path, out: Path, champions: Champions, observer: ReplayObserver | None = None, **options):
    return replay(ReplayConfig(folder=folder, out=out, **options), champions, observer or ReplayObserver())


def frames_of(folder: Path, out: Path, champions: Champions) -> list[FrameRecord]:
    """Return a folder's frames as a gateway would have sent them, each stream in the order of time."""
    config = ReplayConfig(folder=folder, out=out)
    with opened(out, {**config.what_scores_depend_on, "model": identity(champions)}) as store:
        Finder(config, store, champions.router, lambda _: None).find()
        found = [cut.record for piece in frame_ranges(store, str(folder)) for cut in records(piece)]
    sent = [record for record in found if record is not None]
    return sorted(sent, key=lambda record: (parse_frame(record).stream, parse_frame(record).recorded_us))


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_scores_alerts_and_dead_letters_are_those_of_the_backtest(
    folder: Path, tmp_path: Path, champions: Champions, jobs: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("backtest.scoring._FRAMES_A_JOB", 1)
    monkeypatch.setattr("backtest.scoring.BATCH_FRAMES", 5)
    summary = run(folder, tmp_path / "out", champions, jobs=jobs)
    assert summary["jobs"] == jobs
    routes = [routed.route for routed in champions.router.routed]
    frames = frames_of(folder, tmp_path / "again", champions)
    answers = list(backtest(frames, champions.router.models, routes))

    assert [score_of(row) for row in scores(tmp_path / "out")] == [told(a) for a in answers if isinstance(a, Score)]
    expected = [as_json(answer) for answer in answers if isinstance(answer, Alert)]
    assert alerts(tmp_path / "out") == expected
    assert {alert["machine_id"] for alert in expected} == {"fan-1", "pump-2"}
    letters = {(a.code, a.record.topic) for a in answers if isinstance(a, DeadLetter)}
    unreadable = {("not_audio", f"fan-1/normal_20260131T{time}.wav") for time in ("130000", "130100")}
    written = {(line["code"], line["file"]) for line in lines(tmp_path / "out" / "dead_letters.jsonl")}
    assert written == letters | unreadable
    assert {code for code, _ in letters} == {"too_short"}
    for line in (tmp_path / "out" / "alerts.jsonl").read_bytes().splitlines():
        validate_message("alert", line)


def test_maintenance_windows_count_where_it_is_known_when_frames_were_recorded(
    folder: Path, tmp_path: Path, champions: Champions
):
    always = MaintenanceWindow(match="*", start="2000-01-01T00:00:00Z", duration="366d", rule="FREQ=MONTHLY")

    def idle(out: str, **options) -> set[str | None]:
        config = ReplayConfig(folder=folder, out=tmp_path / out, **options)
        summary = replay(config, champions, ReplayObserver(), Heeded([always]))
        assert (summary["idle"] > 0) == (summary["incidents"] == 0)
        return {row["idle_reason"] for row in scores(tmp_path / out)}

    assert idle("names") == {"maintenance"}
    assert idle("made-up", times="pace") == {None}
    assert idle("stated", times="pace", start_us=START_US + 1) == {"maintenance"}


def test_champions_have_the_frames_of_their_time_where_it_is_known(tmp_path: Path):
    """Of three recordings two seconds apart, made before a promotion, across it, and after it."""
    settings = load_settings(mlflow_tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}", worker_dir=tmp_path / "worker")
    files = [register(settings, tmp_path, "tiny", version, scale=scale)[1] for version, scale in (("1", 1), ("2", 3))]
    from_us = START_US + 3 * SECOND_US
    Registry(settings).promote("tiny", from_us=from_us)
    folder = tmp_path / "data" / "pump-1"
    folder.mkdir(parents=True)
    for second in (0, 2, 4):
        (folder / f"normal_20260101T00000{second}Z.wav").write_bytes(encoded(noise(2.0, seed=second)))
    route = Route(model="models:/tiny@champion")
    champions = load((route,), settings)
    run(tmp_path / "data", tmp_path / "out", champions)
    found = [row["score"] for row in scores(tmp_path / "out")]
    one, two = map(Model.load, files)
    lineup = Lineup((Champion(0, one), Champion(from_us, two)))
    frames = frames_of(tmp_path / "data", tmp_path / "again", champions)
    expected = list(backtest(frames, {route.model: lineup}, [route]))
    assert found == [answer.score for answer in expected if isinstance(answer, Score)]
    assert [answer.model.version for answer in expected if isinstance(answer, Score)] == ["1"] * 3 + ["2"] * 3
    run(tmp_path / "data", tmp_path / "made-up", champions, times="pace")
    assert [row["score"] for row in scores(tmp_path / "made-up")] == pytest.approx(
        [answer.score for answer in backtest(frames, {route.model: two}, [route]) if isinstance(answer, Score)]
    )
    Registry(settings).rollback("tiny", from_us=from_us + 1)
    assert identity(load((route,), settings)) != identity(champions)


def test_verdicts_count_as_in_the_backtest(folder: Path, tmp_path: Path, champions: Champions):
    """One says half a minute before an incident's second frame that it is a false alarm: it counts from there on."""
    config = ReplayConfig(folder=folder, out=tmp_path / "out")
    replay(config, champions, ReplayObserver())
    before = next(alert for alert in alerts(tmp_path / "out") if alert["state"] == "opened")
    given_us = parse_rfc3339(before["recorded_at"]) + 1 - round(VERDICT_DELAY_S * 1e6)
    verdict = said(before["incident_id"], ("false_alarm", given_us), machine_id=before["machine_id"])
    file = tmp_path / "verdicts.jsonl"
    file.write_bytes(orjson.dumps(verdict) + b"\n\n")
    replay(config, champions, ReplayObserver(), Heeded(verdicts=read_verdicts(file)))
    ended = [alert for alert in alerts(tmp_path / "out") if alert["reason"] == "false_alarm"]
    assert [alert["incident_id"] for alert in ended] == [before["incident_id"]]
    routes = [routed.route for routed in champions.router.routed]
    frames = frames_of(folder, tmp_path / "again", champions)
    answers = backtest(frames, champions.router.models, routes, verdicts=[verdict])
    assert alerts(tmp_path / "out") == [as_json(answer) for answer in answers if isinstance(answer, Alert)]


def test_a_file_that_holds_no_verdicts_is_refused(tmp_path: Path):
    file = tmp_path / "verdicts.jsonl"
    with pytest.raises(SettingsError, match="can't be read"):
        read_verdicts(file)
    file.write_bytes(orjson.dumps(said("aa" * 16, ("seen", 0))) + b"\n{}\n")
    with pytest.raises(SettingsError, match="line 2 is no verdict"):
        read_verdicts(file)


def test_a_log_of_verdicts_tells_what_was_said_before(tmp_path: Path):
    """Also where the verdicts themselves don't: those of versions that had no effects."""
    file = tmp_path / "verdicts.jsonl"
    words: list[tuple[VerdictWord, int]] = [("seen", 0), ("false_alarm", 5_000_000), ("withdrawn", 9_000_000)]
    alone = [said("aa" * 16, word) for word in words]
    file.write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in alone))
    (found,) = read_verdicts(file)
    assert found == replace(alone[-1], before=said("aa" * 16, *words).before)


def test_each_table_without_a_rate_counts_as_a_file(folder: Path, tmp_path: Path, champions: Champions):
    shutil.copytree(folder, tmp_path / "in")
    for number in range(3):
        values = noise(0.01, seed=number)[0]
        (tmp_path / "in" / "fan-1" / f"{number}.csv").write_text("\n".join(map(str, values)))
    summary = run(tmp_path / "in", tmp_path / "out", champions)
    assert summary["files"] == 23 + 3
    assert summary["dead_letters"] == 3 + 1


def test_the_summary_counts_what_an_engineer_asks_for(folder: Path, tmp_path: Path, champions: Champions):
    summary = run(folder, tmp_path / "out", champions)
    assert summary["times"] == "names"
    assert summary["files"] == 23
    assert summary["frames"] == 16 + 4 * 7
    assert summary["dead_letters"] == 3
    assert summary["left_out_s"] == pytest.approx(4 * 0.7, abs=0.1)
    assert (summary["false_alerts"], summary["faults"], summary["faults_found"]) == (0, 3, 3)
    assert summary["recall"] == 1.0
    assert summary["auc"] == 1.0
    # The third of the loud seconds opens; they come every two seconds.
    assert summary["machines"]["fan-1"]["delay_s_median"] == 5.0
    assert summary["audio_s"] == pytest.approx(16 + 4 * 7, abs=0.2)
    assert summary["realtime_factor"] > 0
    rows = scores(tmp_path / "out")
    assert {(row["label"], row["score"] > row["threshold"]) for row in rows} == {("normal", False), ("anomaly", True)}
    assert all((row["bands"] is not None) == (row["score"] > row["threshold"]) for row in rows)
    with (tmp_path / "out" / "scores.csv").open() as text:
        assert sum(1 for _ in text) == len(rows) + 1


def test_an_interrupted_run_goes_on_without_scoring_anything_twice(
    folder: Path, tmp_path: Path, champions: Champions, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("backtest.scoring.BATCH_FRAMES", 3)
    whole = Counting()
    run(folder, tmp_path / "whole", champions, whole)
    first, second = Counting(most=20), Counting()
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path / "out", champions, first)
    assert not (tmp_path / "out" / "scores.parquet").exists()
    run(folder, tmp_path / "out", champions, second)
    assert first.scored + second.scored == whole.scored
    assert scores(tmp_path / "out") == scores(tmp_path / "whole")
    assert alerts(tmp_path / "out") == alerts(tmp_path / "whole")


def test_only_what_is_new_or_changed_is_scored_again(folder: Path, tmp_path: Path, champions: Champions):
    run(folder, tmp_path / "out", champions)
    path = folder / "fan-1" / "test" / "normal_20260131T120002.wav"
    path.write_bytes(encoded(noise(rms=0.5, seed=99)) + b"\0\0")
    (folder / "fan-1" / "test" / "normal_20260131T115900.wav").write_bytes(encoded(noise(seed=100)))
    (folder / "fan-1" / "normal_20260131T130100.wav").unlink()
    again = Counting()
    summary = run(folder, tmp_path / "out", champions, again)
    assert again.scored == 2
    assert summary["files"] == 23
    assert summary["dead_letters"] == 2
    fresh = run(folder, tmp_path / "fresh", champions)
    assert scores(tmp_path / "out") == scores(tmp_path / "fresh")
    assert summary["data_hash"] == fresh["data_hash"]


def test_another_rule_needs_no_scoring(folder: Path, tmp_path: Path, model: Path, champions: Champions):
    run(folder, tmp_path / "out", champions)
    every = load((Route(model=str(model), mode="every"),), load_settings())
    observer = Counting()
    summary = run(folder, tmp_path / "out", every, observer)
    assert observer.scored == 0
    assert summary["realtime_factor"] is None
    assert {alert["state"] for alert in alerts(tmp_path / "out")} == {"anomalous"}
    assert summary["incidents"] == 15


def test_other_scores_are_never_mixed_in(folder: Path, tmp_path: Path, champions: Champions):
    run(folder, tmp_path / "out", champions)
    with pytest.raises(SettingsError, match=r"--frame-s was None, now 0\.5.*--restart"):
        run(folder, tmp_path / "out", champions, frame_s=0.5)
    with pytest.raises(SettingsError, match="shorter than the window"):
        run(folder, tmp_path / "out", champions, frame_s=0.5, restart=True)


def test_what_can_not_be_used_was_not_scored_before(folder: Path, tmp_path: Path, champions: Champions):
    scored: list[int] = []

    class Looking(ReplayObserver):
        def on_found(self, counts: StoredCounts, jobs: int) -> None:
            scored.append(counts.scored)

    frames = run(folder, tmp_path / "out", champions, Looking())["frames"]
    run(folder, tmp_path / "out", champions, Looking())
    assert scored == [0, frames]


def test_a_damaged_store_is_named_with_the_way_out(folder: Path, tmp_path: Path, champions: Champions):
    run(folder, tmp_path / "out", champions)
    (tmp_path / "out" / "replay.db").write_bytes(b"something else entirely" * 100)
    with pytest.raises(SettingsError, match=r"replay\.db is damaged .*--restart"):
        run(folder, tmp_path / "out", champions)


def test_two_runs_in_one_folder_are_refused(folder: Path, tmp_path: Path, champions: Champions):
    with opened(tmp_path / "out", {}), pytest.raises(SettingsError, match="another replay"):
        run(folder, tmp_path / "out", champions)


def test_recordings_that_overlap_are_late_as_live(tmp_path: Path, champions: Champions):
    folder = tmp_path / "overlapping"
    (folder / "pump-1").mkdir(parents=True)
    for second in (0, 2):
        name = f"normal_{(START_US // 1_000_000 + second)}.wav"
        (folder / "pump-1" / name).write_bytes(encoded(noise(4.0, seed=second)))
    summary = run(folder, tmp_path / "out", champions)
    assert (summary["frames"], summary["late"]) == (8, 2)
    routes = [routed.route for routed in champions.router.routed]
    frames = frames_of(folder, tmp_path / "again", champions)
    expected = [told(a) for a in backtest(frames, champions.router.models, routes) if isinstance(a, Score)]
    assert [score_of(row) for row in scores(tmp_path / "out")] == expected


def test_how_the_machine_ran_counts_as_in_the_backtest(tmp_path: Path) -> None:
    routed = load((Route(model=str(conditioned_model(tmp_path / "conditioned.onnx"))),), load_settings())
    folder = tmp_path / "recordings" / "fan-1"
    folder.mkdir(parents=True)
    for number, load_ in enumerate((50, 80, 100, 130)):
        samples = noise(2.0, rms=NORMAL_RMS * np.exp((load_ - 50) / 40), seed=number)
        (folder / f"normal_20260131T1200{3 * number:02}_{load_}pct.wav").write_bytes(encoded(samples))
    pattern = "{machine}/*_{time}_{load}pct"
    summary = run(folder.parent, tmp_path / "out", routed, jobs=1, pattern=pattern)
    found = [row["score"] for row in scores(tmp_path / "out")]
    assert max(found[:6]) < 1 < min(found[6:])
    assert summary["machines"]["fan-1"]["unfamiliar"] == {"condition": 2}
    assert "2 frames are at speeds or loads beyond those that the model learnt from (fan-1)" in " ".join(notes(summary))
    assert not [note for note in notes(summary) if "judged without" in note]
    # Without the pattern nothing is known of the loads.
    untold = run(folder.parent, tmp_path / "untold", routed, jobs=1)
    assert "8 of 8 frames don't state the speed or load that their model judges by: judged without" in notes(untold)
    assert [row["score"] < 1 for row in scores(tmp_path / "untold")] == [True] * 2 + [False] * 6


def test_what_the_model_was_not_trained_for_is_told(folder: Path, tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "fan.onnx", tiny_metadata(machines=("fan-1",)))
    (folder / "fan-1" / "normal_20260131T140000.wav").write_bytes(encoded(noise(rate_hz=8_000), 8_000))
    summary = run(folder, tmp_path / "out", load((Route(model=str(model)),), load_settings()), jobs=1)
    assert summary["machines"]["fan-1"]["unfamiliar"]["rate"] == 1
    assert "machine" not in summary["machines"]["fan-1"]["unfamiliar"]
    assert summary["machines"]["pump-2"]["unfamiliar"]["machine"] == summary["machines"]["pump-2"]["frames"]
    told_to_people = " ".join(notes(summary))
    assert "of machines that the model was not trained on (pump-2)" in told_to_people
    assert "1 frame is of recordings whose sample rate leaves the model's highest bands empty (fan-1)" in told_to_people


def test_frames_that_a_route_refuses_are_dead_letters_and_change_what_stored_scores_are_worth(
    folder: Path, tmp_path: Path
) -> None:
    model = str(tiny_model(tmp_path / "fan.onnx", tiny_metadata(machines=("fan-1",))))
    refusing = load((Route(model=model, refuse_unfamiliar=("machine",)),), load_settings())
    summary = run(folder, tmp_path / "out", refusing, jobs=1)
    assert summary["dead_letter_codes"]["unfamiliar"] > 0
    assert "pump-2" not in summary["machines"]
    with pytest.raises(SettingsError, match="refuses another machine"):
        run(folder, tmp_path / "out", load((Route(model=model),), load_settings()), jobs=1)


def test_a_restart_with_a_folder_that_is_none_forgets_nothing(folder: Path, tmp_path: Path, champions: Champions):
    run(folder, tmp_path / "out", champions)
    with pytest.raises(RecordingError, match="is no folder"):
        run(tmp_path / "mistyped", tmp_path / "out", champions, restart=True)
    again = Counting()
    run(folder, tmp_path / "out", champions, again)
    assert again.scored == 0
