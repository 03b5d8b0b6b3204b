"""`python -m blocklistd` and the console script."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line and exits with its code."""
    try:
        from blocklistd.cli import run

        sys.exit(run(sys.argv[1:]))
    except KeyboardInterrupt:  # while it was being imported
        sys.exit(1)


if __name__ == "__main__":
    main()
