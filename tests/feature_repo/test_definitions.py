"""The Feast repository says what the core computes, and the stock client takes it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from feature_repo import fields
from stream_app.pipeline import STATISTICS
from tests.feature_stores import SHIPPED, YAMLS
from tests.helpers import REPOSITORY


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


def test_the_stock_client_applies_it_unchanged(tmp_path: Path):
    copy = tmp_path / "repo"
    shutil.copytree(SHIPPED, copy, ignore=shutil.ignore_patterns("data", "__pycache__"))
    program = "import sys; from feast.cli.cli import cli; cli(sys.argv[1:])"
    env = {name: value for name, value in os.environ.items() if not name.startswith("FEAST_")}
    env["PYTHONPATH"] = str(REPOSITORY)
    command = [sys.executable, "-c", program, "-c", str(copy), "apply"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in (*fields.VIEWS, fields.AUDIO_SERVICE, fields.HEALTH_SERVICE, fields.OVERVIEW_SERVICE):
        assert name in done.stdout
    assert (copy / "data" / "online.db").is_file()
