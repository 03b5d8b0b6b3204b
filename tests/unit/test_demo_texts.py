"""The demo's texts fit into 80 columns."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from blocklistd.demo import texts
from blocklistd.demo.folder import Ports
from blocklistd.demo.run import SIZE

FOLDER = Path("/tmp/blocklistd-demo-0123abcd")
REASONS = [
    {"guard": "daily.max_removed", "limit": "20%", "found": "25.3% (10068 of 20064 in 24 h)"},
    {"guard": "max_added", "limit": "20%", "found": "25.3% (5068 of 20064)"},
]
PORTS = Ports(65535, 65535, 65535)
HELD = {"id": "c-0123456789ab", "added": SIZE, "removed": SIZE, "reasons": REASONS}


def test_no_line_is_longer_than_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        shutil, "which", lambda name, path=None: f"/home/alice/blocklistd/.venv/bin/{name}" * bool(path)
    )
    made, done = (
        {"added": SIZE, "removed": SIZE},
        {"version": 999, "entries": SIZE, "how": "snapshot", "bytes": 9_999_999},
    )
    lines = [
        *texts.greeting(FOLDER, texts.commands(FOLDER, PORTS), PORTS).splitlines(),
        *(texts.version(made, done, 99.99, found) for found in ((9999, "99.99 s"), (9999, "same"), (None, "not yet"))),
        *texts.held(HELD).splitlines(),
    ]
    assert max(map(len, lines)) <= 80, max(lines, key=len)


def test_columns_stand_under_their_headers() -> None:
    line = texts.version(
        {"added": 1, "removed": 2}, {"version": 3, "entries": 4, "how": "diff", "bytes": 5}, 6, (7, "8.00 s")
    )
    header = texts.headers().splitlines()[-1]
    assert line.split() == ["version", "3", "+1", "-2", "4", "diff", "5", "6.00", "s", "7", "8.00", "s"]
    for name, value in {
        "added": "+1",
        "removed": "-2",
        "entries": " 4",
        "bytes": " 5",
        "serial": " 7",
        "dns": "8.00 s",
    }.items():
        assert header.index(name) + len(name) == line.index(value) + len(value), name
    assert header.index("sent as") == line.index("diff")
