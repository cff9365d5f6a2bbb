"""Entry points of a few lines, run from a checkout; the wheel leaves them out."""
