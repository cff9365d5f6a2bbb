"""``python -m whirr``: the command line."""

from whirr.cli import main

main()
