"""A format that is added as CONTRIBUTING.md says, in one file, is right the first time: here, one JSON document."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import blocklistd
from tests.system.daemon import Daemon

FORMAT = """
import json

from blocklistd.sources.formats.format import Format
from blocklistd.sources.formats.records import Record


def records(body, options):
    for number, found in enumerate(json.load(body)["entries"], 1):
        yield Record(number, found["kind"], found["name"], {})


FORMAT = Format(records)
"""
TABLE = '"text": text.FORMAT,'
COUNT = 60_000


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the package with the file and the line in the table."""
    assert blocklistd.__file__
    package = tmp_path / "tree" / "blocklistd"
    shutil.copytree(Path(blocklistd.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    formats = package / "sources" / "formats"
    (formats / "document.py").write_text(FORMAT)
    table = (formats / "__init__.py").read_text()
    assert TABLE in table
    table = table.replace(TABLE, TABLE + ' "document": document.FORMAT,').replace(
        "import csv,", "import csv, document,"
    )
    (formats / "__init__.py").write_text(table)
    return package.parent


def test_a_document_is_read_as_a_whole_each_time(tmp_path: Path, tree: Path) -> None:
    body = tmp_path / "list.json"
    source = {"url": f"file:{body}", "format": "document", "schedule": "every 1d", "verify": {"method": "none"}}
    daemon = Daemon(tmp_path, {"sources": {"hotline": source}, "lists": {"national": {"sources": ["hotline"]}}})
    daemon.tree = tree

    def write(count: int) -> set[str]:
        names = [f"n{number}.{'long' * 10}.example" for number in range(count)]
        entries = [{"name": name, "kind": "domain"} for name in names]
        body.write_text(json.dumps({"entries": entries}, indent=1))
        return set(names)

    def live(token: str) -> set[str]:
        return {json.loads(line)["value"] for line in daemon.snapshot("national", token).splitlines()}

    names = write(COUNT)
    assert body.stat().st_size > 5_000_000
    with daemon:
        daemon.first_pull("hotline")
        token = daemon.subscriber("isp", "national")
        assert live(token) == names
        fewer = write(COUNT - 1)
        assert daemon.pull("hotline")["outcome"] == "published"
        assert live(token) == fewer
