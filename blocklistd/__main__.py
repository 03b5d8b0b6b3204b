"""The entry point of `python -m blocklistd` and of the console script."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line; exits with its exit code."""
    try:
        from blocklistd.cli import run

        sys.exit(run(sys.argv[1:]))
    except KeyboardInterrupt:  # during the import
        sys.exit(1)


if __name__ == "__main__":
    main()
