"""Evaluation: how good a model is on labelled recordings, and which alerts an operator would have had."""
