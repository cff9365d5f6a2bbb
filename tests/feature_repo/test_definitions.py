"""The Feast repository says what the core computes, and the stock client takes it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from feature_repo import fields
from stream_app.pipeline import STATISTICS
from tests.feature_stores import SHIPPED, YAMLS
from tests.helpers import REPOSITORY, eventually
from whirr.process import free_port


def test_the_audio_features_are_the_cores_statistics_in_their_order():
    assert tuple(field.name for field in fields.AUDIO_FIELDS) == STATISTICS


def test_every_field_view_and_service_is_described():
    from feature_repo import definitions as d

    assert {view.name for view in (d.machine_audio_features, d.machine_health)} == set(fields.VIEWS)
    for view in (d.machine_audio_features, d.machine_health):
        assert view.stream_source.name == fields.PUSH_SOURCE
        assert [feature.name for feature in view.features] == [field.name for field in fields.VIEWS[view.name]]
        for feature in view.features:
            assert feature.description.endswith(".")
            assert {"unit", "layer"} <= feature.tags.keys()
    for service in (d.machine_audio_v1, d.machine_health_v1, d.machine_overview_v1):
        assert service.description
        assert service.name.endswith(f"_v{service.tags['version']}")


def test_the_three_stores_differ_in_nothing_but_the_store():
    import yaml

    found = [yaml.safe_load((SHIPPED / name).read_text()) for name in YAMLS.values()]
    for one in found:
        del one["online_store"], one["registry"]
    assert found[0] == found[1] == found[2]


@pytest.mark.slow
def test_the_stock_client_applies_and_shows_it_unchanged(tmp_path: Path):
    copy = tmp_path / "repo"
    shutil.copytree(SHIPPED, copy, ignore=shutil.ignore_patterns("data", "__pycache__"))
    program = "import sys; from feast.cli.cli import cli; cli(sys.argv[1:])"
    env = {name: value for name, value in os.environ.items() if not name.startswith("FEAST_")}
    env["PYTHONPATH"] = str(REPOSITORY)
    feast = [sys.executable, "-c", program, "-c", str(copy)]
    done = subprocess.run([*feast, "apply"], env=env, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in (*fields.VIEWS, fields.AUDIO_SERVICE, fields.HEALTH_SERVICE, fields.OVERVIEW_SERVICE):
        assert name in done.stdout
    assert (copy / "data" / "online.db").is_file()

    port = free_port()
    with (tmp_path / "ui.log").open("w+") as log:
        command = [*feast, "ui", "--host", "127.0.0.1", "--port", str(port)]
        ui = subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=tmp_path)

        def views() -> list[dict[str, Any]]:
            assert ui.poll() is None, Path(log.name).read_text()
            address = f"http://127.0.0.1:{port}/api/v1/feature_views?project=whirr"
            with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5) as answer:
                found: list[dict[str, Any]] = json.load(answer)["featureViews"]
                return found
            return []

        try:
            shown = {one["spec"]["name"]: one["spec"] for one in eventually(views, 90, "feast ui answers")}
        finally:
            ui.kill()
            ui.wait()
    assert shown.keys() == fields.VIEWS.keys()
    told = {one["name"]: one["description"] for one in shown[fields.AUDIO_VIEW]["features"]}
    assert told == {field.name: field.description for field in fields.AUDIO_FIELDS}
