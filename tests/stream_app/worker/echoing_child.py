"""A child process that says what it is told, or hangs, or ends: ``python -m … PARENT SOCKET``."""

from __future__ import annotations

import sys
import time
from multiprocessing.connection import Connection


def main() -> None:
    """Answer until told otherwise."""
    with Connection(int(sys.argv[2])) as connection:
        while True:
            what, told = connection.recv()
            if what == "hang":
                time.sleep(600)
            if what == "end":
                sys.exit(told)
            connection.send(told)


if __name__ == "__main__":
    main()
