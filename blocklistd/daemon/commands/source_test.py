"""`source test | rejects`."""

from __future__ import annotations

import base64
import codecs
import csv
import io
import json
import os
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Final

import click

from blocklistd.daemon.commands.command import (
    EXAMINER,
    OPERATOR,
    Argument,
    Command,
    Document,
    Exit,
    Sent,
    Values,
    word,
)
from blocklistd.daemon.commands.lists import Array
from blocklistd.daemon.commands.source import EXIT, SOURCE
from blocklistd.daemon.commands.text import age, held_by, moved, table, total
from blocklistd.errors import RefusedError
from blocklistd.language.context import N_, _, known
from blocklistd.limits import MAX_SIGNATURE_BYTES

COLUMNS: Final = ("line", "reason", "explanation", "record")
_CHUNK: Final = 1 << 16  # bytes of a response that are read at once


_TEST_JSON: Final = """\
`{"source","outcome","reason","quarantine","verified","records","entries","types":{TYPE:N},"rejected":{REASON:N},\
"withheld":{REASON:N},"dropped_attributes","lines":{REASON:[N…]},"signed","age","overdue","lists":{LIST:{"outcome",\
"reason","candidate","base","version","entries","added","removed","changed","withheld":{RULE:N},\
"suffixes":{LABEL:{"added","removed","changed"}},"reasons":[{"guard","limit","found"}]}}}`.

- `outcome`, `reason`: as a pull would end. `verified`: whether the proof of origin was checked.
- `records` and `entries` are null if the body could not be read. `withheld`: records that are no fault of the body.
- `lines`: the numbers of the first 20 rejected and withheld records of each reason.
- `signed`: the time of the signature; `age`: the seconds since then; `overdue`: whether that is more than `max_age`.
- `base`: the live version of a list; `version`: the one that would be published, else null. The other figures are those
  of `candidate show`; they are null where nothing would be composed."""


def _check_test(values: Values) -> Exit | None:
    if values["signature"] is not None and values["body"] is None:
        return Exit(2, "--signature: expected --body too: the signature is that of the given body")
    return None


def _prepare_test(values: Values, sent: Values) -> Sent:
    """Opens the body, and reads the signature, which is sent with the arguments."""
    if values["body"] is None:
        return Sent(sent)
    if values["signature"] is not None:
        with open_input("--signature", values["signature"]) as file:
            signature = file.read(MAX_SIGNATURE_BYTES + 1)
        if len(signature) > MAX_SIGNATURE_BYTES:
            raise RefusedError(f"--signature: more than {MAX_SIGNATURE_BYTES} bytes: expected a signature")
        sent = {**sent, "signature": base64.b64encode(signature).decode()}
    return Sent(sent, open_input("--body", values["body"]))


def open_input(option: str, name: str) -> io.BufferedReader:
    """Opens a file for reading; `-` is stdin. Raises RefusedError unless it is a file or a pipe."""
    try:
        file = open(0 if name == "-" else name, "rb", closefd=name != "-")  # noqa: SIM115
        kind = os.fstat(file.fileno()).st_mode
    except (OSError, ValueError) as error:
        raise RefusedError(
            f"{option}: {name}: {getattr(error, 'strerror', None) or 'not a path'}: name a file"
        ) from None
    if not (stat.S_ISREG(kind) or stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind)):
        raise RefusedError(f"{option}: {name}: not a file or a pipe: name a file, or `-` for stdin from a pipe")
    return file


def _test(found: Document, values: Values) -> None:
    outcome = _(found["outcome"])
    click.echo(_("{source}: a pull would end as: {outcome}", source=found["source"], outcome=outcome))
    if found["reason"] and not EXIT[found["outcome"]]:  # another outcome has its reason on stderr
        click.echo(known(found["reason"]))
    if found["records"] is None:
        return
    for line in _notes(found, given=values["body"] is not None):
        click.echo(line)
    click.echo()
    rows: list[tuple[str, object]] = [(name, found[name]) for name in ("records", "entries", "types")]
    rows.append(("rejected", total(found["rejected"])))
    if found["withheld"]:
        rows.append(("withheld", total(found["withheld"])))
    if found["dropped_attributes"]:
        rows.append(("dropped attributes", found["dropped_attributes"]))
    if found["signed"]:
        named = {"time": found["signed"], "duration": age(found["age"])}
        text = N_("{time} ({duration} ago, OVERDUE)") if found["overdue"] else N_("{time} ({duration} ago)")
        rows.append(("signed", _(text, **named)))
    table(("", ""), rows, coloured=("",))
    if found["lines"]:
        click.echo()
        counts = found["rejected"] | found["withheld"]
        table(
            ("REJECTED AS", "COUNT", "LINES"),
            [(reason, counts[reason], _lines(numbers, counts[reason])) for reason, numbers in found["lines"].items()],
        )
    for name, one in found["lists"].items():
        click.echo()
        table(("", ""), list(_of_list(name, one)), coloured=("",))


def _notes(found: Document, *, given: bool) -> Iterator[str]:
    """Notes on the figures: an origin that was not verified, and a quarantine."""
    if given and not found["verified"]:
        yield _("the origin of the given body is NOT verified (--signature gives its signature)")
    elif not found["verified"]:
        yield _("the origin of the body is NOT verified: this source has `verify: none`")
    if found["quarantine"]:
        yield _("the source is in quarantine: the lists are tried as if it were not")


def _lines(numbers: list[int], count: int) -> str:
    more = ", …" if count > len(numbers) else ""
    return ", ".join(map(str, numbers)) + more


def _of_list(name: str, one: dict[str, Any]) -> Iterator[tuple[str, object]]:
    """The rows for one list."""
    outcome = _(one["outcome"])
    yield (
        _("list {name}", name=name),
        f"{outcome}: {known(one['reason'])}" if one["reason"] and not one["reasons"] else outcome,
    )
    if one["added"] is None:
        return
    yield "version", one["version"] if one["version"] is not None else _("stays {version}", version=one["base"])
    yield "entries", one["entries"]
    yield "change", moved(one["added"], one["removed"], one["changed"])
    for reason in one["reasons"]:
        yield "held by", held_by(reason)
    if one["candidate"]:
        yield "candidate", one["candidate"]
    if one["withheld"]:
        yield "withheld", total(one["withheld"])
    for suffix, count in one["suffixes"].items():
        counts = moved(count["added"], count["removed"], count["changed"])
        yield _("under {suffix}", suffix=f".{suffix.removeprefix('.')}"), counts


def _test_exit(found: Document, values: Values) -> Exit | None:
    if not (code := EXIT[found["outcome"]]):
        return None
    return Exit(
        code, f"{found['source']}: a pull would end as {found['outcome']}: {found['reason']}; nothing was changed"
    )


# -- rejects -----------------------------------------------------------------------------------------------------------


def _not_on_a_terminal(values: Values) -> Exit | None:
    if os.isatty(1) and not values["show_entries"]:
        return Exit(
            1, "rejects may contain entries: add --show-entries to print them on a terminal, or redirect them to a file"
        )
    return None


def _rejects(response: Any, values: Values) -> None:
    """Prints the rejects, which arrive as NDJSON: as CSV, or as one JSON array."""
    out: BinaryIO = Printable(sys.stdout.buffer) if os.isatty(1) else sys.stdout.buffer
    if values["json"]:
        array = Array(out)
        shutil.copyfileobj(response, array)
        array.close()
    else:
        write_csv(_lines_of(response), out)
    sys.stdout.buffer.flush()


def _lines_of(response: Any) -> Iterator[bytes]:
    """The lines of a response. `read` raises IncompleteRead for one that was cut short; `readline` does not."""
    rest = b""
    while data := response.read(_CHUNK):
        *lines, rest = (rest + data).split(b"\n")
        yield from lines


def write_csv(lines: Iterable[bytes], out: BinaryIO) -> None:
    """Writes rejects, each a JSON document, as CSV with a header. Rows end in CR LF (RFC 4180)."""
    buffer = io.StringIO(newline="")
    rows = csv.writer(buffer)
    rows.writerow(COLUMNS)
    for line in lines:
        record = json.loads(line)
        rows.writerow([record[name] for name in COLUMNS])
        if buffer.tell() > _CHUNK:
            out.write(buffer.getvalue().encode())
            buffer.seek(0)
            buffer.truncate()
    out.write(buffer.getvalue().encode())


class Printable(io.BytesIO):
    """Passes UTF-8 on to a terminal, with each character that is not printable as its escape. A write may end within a
    character."""

    def __init__(self, out: BinaryIO) -> None:
        super().__init__()
        self._out = out
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="backslashreplace")

    def write(self, data: Any, /) -> int:
        text = self._decoder.decode(bytes(data)).replace("\r\n", "\n")
        shown = (one if one.isprintable() or one in "\n\t" else ascii(one)[1:-1] for one in text)
        self._out.write("".join(shown).encode())
        return len(data)


COMMANDS: Final = (
    Command(
        "source test",
        "Show what a pull of a source would do, and change nothing. Prints records, rejects by reason and line, the "
        "change of each list, and the guards that would hold it. A source in quarantine is tried as if it were not. "
        "Exit 4: a list would hold it.",
        OPERATOR,
        lambda daemon, call: daemon.tests.test(call["source"], call.upload, call["signature"]),
        _test,
        (
            SOURCE,
            Argument(
                "body",
                "Read this file in place of the body at the URL; `-` reads stdin. Without --signature its origin is "
                "not verified.",
                "--body",
                metavar="FILE",
                local=True,
            ),
            Argument("signature", "The signature file of the body.", "--signature", metavar="FILE", read=word),
        ),
        uploads=True,
        json=_TEST_JSON,
        check=_check_test,
        prepare=_prepare_test,
        end=_test_exit,
    ),
    Command(
        "source rejects",
        "Write the rejects of a source's newest body, for the hotline: line, reason, explanation and record of each. "
        "It is CSV (RFC 4180); with --json, one JSON array.",
        EXAMINER,
        lambda daemon, call: daemon.tests.rejects(call["source"], call.act),
        _rejects,
        (
            SOURCE,
            Argument("show_entries", "Print the rejects on a terminal, too.", "--show-entries", flag=True, local=True),
        ),
        copied=True,
        audited=True,
        json='`[{"line","reason","explanation","record"}…]`, one element a line.',
        check=_not_on_a_terminal,
    ),
)
