"""``make demo``: the whole path in one command, on simulated or given recordings."""
