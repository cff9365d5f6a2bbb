"""The page of a replay: what it says, and that it works in a browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from backtest.replay.replay_options import ReplayConfig
from backtest.replay.routing import load, routes_of
from backtest.replay.run import ReplayObserver, replay
from backtest.report.charts import apart
from backtest.report.moments import moment
from backtest.report.replay import (
    SHOWN_POINTS,
    ReplayResults,
    When,
    _auc_tile,
    _incidents,
    _spans,
    course,
    moments_wanted,
    read_results,
    replay_page,
    write_report,
)
from backtest.streams import NORMAL, ScoredStream
from schemas.errors import RecordingError, SettingsError
from stream_app.worker.champions import Champions
from tests.browser import shown_in_browser
from tests.models import NORMAL_RMS
from tests.registered_models import sound_model
from whirr.settings import Settings

RATE_HZ = 16_000


def _recordings(folder: Path) -> None:
    rng = np.random.default_rng(4)
    for machine in ("pump-1", "pump-2"):
        for number in range(8):
            faulty = machine == "pump-1" and number >= 5
            samples = rng.normal(0, 0.3 if faulty else NORMAL_RMS, 4 * RATE_HZ)
            if faulty:
                samples += np.sin(2 * np.pi * 3000 * np.arange(len(samples)) / RATE_HZ) * 0.4
            path = folder / machine / f"{'anomaly' if faulty else 'normal'}_{number:02}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, np.clip(samples, -1, 1), RATE_HZ, subtype="PCM_16")


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Champions]:
    """Return a folder with ``data``, its results in ``out`` and the page of it, and the models."""
    folder = tmp_path_factory.mktemp("replayed")
    _recordings(folder / "data")
    model = sound_model(folder / "model.onnx", "tiny")
    settings = Settings()
    champions = load(routes_of(settings, str(model), use_routes=False), settings)
    replay(ReplayConfig(folder=folder / "data", out=folder / "out", jobs=1), champions, ReplayObserver())
    command = ["whirr", "replay", "a & b"]
    write_report(folder / "out", folder / "data", champions.router, folder / "report.html", command)
    return folder, champions


@pytest.fixture(scope="module")
def hostile(replayed: tuple[Path, Champions], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the page of recordings whose names would be code, if the page let them."""
    folder, champions = tmp_path_factory.mktemp("hostile"), replayed[1]
    names = ("normal_<!--<script>", "x</script><b>_normal", "normal_<img src=x onerror=console.log(1)>")
    for name in (*names, "normal_a\u202eb\u2028c&d", "anomaly_1"):
        path = folder / "data" / "pump-1" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(4)
        soundfile.write(path, rng.normal(0, NORMAL_RMS, 2 * RATE_HZ), RATE_HZ, subtype="PCM_16")
    replay(ReplayConfig(folder=folder / "data", out=folder / "out", jobs=1), champions, ReplayObserver())
    write_report(folder / "out", folder / "data", champions.router, folder / "report.html", ["whirr", "<!--<script>"])
    return folder


def test_the_page_holds_everything_and_fetches_nothing(replayed: tuple[Path, Champions]) -> None:
    text = (replayed[0] / "report.html").read_text()
    assert not re.search(r'(?:src|href)="(?!data:|#)', text)
    assert "http" not in re.sub(r'"data:[^"]*"', "", text)
    assert "whirr replay &#39;a &amp; b&#39;" in text
    summary = read_results(replayed[0] / "out").summary
    assert summary["data_hash"] in text
    assert summary["routes"][0]["sha256"] in text
    assert "1 of 1" in text  # faults found


def test_incidents_and_early_findings_are_told_in_words_that_fit_their_number() -> None:
    told = {"incidents": 1, "early_findings": 0, "false_early": 0}
    assert _incidents(told) == "of 1 incident"
    assert _incidents({**told, "early_findings": 1, "false_early": None}) == "of 1 incident; 1 early finding"
    assert _incidents({"incidents": 2, "early_findings": 3, "false_early": 1}) == (
        "of 2 incidents; false early findings: 1 of 3"
    )


def test_alerts_of_all_machines_are_listed_in_order_of_time(replayed: tuple[Path, Champions]) -> None:
    read = read_results(replayed[0] / "out")
    (first,) = (alert for alert in read.alerts if alert["state"] == "opened")
    sooner = {**first, "alert_id": "sooner", "recorded_at": "2020-01-01T00:00:00Z", "severity": "warning"}
    page = replay_page(ReplayResults(read.streams, [first, sooner], read.summary), [], 0, [])
    listed = re.findall(r"<b>pump-1</b>, (\w+)", page)
    assert listed == ["warning", "critical"]


def test_shares_of_bands_that_lie_close_do_not_overprint() -> None:
    assert apart([1.0, 1.5, 9.0], 2.0) == [1.0, 3.0, 9.0]
    assert apart([], 2.0) == []


def test_the_moment_of_an_alert_is_the_signal_around_it(replayed: tuple[Path, Champions]) -> None:
    folder, champions = replayed
    read = read_results(folder / "out")
    (alert,) = moments_wanted(read.alerts, 10)
    stream = next(one for one in read.streams if one.machine == "pump-1")
    found = moment(alert, stream, champions.router.find("pump-1").model, folder / "data")
    assert found is not None
    # The third faulty second, with four before it and two after.
    assert (found.seconds, found.at_s, found.name) == (7.0, (4.0, 5.0), "pump-1/anomaly_05.wav")
    level = found.log_mel.mean(axis=0)
    columns = len(level) // 7
    assert level[: 2 * columns - 2].max() < level[2 * columns + 2 :].min()  # silence for two seconds, then the fault
    soundfile_path = folder / "sound.flac"
    soundfile_path.write_bytes(found.sound)
    heard, rate_hz = soundfile.read(soundfile_path)
    assert (len(heard), rate_hz) == (7 * RATE_HZ, RATE_HZ)
    assert np.abs(heard).max() == pytest.approx(0.7, abs=0.01)
    assert found.speed == 1


def test_a_recording_that_is_gone_is_named(replayed: tuple[Path, Champions], tmp_path: Path) -> None:
    folder, champions = replayed
    with pytest.raises(RecordingError, match=r"normal_04\.wav: no such file"):
        write_report(folder / "out", tmp_path, champions.router, tmp_path / "r.html", [])
    assert not (tmp_path / "r.html").exists()
    with pytest.raises(RecordingError, match="holds no whole replay"):
        write_report(tmp_path, tmp_path, champions.router, tmp_path / "r.html", [])
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="can't be written"):
        write_report(folder / "out", folder / "data", champions.router, tmp_path / "file" / "r.html", [])


def test_a_long_stream_is_thinned_out_but_for_its_peaks() -> None:
    rng, count = np.random.default_rng(0), 20_000
    ratio = rng.uniform(0.4, 0.6, count)
    ratio[12_345] = 7.0
    start_us, label, zeros = np.arange(count) * 1_000_000, np.full(count, NORMAL, np.int8), np.zeros(count, np.int8)
    stream = ScoredStream(
        "m",
        "",
        1.0,
        start_us,
        np.ones(count),
        ratio,
        label,
        zeros,
        zeros.astype(bool),
        start_us,
        file=zeros.astype(np.int64),
        offset_s=np.arange(count, dtype=np.float64),
        files=("a.wav",),
    )
    drawn = course(stream, [])
    assert len(drawn["t"]) <= SHOWN_POINTS + 2
    assert drawn["t"][drawn["r"].index(7.0)] == 12_345_000
    assert drawn["t"][0] == 0
    assert drawn["t"][-1] == 19_999_000


def test_an_early_finding_lasts_on_the_page_while_its_alarm_comes_and_goes() -> None:
    told = [(10, "changed", "early"), (20, "opened", "warning"), (30, "closed", "early"), (40, "settled", None)]
    alerts = [
        {
            "kind": "machine",
            "incident_id": "a",
            "state": state,
            "level": level,
            "recorded_at": f"1970-01-01T00:00:{at}.000000Z",
        }
        for at, state, level in told
    ]
    assert _spans(alerts, 60_000, {"opened"}, {"closed"}) == [(20_000, 30_000)]
    assert _spans(alerts, 60_000, {"opened", "changed"}, {"closed", "settled"}) == [(10_000, 40_000)]
    assert _spans(alerts[:3], 60_000, {"opened", "changed"}, {"closed", "settled"}) == [(10_000, 60_000)]


def test_every_machine_has_its_turn_before_one_has_a_second() -> None:
    alerts = [
        {"machine_id": name, "state": state, "frame": {}, "alert_id": f"{name}{index}"}
        for name in ("a", "b")
        for index, state in enumerate(("opened", "updated", "closed", "opened", "opened"))
    ]
    for alert in alerts:
        alert["frame"] = {"frame_id": alert["alert_id"]}
    assert [one["alert_id"] for one in moments_wanted(alerts, 3)] == ["a0", "b0", "a3"]


def test_names_are_data_whatever_they_hold(hostile: Path) -> None:
    text = (hostile / "report.html").read_text()
    scripts = re.findall(r"<script type=.application/json.>(.*?)</script>", text, re.DOTALL)
    assert len(scripts) == 1
    assert not re.search(r"[<>&\u2028\u2029\u202e]", scripts[0])
    files = json.loads(scripts[0])["files"]
    assert "pump-1/normal_<!--<script>.wav" in files
    assert "pump-1/x</script><b>_normal.wav" in files
    assert "pump-1/normal_a\\u202eb\\u2028c&d.wav" in files


def test_made_up_dates_are_notshown_in_browser(replayed: tuple[Path, Champions]) -> None:
    text = (replayed[0] / "report.html").read_text()
    read = read_results(replayed[0] / "out")
    assert read.summary["times"] == "pace"
    assert read.summary["recorded_from"][:10] not in re.sub(r"page written [^<]*", "", text)
    assert "The recordings do not say when they were made" in text
    assert '">00:00:22</a> <b>pump-1</b>' in text  # five normal recordings of four seconds, and the third faulty second


def test_dates_are_shown_where_recordings_have_them() -> None:
    summary = {"recorded_from": "2026-01-31T12:00:00.000000Z", "times": "names"}
    assert When.of(summary).told("2026-02-01T13:02:03.5Z") == "2026-02-01 13:02:03"
    assert When.of({**summary, "times": "pace"}).told("2026-02-01T13:02:03.5Z") == "1 d 01:02:03"


def test_the_first_auc_is_the_mean_over_machines_with_the_worst_by_name() -> None:
    machines = {"a": {"auc": 1.0}, "b": {"auc": 0.8}, "c": {"auc": None}}
    assert _auc_tile({"auc": 0.333, "auc_mean": 0.9, "machines": machines}) == (
        "AUC, mean of 2 machines",
        "0.900",
        "worst 0.800, b; 0.5 is chance",
    )


# In a browser


@pytest.fixture
def page(replayed: tuple[Path, Champions]) -> Iterator[Any]:
    """Yield the page in headless Chromium, at the size of a phone; whatever the browser complains of fails the test."""
    with shown_in_browser(replayed[0] / "report.html", 400) as page:
        yield page


@pytest.mark.slow
def test_the_page_works_in_a_browser(page: Any) -> None:
    assert page.locator("figure.course").count() == 2
    # It fits a phone: nothing is wider than the screen.
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    # Every course is drawn: its canvas holds more than one colour.
    colours = """canvas => {
        const image = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return new Set(new Uint32Array(image.data.buffer)).size;
    }"""
    assert all(canvas.evaluate(colours) > 5 for canvas in page.locator("figure.course canvas").all())
    # The player has sound, as long as the moment.
    page.wait_for_function("document.querySelector('audio').readyState >= 1")
    assert page.locator("audio").first.evaluate("audio => audio.duration") == pytest.approx(7.0, abs=0.05)
    assert page.locator("figure.moment img").first.evaluate("image => image.naturalWidth") > 300


@pytest.mark.slow
def test_a_hostile_name_hides_nothing(hostile: Path) -> None:
    with shown_in_browser(hostile / "report.html", 400) as page:
        assert page.locator("h2").last.inner_text() == "How to reproduce"
        assert page.locator("section script b, body > b, img[src=x]").count() == 0
        canvas, tip = page.locator("figure.course canvas").first, page.locator(".tip").first
        canvas.focus()
        shown = set()
        for _ in range(80):
            page.keyboard.press("ArrowRight")
            shown |= {line for line in tip.inner_text().splitlines() if "pump-1/" in line}
        assert any("normal_<!--<script>.wav" in line for line in shown)
        assert any("</script><b>_normal.wav" in line for line in shown)


@pytest.mark.slow
def test_hovering_and_arrow_keys_tell_about_a_frame(page: Any) -> None:
    canvas, tip = page.locator("figure.course canvas").first, page.locator(".tip").first
    assert tip.is_hidden()
    box = canvas.bounding_box()
    canvas.hover(position={"x": box["width"] - 10, "y": 60})
    text = tip.inner_text()
    assert " threshold, anomaly" in text
    assert "pump-1/anomaly_07.wav at 3.0 s" in text
    canvas.press("ArrowLeft")
    assert "pump-1/anomaly_07.wav at 2.0 s" in tip.inner_text()
    page.mouse.move(5, 5)
    assert tip.is_hidden()
