"""A whole frame's spectrum, judged by several back ends at once: see README.md beside this file."""
