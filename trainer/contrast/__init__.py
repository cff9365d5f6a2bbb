"""An embedding that tells the plant's machines apart: see README.md beside this file."""
