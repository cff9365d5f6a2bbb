"""The gateway's side: capture or simulate a signal, cut it into frames, and publish them to Kafka.

It needs numpy, soundfile and aiokafka, and nothing of what the worker or the trainer need.
"""

from edge_agent.agent import EdgeAgent, EdgeConfig, FrameOptions, Summary, run_edge
from edge_agent.timeline import LiveTimes, PlaybackTimes, SystemClock

__all__ = [
    "EdgeAgent",
    "EdgeConfig",
    "FrameOptions",
    "LiveTimes",
    "PlaybackTimes",
    "Summary",
    "SystemClock",
    "run_edge",
]
