"""The way into the online store: a process of its own that pushes rows, never waited for."""
