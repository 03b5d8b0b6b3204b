"""Runs a command with sockets, as systemd passes those of socket units: `activated.py NAMES COMMAND…`.

The protocol is sd_listen_fds(3). NAMES are `NAME:DESCRIPTOR`, separated by commas, with descriptors of this process.
"""

from __future__ import annotations

import fcntl
import os
import sys
from typing import Final

FIRST: Final = 3
HIGH: Final = 500  # above the descriptors that are passed


def main() -> None:
    """Never returns."""
    pairs = [pair.rpartition(":") for pair in sys.argv[1].split(",")]
    copies = [fcntl.fcntl(int(number), fcntl.F_DUPFD, HIGH) for _, _, number in pairs]
    for place, copy in enumerate(copies, FIRST):
        os.dup2(copy, place)
        os.close(copy)
    os.closerange(FIRST + len(copies), HIGH)
    names = ":".join(name for name, _, _ in pairs)
    os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(copies)), "LISTEN_FDNAMES": names}
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
