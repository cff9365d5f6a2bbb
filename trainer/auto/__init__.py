"""Several detectors as one: see README.md beside this file."""
