"""Whirr: settings, errors and the command line shared by every part."""

__version__ = "0.2.0"
