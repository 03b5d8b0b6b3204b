"""The entry points: of `python -m blocklistd` and the program blocklistd, and of the program blocklistd-sync."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line; exits with its exit code."""
    try:
        from blocklistd.cli import run

        sys.exit(run(sys.argv[1:]))
    except KeyboardInterrupt:  # during the import
        sys.exit(1)


def sync() -> None:
    """Runs the command `sync` alone, for hosts that have only the client; exits with its exit code."""
    try:
        from blocklistd.cli import run
        from blocklistd.cli.sync import command

        sys.exit(run(sys.argv[1:], command, "blocklistd-sync"))
    except KeyboardInterrupt:  # during the import
        sys.exit(1)


if __name__ == "__main__":
    main()
