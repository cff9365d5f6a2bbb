"""The README's figures are those of the stored run."""

from __future__ import annotations

import string

import orjson

from benchmarks.__main__ import FIGURES
from benchmarks.readme_table import ROWS, table
from tests.helpers import REPOSITORY


def test_the_readme_tells_the_stored_run() -> None:
    figures = orjson.loads((REPOSITORY / "benchmarks" / "baseline.json").read_bytes())
    page = (REPOSITORY / "README.md").read_text("utf-8")
    assert table(figures) in page, "run: python -m benchmarks.readme_table"


def test_a_row_is_there_if_its_figures_are() -> None:
    told = table({"broker": "Apache Kafka", "logmel_vs_librosa": 4.04, "logmel_vs_torch": 5.0, "replay_vs_x": 1.0})
    rows = [line for line in told.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 1
    assert rows[0].endswith("| 4.0 and 5.0 times as fast |")


def test_no_row_asks_for_a_figure_that_make_bench_has_not() -> None:
    asked = {name for _, told in ROWS for _, name, _, _ in string.Formatter().parse(told) if name}
    assert asked <= set(FIGURES)
