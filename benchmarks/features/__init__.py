"""``make bench-feast``: what reading and writing features costs on each store, and what a worker pays for it."""
