"""Evaluation: how good a model is on labelled recordings, and what an operator would have felt of it."""

from trainer.evaluation.evaluate import EvaluationObserver, evaluate
from trainer.evaluation.result import EvaluateConfig, Evaluation, MachineResult

__all__ = ["EvaluateConfig", "Evaluation", "EvaluationObserver", "MachineResult", "evaluate"]
