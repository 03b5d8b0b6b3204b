"""`python -m bench [NAME …]`: runs benches and prints their rows as a Markdown table."""

from __future__ import annotations

import importlib
import os
import sys

from bench.compare import HEAD, Row

BENCHES = (
    *(
        "lists",
        "sources",
        "names",
        "documents",
        "changes",
        "corrections",
        "diffs",
        "locks",
        "transfers",
        "blackout",
        "zone_changes",
        "polls",
        "receipts",
        "events",
        "polls_behind_nginx",
        "sync",
        "latency",
        "memory",
        "start",
        "unauthenticated",
    ),
)


def main() -> int:
    """Runs the named benches, or all. Returns 1 if a row misses its floor, 2 for an unknown name."""
    names = sys.argv[1:] or list(BENCHES)
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        print(f"no such bench: {', '.join(unknown)}; there are {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program does not compile its modules at each start
    rows: list[Row] = []
    for name in names:
        print(f"… {name}", file=sys.stderr, flush=True)
        for row in importlib.import_module(f"bench.{name}").rows():
            print(row.markdown(), file=sys.stderr, flush=True)
            rows.append(row)
    print(HEAD)
    for row in rows:
        print(row.markdown())
    return int(any(row.met is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
