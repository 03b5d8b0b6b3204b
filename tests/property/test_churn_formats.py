"""The recorded churn of a list, written in each format, asserts the same entries as text, version for version.

A body is read as a daemon reads it: incrementally after the last one, and a log from where the last one ended. One name
of SHARE takes part; all of them in `make fuzz`.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from blocklistd.lines.patched import PatchedLines
from blocklistd.sources.formats import FORMATS
from blocklistd.sources.formats.records import FormatOptions
from blocklistd.sources.intake import entries
from blocklistd.sources.intake.incremental import Base
from tests import churn
from tests.examples import PROFILE

SHARE = 1 if PROFILE == "fuzz" else 64


@dataclass
class Row:
    """A row of a register: it stays after its block has ended."""

    number: int
    name: str
    ended: bool = False


@dataclass
class Register:
    """The rows of all versions so far, and the log of what was done."""

    rows: list[Row] = field(default_factory=list)
    log: list[bytes] = field(default_factory=list)
    _open: dict[str, Row] = field(default_factory=dict)

    def become(self, names: set[str]) -> None:
        """End the blocks of names that left, and add a row for each name that came."""
        for name in sorted(self._open.keys() - names):
            row = self._open.pop(name)
            row.ended = True
            self.log.append(_action(row, "unblock"))
        for name in sorted(names - self._open.keys()):
            row = self._open[name] = Row(len(self.rows) + 1, name)
            self.rows.append(row)
            self.log.append(_action(row, "block"))

    @property
    def open(self) -> Iterator[Row]:
        """The rows whose block has not ended."""
        return (row for row in self.rows if not row.ended)


def _action(row: Row, action: str) -> bytes:
    return json.dumps({"id": row.number, "name": row.name, "action": action}).encode() + b"\n"


def _text(register: Register) -> bytes:
    return "".join(f"{row.name}\n" for row in register.open).encode()


def _csv(register: Register) -> bytes:
    return "".join(
        ["id;name;ended\n", *(f"{row.number};{row.name};{'2026-11-28' * row.ended}\n" for row in register.rows)]
    ).encode()


def _ndjson(register: Register) -> bytes:
    return "".join(f"{json.dumps({'name': row.name})}\n" for row in register.open).encode()


def _json(register: Register) -> bytes:
    rows = [{"id": row.number, "name": row.name, "ended": "2026-11-28" if row.ended else None} for row in register.rows]
    return json.dumps({"count": len(rows), "rows": rows}, indent=2).encode()


def _xml(register: Register) -> bytes:
    rows = "".join(
        f'<r:row id="{row.number}"><r:name>{row.name}</r:name>{"<r:ended>2026-11-28</r:ended>" * row.ended}</r:row>\n'
        for row in register.rows
    )
    return f'<?xml version="1.0"?>\n<r:rows xmlns:r="https://register.example/ns">\n{rows}</r:rows>\n'.encode()


def _hosts(register: Register) -> bytes:
    return "".join(f"0.0.0.0 {row.name}\n" for row in register.open).encode()


def _zone(register: Register) -> bytes:
    head = "$ORIGIN rpz.register.example.\n@ 300 IN SOA localhost. hostmaster.register.example. 1 60 30 600 60\n"
    rules = (f"{row.name} CNAME .\n*.{row.name} CNAME .\n" for row in register.open)
    return "".join([head, "@ 300 IN NS localhost.\n", *rules]).encode()


def _log(register: Register) -> bytes:
    return b"".join(register.log)


DOMAIN = {"type": "domain"}
WRITTEN: dict[str, tuple[str, FormatOptions, Callable[[Register], bytes]]] = {
    "csv": ("csv", FormatOptions({"value": "name"}, DOMAIN, delimiter=";", where={"ended": None}), _csv),
    "ndjson": ("ndjson", FormatOptions({"value": "/name"}, DOMAIN), _ndjson),
    "json": ("json", FormatOptions({"value": "/name"}, DOMAIN, records="/rows", where={"/ended": None}), _json),
    "xml": ("xml", FormatOptions({"value": "name"}, DOMAIN, records="rows/row", where={"ended": None}), _xml),
    "hosts": ("hosts", FormatOptions({}, DOMAIN), _hosts),
    "rpz": ("rpz", FormatOptions(), _zone),
    "action-log": (
        "action-log",
        FormatOptions({"value": "/name", "ref": "/id", "action": "/action"}, DOMAIN, add="block", remove="unblock"),
        _log,
    ),
}


class Reader:
    """Reads successive bodies of a source, each after the last one."""

    def __init__(self, format: str, options: FormatOptions) -> None:
        self._format = format
        self._options = options
        self._base: Base | None = None
        self._read = 0
        self._lines = b""

    def read(self, body: bytes) -> tuple[bytes, int]:
        """The canonical lines of a body without attributes, and the number of rejects."""
        form = FORMATS[self._format]
        if form.to_lines is not None:
            out = io.BytesIO()
            if self._format == "action-log" and self._read:
                form.to_lines(body[self._read :], self._lines, self._options, out)
            else:
                form.to_lines(body, None, self._options, out)
            self._read = len(body)
            body = self._lines = out.getvalue()
        out = io.BytesIO()
        found = entries.read_entries(body, self._format, self._options, self._base, out)
        canonical = b"".join(found.asserted.chunks()) if found.asserted is not None else out.getvalue()
        made = found.canonical
        self._base = Base(body, PatchedLines(canonical), made.notes, made.records, made.types, made.dropped_attributes)
        return _without_attributes(canonical), len(made.notes.rejects)


def _without_attributes(lines: bytes) -> bytes:
    bare = (json.loads(line) for line in lines.splitlines())
    return b"".join(b"%b %b\n" % (line["type"].encode(), line["value"].encode()) for line in bare)


@pytest.mark.slow  # each of 89 versions is read in eight formats
def test_the_churn_is_the_same_in_every_format() -> None:
    register = Register()
    text = Reader("text", FormatOptions({}, DOMAIN))
    readers = {name: (Reader(format, options), write) for name, (format, options, write) in WRITTEN.items()}
    compared = 0
    for number, names in churn.versions():
        register.become({name for name in names if not zlib.crc32(name.encode()) % SHARE})
        expected = text.read(_text(register))
        for name, (reader, write) in readers.items():
            assert reader.read(write(register)) == expected, f"version {number} as {name}"
            compared += 1
    assert compared == (churn.STEPS + 1) * len(WRITTEN)
