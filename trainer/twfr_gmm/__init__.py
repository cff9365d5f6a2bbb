"""Time-weighted spectra with a Gaussian mixture: see README.md beside this file."""
