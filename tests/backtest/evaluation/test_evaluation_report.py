"""The report: one HTML file that holds everything and fetches nothing, and what goes to MLflow."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from backtest.evaluation.details import look_into, worst_false_alarms, worst_misses
from backtest.evaluation.evaluate import evaluate
from backtest.evaluation.evaluate_options import EvaluateConfig
from backtest.evaluation.result import Evaluation
from backtest.evaluation.tracking import publish_evaluation
from backtest.report.charts import inline_svg
from backtest.report.evaluation import _false_alerts_tile, _metric_tile, command, evaluation_page
from commands import run
from schemas.errors import ModelError, ServiceUnavailable, SettingsError
from stream_app.pipeline import Model
from tests.browser import shown_in_browser
from tests.models import NORMAL_RMS, noise, tiny_metadata, tiny_model
from tests.trainer.conftest import write
from whirr.settings import load_settings

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Checks that elements nest, and collects texts and what would be fetched."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [value for name, value in attrs if name in ("src", "href", "xlink:href", "srcset") and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def _write(path: Path, level: float, seed: int = 0) -> None:
    write(path, noise(3.0, NORMAL_RMS * level, seed=seed).T, 16_000)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="module")
def result(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    folder = tmp_path_factory.mktemp("set")
    for number, level in enumerate((1.0, 1, 1, 3, 4)):
        _write(folder / "pump-1" / f"normal_<{number}>.wav", level, number)
    for number, level in enumerate((10.0, 10, 1.02, 1.01)):
        _write(folder / "pump-1" / f"anomaly_{number}.wav", level, number)
    _write(folder / "fan-2" / "normal_1.wav", 1)
    (folder / "fan-2" / "normal_2.wav").write_bytes(b"RIFF")
    return evaluate(EvaluateConfig(folder=folder, model=tiny, resamples=20))


@pytest.mark.slow
def test_the_report_nests_and_fetches_nothing(result: Evaluation, tiny: Path) -> None:
    text = evaluation_page(result, Model.load(tiny))
    page = Page(text)
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", re.sub(r"base64,[A-Za-z0-9+/=]+", "", text))
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert all(target.startswith(("data:image/png;base64,", "#")) for target in page.fetched)
    assert page.tags.count("svg") == 3  # a curve and two histograms: one machine has no anomalies
    assert page.tags.count("img") == 2 + 2 + 2  # two courses, two misses, two false alarms
    assert "width=device-width" in text


@pytest.mark.slow
def test_the_report_says_what_was_found_and_how_to_find_it_again(result: Evaluation, tiny: Path) -> None:
    page = Page(evaluation_page(result, Model.load(tiny)))
    said = " ".join(page.texts)
    for expected in (
        "Evaluation of tiny 1",
        "Machine pump-1",
        "Machine fan-2",
        "pump-1/normal_<4>.wav",  # escaped
        "pump-1/anomaly_3.wav",
        "fan-2/normal_2.wav",
        "can't be read",
        "nothing was chosen by these labels",
        result.digest,
        result.data_hash,
        result.model.data_hash,
        "--bootstrap 20 --seed 0",
    ):
        assert expected in said
    assert command(result).startswith("whirr evaluate ")


def test_the_first_tile_is_the_mean_over_machines_and_names_the_worst(result: Evaluation) -> None:
    two = {"pump-1": result.machines["pump-1"], "pump-2": result.machines["pump-1"]}
    worse = replace(two["pump-1"].metrics, values={**two["pump-1"].metrics.values, "auc": 0.25})
    machines = {**two, "pump-2": replace(two["pump-2"], metrics=worse)}
    overall = replace(result.overall, values={**result.overall.values, "auc": 0.333})
    name, value, below = _metric_tile(
        replace(result, machines=machines, overall=overall, arithmetic={"auc": 0.4}, harmonic={"auc": 0.3}), "auc"
    )
    assert (name, value) == ("AUC, mean of 2 machines", "0.400")
    told = "harmonic mean 0.300; worst 0.250, pump-2; all scores in one, without regard to the machine: 0.333"
    assert below == told


@pytest.mark.parametrize(
    ("count", "normal_s", "tile"),
    [
        # Garwood's exact interval of one is 0.0253 to 5.5716, of none 0 to 3.6889.
        (
            1,
            270.0,
            ("false alerts", "1", "too short to tell how many a day; 95 % sure: 8.1 to 1,783 a machine and day"),
        ),
        (0, 270.0, ("false alerts", "0", "too short to tell how many a day; 95 % sure: 0 to 1,180 a machine and day")),
        (
            4,
            172_800.0,
            ("false alerts a machine and day", "2", "normal signal; 95 % sure: 0.54 to 5.1 a machine and day"),
        ),
        (0, 0.0, ("false alerts", "-", "no normal signal")),
    ],
)
def test_a_rate_is_told_with_its_interval_and_not_at_all_from_minutes(
    result: Evaluation, count: int, normal_s: float, tile: tuple[str, str, str]
) -> None:
    name, value, below = _false_alerts_tile(replace(result.figures, false_alerts=count, normal_s=normal_s))
    assert (name, value) == tile[:2]
    assert below.endswith(tile[2])


@pytest.mark.slow
@pytest.mark.parametrize("width", [1300, 420])
def test_nothing_of_the_report_is_cut_off(result: Evaluation, tiny: Path, tmp_path: Path, width: int) -> None:
    (tmp_path / "report.html").write_text(evaluation_page(result, Model.load(tiny)))
    with shown_in_browser(tmp_path / "report.html", width) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("[...document.querySelectorAll('.scroll')].every(e => e.scrollWidth <= e.clientWidth)")
        last = page.locator("table.figures tbody tr").first.locator("td").last
        box = last.bounding_box()
        assert 0 < box["x"] + box["width"] <= width
        assert "threshold" in (last.evaluate("e => getComputedStyle(e, '::before').content") + page.inner_text("table"))


def test_the_worst_come_first(result: Evaluation) -> None:
    recordings = result.machines["pump-1"].recordings
    misses, alarms = worst_misses(recordings, 1), worst_false_alarms(recordings, 5)
    assert [one.recording.label for one in misses] == ["anomaly"]
    assert misses[0].score == min(one.score for one in recordings if one.recording.anomalous)
    assert [one.recording.name for one in alarms] == ["pump-1/normal_<4>.wav", "pump-1/normal_<3>.wav"]


def test_a_detail_names_the_bands_that_drove_the_score(tmp_path: Path, tiny: Path) -> None:
    t = np.arange(48_000) / 16_000
    samples = noise(3.0) + 0.3 * np.sin(2 * np.pi * 3000 * t)
    write(tmp_path / "m" / "anomaly_1.wav", samples.T, 16_000)
    result = evaluate(EvaluateConfig(folder=tmp_path, model=tiny))
    model = Model.load(tiny)
    detail = look_into(result.machines["m"].recordings[0], model, result.pace)
    assert detail.log_mel.shape == (128, 3 * model.features.columns(16_000))
    assert detail.duration_s == 3.0
    low, high = detail.edges_hz[int(detail.excess.argmax())]
    assert low <= 3000 <= high
    assert detail.bands[0].from_hz <= 3000 <= detail.bands[0].to_hz


def test_a_chart_becomes_an_element_without_addresses() -> None:
    svg = (
        '<?xml version="1.0"?><!DOCTYPE svg PUBLIC "x" "http://w3.org/x.dtd">\n<svg xmlns="http://w3.org/svg" '
        'xmlns:xlink="http://w3.org/xlink" width="1"><metadata>\nhttp://purl.org</metadata><g id="axes_1">'
        '<use xlink:href="#m1"/></g></svg>'
    )
    assert inline_svg(svg, "a < b") == (
        '<svg role="img" aria-label="a &lt; b" width="1"><g><use href="#m1"/></g></svg>'
    )


@pytest.mark.slow
def test_the_command_writes_the_report(result: Evaluation, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "new" / "report.html"
    arguments = [str(result.config.folder), "--model", str(result.config.model), "--bootstrap", "5"]
    assert run(["evaluate", *arguments, "--report", str(report)]) == 0
    assert str(report) in capfd.readouterr().out
    Page(report.read_text())
    assert [path.name for path in report.parent.iterdir()] == ["report.html"]


@pytest.mark.slow
def test_what_cannot_be_written_or_has_changed_is_an_error(result: Evaluation, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="can't be written"):
        publish_evaluation(result, tmp_path / "file" / "report.html", None)
    other = tiny_model(tmp_path / "other.onnx")
    evaluated = evaluate(EvaluateConfig(folder=result.config.folder, model=other, resamples=0))
    tiny_model(other, tiny_metadata(version="2"))
    with pytest.raises(ModelError, match="replaced during the evaluation"):
        publish_evaluation(evaluated, tmp_path / "report.html", None)


# MLflow


@pytest.mark.slow
def test_figures_and_report_go_to_the_run_that_trained_the_model(result: Evaluation, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    settings = load_settings(mlflow_tracking_uri=uri)
    first = publish_evaluation(result, None, settings)
    assert first is not None
    client = MlflowClient(tracking_uri=uri)
    assert client.get_run(first).info.status == "FINISHED"  # a new run: the model names none

    model = tiny_model(tmp_path / "m.onnx", tiny_metadata(run_id=first))
    config = EvaluateConfig(folder=result.config.folder, model=model, resamples=20)
    ended = client.get_run(first).info.end_time
    again = evaluate(config)
    assert publish_evaluation(again, None, settings) == first
    logged = client.get_run(first)
    assert logged.info.end_time == ended
    assert logged.data.metrics["evaluation/auc"] == pytest.approx(again.overall.values["auc"])
    assert logged.data.metrics["evaluation/recall/pump-1"] == 0.5
    assert logged.data.metrics["evaluation/auc_low"] == pytest.approx(again.overall.intervals["auc"][0])
    assert logged.data.tags["evaluation.data_hash"] == result.data_hash
    (artifact,) = client.list_artifacts(first, "evaluation")
    assert artifact.path == "evaluation/report.html"

    stranger = tiny_model(tmp_path / "s.onnx", tiny_metadata(run_id="0" * 32))
    other = publish_evaluation(evaluate(EvaluateConfig(folder=result.config.folder, model=stranger)), None, settings)
    assert other not in (None, first, "0" * 32)


def test_an_unreachable_server_costs_no_report(result: Evaluation, tmp_path: Path) -> None:
    settings = load_settings(mlflow_tracking_uri="http://127.0.0.1:9")
    with pytest.raises(ServiceUnavailable, match="MLflow at"):
        publish_evaluation(result, tmp_path / "report.html", settings)
    assert (tmp_path / "report.html").is_file()
