"""Evaluation: how good a model is on labelled recordings, and what an operator would have felt of it."""

from backtest.evaluation.evaluate import EvaluationObserver, evaluate
from backtest.evaluation.result import EvaluateConfig, Evaluation, MachineResult

__all__ = ["EvaluateConfig", "Evaluation", "EvaluationObserver", "MachineResult", "evaluate"]
