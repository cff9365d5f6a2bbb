"""The Feast repository: what is kept of every machine, live and in history. Only ``definitions`` imports Feast."""
