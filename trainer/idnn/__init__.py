"""The interpolation network: see README.md beside this file."""
