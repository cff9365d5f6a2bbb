"""Pooled spectra: see README.md beside this file."""
