"""The worker's way to the feature store: off the event loop, in a process of its own, never waited for."""

from stream_app.feature_push.process import FeaturePush

__all__ = ["FeaturePush"]
