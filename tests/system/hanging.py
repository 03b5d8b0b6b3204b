"""Runs the daemon so that its loop can be hung: SIGUSR1 makes it read `$HANG_ON` (a FIFO) to its end."""

from __future__ import annotations

import os
import signal
import sys

from blocklistd.__main__ import main


def hang(*_: object) -> None:
    with open(os.environ["HANG_ON"], "rb") as fifo:
        fifo.read()


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, hang)
    sys.argv = ["blocklistd", *sys.argv[4:]]  # without `PYTHON -m blocklistd`
    main()
