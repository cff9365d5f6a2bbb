"""``whirr``, ``python -m commands``: the command line, with Ctrl-C in mind from the first import on."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line with the program's arguments and exit."""
    try:
        from commands import main as command_line

        command_line()
    except KeyboardInterrupt:
        sys.exit(130)  # as a shell says it: 128 and the signal's number


if __name__ == "__main__":
    main()
