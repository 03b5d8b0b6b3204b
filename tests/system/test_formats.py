"""A format that is added as CONTRIBUTING.md says, in one file, is right the first time: here, one JSON document."""

from __future__ import annotations

import json
from pathlib import Path

from tests.system.daemon import Daemon
from tests.system.package import Package

FORMAT = """
import json

from blocklistd.sources.formats.format import Format
from blocklistd.sources.formats.records import Record


def records(body, options):
    for number, found in enumerate(json.load(body)["entries"], 1):
        yield Record(number, found["kind"], found["name"], {})


FORMAT = Format(records)
"""
COUNT = 60_000


def test_a_document_is_read_as_a_whole_each_time(tmp_path: Path) -> None:
    package = Package(tmp_path)
    package.add("formats", "document", FORMAT, "document", "FORMAT")
    body = tmp_path / "list.json"
    source = {"url": f"file:{body}", "format": "document", "schedule": "every 1d", "verify": {"method": "none"}}
    daemon = Daemon(tmp_path, {"sources": {"hotline": source}, "lists": {"national": {"sources": ["hotline"]}}})
    daemon.tree = package.root

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
