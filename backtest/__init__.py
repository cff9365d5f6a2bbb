"""Evaluate, replay and sweep: recordings judged offline by the worker's own core."""
