"""Who may import whom: the contracts in pyproject.toml hold."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import grimp
import pytest
from importlinter.application.use_cases import read_user_options
from importlinter.configuration import configure
from importlinter.contracts.layers import LayersContract

from tests.helpers import REPOSITORY

# Each was there once: a base that knew what stands on it, and packages that imported each other in circles.
CIRCLES = [
    ("whirr.settings", "stream_app.worker.app"),
    ("whirr.kafka_clients", "backtest.replay.run"),
    ("schemas.frame", "whirr.settings"),
    ("feature_repo.materialize", "stream_app.worker.states"),
    ("trainer.promotion", "backtest.evaluation.evaluate"),
    ("stream_app.worker.app", "trainer.registry"),
    ("trainer.registry", "stream_app.worker.champions"),
    ("edge_agent.agent", "stream_app.worker.app"),
    ("whirr.settings", "recordings.find"),
    ("stream_app.pipeline.engine", "feature_repo.rows"),
    ("backtest.replay.run", "commands.replay"),
]


def test_the_import_contracts_hold():
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", program, "--no-cache"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    configure()
    options = read_user_options(str(REPOSITORY / "pyproject.toml")).session_options
    return grimp.build_graph(*options["root_packages"], cache_dir=None)


@pytest.mark.parametrize(("importer", "imported"), CIRCLES, ids=lambda name: name)
def test_the_layers_contract_fails_for_each_import_that_goes_up_or_across(
    importer: str, imported: str, graph: grimp.ImportGraph
):
    assert layers(graph).kept
    graph.add_import(importer=importer, imported=imported)
    try:
        assert not layers(graph).kept
    finally:
        graph.remove_import(importer=importer, imported=imported)


def layers(graph: grimp.ImportGraph) -> Any:
    """Return what the layers contract of pyproject.toml says of a graph."""
    options = read_user_options(str(REPOSITORY / "pyproject.toml"))
    [contract] = [one for one in options.contracts_options if one["type"] == "layers"]
    made = LayersContract(contract["name"], options.session_options, contract)
    return made.check(graph, verbose=False)


@pytest.mark.slow
def test_the_edge_agent_imports_without_what_only_the_worker_needs():
    blocked = ("faust", "feast", "mlflow", "torch", "lightning", "scipy", "soxr", "onnxruntime", "stream_app")
    program = (
        "import importlib, pkgutil, sys\n"
        f"sys.modules.update(dict.fromkeys({blocked!r}))\n"
        "import edge_agent\n"
        "for found in pkgutil.walk_packages(edge_agent.__path__, 'edge_agent.'):\n"
        "    importlib.import_module(found.name)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
