"""What ``whirr train`` says of thresholds, and its help."""

from __future__ import annotations

from dataclasses import replace

from commands import load_command
from commands._training import _threshold_lines
from schemas import Thresholds

POOLED = Thresholds(decision_threshold=1.0, alert_threshold=2.0, normals=100)


def test_one_machine_is_told_once() -> None:
    lines = _threshold_lines(POOLED, {"pump-1": POOLED})
    assert [line.split(":")[0] for line in lines] == ["threshold  pump-1", "early      pump-1"]
    other = replace(POOLED, alert_threshold=3.0)
    lines = _threshold_lines(POOLED, {"pump-1": other})
    assert [line.split(":")[0].split()[1] for line in lines] == ["pooled", "pump-1"] * 2


def test_machines_that_are_not_named_are_counted_with_thresholds_and_with_early_findings() -> None:
    lines = _threshold_lines(POOLED, {f"pump-{number}": POOLED for number in range(7)})
    assert [index for index, line in enumerate(lines) if line.strip() == "and 2 machines more"] == [6, 13]
    assert "pump-5" not in " ".join(lines)


def test_a_help_is_one_line_a_paragraph() -> None:
    help_text = load_command("train").help
    assert help_text.startswith("Train a detector on normal recordings and write one ONNX file.\n\nWhat suits")
    assert help_text.count("\n") == 2
