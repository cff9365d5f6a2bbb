"""Replay: recordings backtested as a worker would score them, in process or through Kafka, with nothing held in memory.

The way of a replay: :mod:`finding` writes a folder's recordings into the store (:mod:`backtest.score_store`);
:mod:`backtest.scoring` computes their frames in as many processes as there are cores; :mod:`backtest.judging` moves the
alert rule over the stored answers, stream by stream in order; :mod:`output` writes what comes of it; :mod:`summary`
counts. The core (``stream_app.pipeline``) does all of the computing, so that a replay says what ``backtest`` and the
worker say.
"""
