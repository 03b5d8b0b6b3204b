"""Time to extract the values of a JSON or XML document of 1,000,000 records, and to publish it from the disk.

Both are compared with a shell that does the same extraction: `jq` for JSON, `xmllint` for XML. The shell of a
publication also sorts (`sort -u`), and makes the hash and the compressed file, as in the bench `lists`; a second row
has the publication beside the extraction alone. For blocklistd the extraction is what comes before the reading of lines
(`Format.to_lines`).
"""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench import bodies
from bench.compare import Row, in_turns, seconds
from bench.lists import Scene
from blocklistd.sources.formats import FORMATS
from blocklistd.sources.formats.records import FormatOptions

COUNT = 1_000_000
BOUND = 1.5
EXTRACT = {
    "json": "jq -r '.data[] | select(.DeleteDate == null) | .DomainAddress' \"$1\"",
    "xml": "xmllint --huge --xpath '/Rejestr/PozycjaRejestru[not(DeleteDate[text()])]/DomainAddress/text()' \"$1\"",
}
PUBLISH = "| sort -u >sorted && sha256sum sorted >hash && zstd -1 -q -f sorted"


class Shape(NamedTuple):
    """How the documents of a format are made and read."""

    head: str
    record: str
    between: str
    tail: str
    fields: dict[str, str]
    options: dict[str, object]


SHAPES = {
    "json": Shape(
        '{"data": [',
        '{{"RegisterPositionId": {0}, "DomainAddress": "{1}", '
        '"InsertDate": "2025-11-28T10:11:12", "DeleteDate": null}}',
        ", ",
        "]}\n",
        {"value": "/DomainAddress", "ref": "/RegisterPositionId"},
        {"records": "/data", "where": {"/DeleteDate": None}},
    ),
    "xml": Shape(
        '<?xml version="1.0" encoding="UTF-8"?>\n<Rejestr>\n',
        '  <PozycjaRejestru Lp="{0}">\n    <DomainAddress>{1}</DomainAddress>\n'
        "    <InsertDate>2025-11-28T10:11:12</InsertDate>\n  </PozycjaRejestru>",
        "\n",
        "\n</Rejestr>\n",
        {"value": "DomainAddress", "ref": "@Lp"},
        {"records": "Rejestr/PozycjaRejestru", "where": {"DeleteDate": None}},
    ),
}


def document(format: str, count: int) -> str:
    """A document with `count` domains."""
    shape = SHAPES[format]
    names = bodies.domains(count)
    return (
        shape.head + shape.between.join(map(shape.record.format, range(count), map(bytes.decode, names))) + shape.tail
    )


def rows(count: int = COUNT, rounds: int = 3) -> Iterator[Row]:
    """The rows of the table: for each format the extraction of its records, and the first load."""
    for format in SHAPES:
        with tempfile.TemporaryDirectory(prefix="bench-documents-") as name:
            yield from _rows(Path(name), format, count, rounds)


def _rows(folder: Path, format: str, count: int, rounds: int) -> Iterator[Row]:
    shape, peer = SHAPES[format], EXTRACT[format].split()[0]
    file = folder / f"list.{format}"
    file.write_text(document(format, count))
    title = f"{count:,} domains in {format}"

    def rewrite() -> None:
        options = FormatOptions(shape.fields, {"type": "domain"}, **shape.options)  # type: ignore[arg-type]
        to_lines = FORMATS[format].to_lines
        assert to_lines is not None
        with file.open("rb") as opened, (folder / "lines").open("wb") as out:
            to_lines(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ), None, options, out)

    def shell(more: str) -> float:
        command = ["sh", "-c", f"{EXTRACT[format]} {more}", "sh", str(file)]
        environment = {**os.environ, "LC_ALL": "C"}
        return seconds(lambda: subprocess.run(command, cwd=folder, env=environment, check=True))

    ours, theirs = in_turns(rounds, lambda: seconds(rewrite), lambda: shell(">values"))
    assert (folder / "values").read_bytes().count(b"\n") == count
    yield Row(f"{title}: its records as lines, one process", ours, theirs, peer, floor=BOUND)

    def publish() -> float:
        scenes = folder / "scene"
        shutil.rmtree(scenes, ignore_errors=True)
        scenes.mkdir()
        scene = Scene(scenes, "domain", {"format": format, "fields": shape.fields, "options": shape.options})
        with scene.daemon:
            scene.first_pulls()
            shutil.copyfile(file, scene.body)
            return seconds(scene.publish)

    ours, sorting = in_turns(rounds, publish, lambda: shell(PUBLISH))
    title = f"{title}: first load, until the version is served"
    yield Row(title, ours, sorting, f"{peer}, sort -u, sha256sum, zstd -1", floor=BOUND)
    yield Row(title, ours, theirs, f"{peer} alone", floor=BOUND)
