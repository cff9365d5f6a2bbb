"""``python -m scripts.replay DIR --model FILE``: the same as ``whirr replay``."""

from __future__ import annotations

import sys

from commands import run

if __name__ == "__main__":
    sys.exit(run(["replay", *sys.argv[1:]]))
