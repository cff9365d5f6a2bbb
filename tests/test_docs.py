"""The pages in docs/ say what the code does."""

import re
import tomllib
from collections.abc import Iterator

import yaml
from prometheus_client import CollectorRegistry, generate_latest

from feature_repo.fields import FIELDS, VIEWS
from feature_repo.push.push_metrics import PushMetrics
from schemas import ERROR_CODES
from stream_app.pipeline import StreamState
from stream_app.worker.metrics import WorkerMetrics
from tests.helpers import REPOSITORY
from whirr.settings import Route, Settings

FEATURES = (REPOSITORY / "docs" / "features.md").read_text()
OPERATIONS = (REPOSITORY / "docs" / "operations.md").read_text()
ARCHITECTURE = (REPOSITORY / "docs" / "architecture.md").read_text()


def test_every_reason_of_a_dead_letter_is_listed():
    listed = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", OPERATIONS.partition("## Dead letters")[2], re.MULTILINE))
    assert listed == ERROR_CODES


def test_every_metric_is_listed_and_no_other():
    listed = set(re.findall(r"^\| `(whirr_\w+)", OPERATIONS, re.MULTILINE))
    text = WorkerMetrics().text().decode()
    exposed = {name for name in re.findall(r"^# TYPE (whirr_\w+)", text, re.MULTILINE) if not name.endswith("_created")}
    assert listed == exposed


def test_every_metric_of_the_feature_store_is_listed_and_no_other():
    registry = CollectorRegistry()
    PushMetrics(registry)
    text = generate_latest(registry).decode()
    exposed = {name for name in re.findall(r"^# TYPE (whirr_\w+)", text, re.MULTILINE) if not name.endswith("_created")}
    assert set(re.findall(r"^\| `(whirr_\w+)", FEATURES, re.MULTILINE)) == exposed


def test_every_view_and_feature_is_listed():
    table = FEATURES.partition("| view | features |")[2].partition("\n\n")[0]
    named = set(re.findall(r"`(\w+)`", table)) | {f"mfcc_{i}" for i in range(6)}
    assert named == set(VIEWS) | {field.name for field in FIELDS}


def test_every_key_of_a_route_is_listed():
    table = OPERATIONS.partition("## Routes")[2].partition("\n## ")[0]
    listed = {
        name
        for row in table.splitlines()
        if row.startswith("| `")
        for name in re.findall(r"`(\w+)`", row.split("|")[1])
    }
    assert listed == set(Route.model_fields)


def test_the_size_of_a_state_is_told_right():
    assert f"{len(StreamState().to_bytes())} bytes a stream" in ARCHITECTURE


def test_the_layers_are_drawn_as_the_contract_has_them():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    (contract,) = [one for one in project["tool"]["importlinter"]["contracts"] if one["type"] == "layers"]
    drawing = ARCHITECTURE.partition("```text\n")[2].partition("```")[0]
    packages = [package for layer in contract["layers"] for package in layer.split(" | ")]
    drawn = re.findall(r"[a-z_]+(?:\.[a-z_]+)?", drawing)
    assert [name for name in drawn if name in packages] == packages


def test_what_the_map_points_at_is_there():
    for name in re.findall(r"`([\w/]+\.py|[a-z_]+/(?:[a-z_]+/)*)`", ARCHITECTURE):
        assert (REPOSITORY / name).exists(), name


def test_the_sites_menu_leads_to_every_page():
    def pages(part: object) -> Iterator[str]:
        if isinstance(part, str):
            yield part
        for below in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            yield from pages(below)

    menu = list(pages(yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text())["nav"]))
    there = [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md"), *(REPOSITORY / "trainer").rglob("*.md")]
    assert sorted(menu) == sorted(str(path.relative_to(REPOSITORY)) for path in there)


def test_topics_are_told_right():
    fields = Settings.model_fields
    for name in ("frames_topic", "alerts_topic", "scores_topic", "dead_letter_topic", "verdicts_topic"):
        assert f"`{fields[name].default}`" in ARCHITECTURE


def test_pages_are_finished_and_their_links_lead_somewhere():
    for page in (*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")):
        text = page.read_text()
        assert not re.search(r"\b[A-Z]{3,}TABLE\b|TODO|FIXME", text), page
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
