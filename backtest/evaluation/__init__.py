"""Evaluation: how good a model is on labelled recordings, and what an operator would have felt of it."""
