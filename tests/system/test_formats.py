"""A format that is added as CONTRIBUTING.md says, in one file, is right the first time: here, one JSON document."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"# nothing today\n\n# to block\n", "no record in it"),
        ("a.example\n".encode("utf-16"), "UTF-16"),
        (b"a.example\rb.example\r", "CR alone"),
        (b"[Adblock Plus 2.0]\n||a.example^\n||b.example^\n", "AdBlock"),
        (b"*.a.example\n*.b.example\n", "options.wildcards"),
        (b'[{"name":"a.example"}]\n', "JSON"),
    ],
)
def test_a_body_that_is_no_list_fails_and_says_what_it_is(tmp_path: Path, body: bytes, says: str) -> None:
    file = tmp_path / "list.txt"
    file.write_bytes(b"a.example\nb.example\n")
    defaults = {"type": "domain"}
    source = {"url": f"file:{file}", "format": "text", "defaults": defaults, "schedule": "every 1d"}
    source["verify"] = {"method": "none"}
    with Daemon(tmp_path, {"sources": {"hotline": source}, "lists": {"national": {"sources": ["hotline"]}}}) as daemon:
        daemon.first_pull("hotline")
        file.write_bytes(body)
        pulled = daemon.pull("hotline")
        assert pulled["outcome"] == "failed"
        assert says in pulled["reason"]
        assert "a.example" not in pulled["reason"]
        assert "a.example" not in daemon.log


def test_the_options_of_a_source_say_how_its_table_is_read(tmp_path: Path) -> None:
    file = tmp_path / "list.tsv"
    file.write_bytes(b"# a list\n1\ta.example\tx\n2\tb.example\ty\tz\n3\tc.example\n")
    source = {"url": f"file:{file}", "format": "csv", "defaults": {"type": "domain"}, "schedule": "every 1d"}
    options = {"delimiter": "tab", "columns": ["serial", "name", "note"], "comment": "#"}
    source |= {"fields": {"value": "name"}, "options": options, "verify": {"method": "none"}}
    guards = {"max_rejected": "100%"}
    lists = {"national": {"sources": ["hotline"], "guards": guards}}
    with Daemon(tmp_path, {"sources": {"hotline": source}, "lists": lists}) as daemon:
        daemon.first_pull("hotline")
        token = daemon.subscriber("isp", "national")
        live = [json.loads(line)["value"] for line in daemon.snapshot("national", token).splitlines()]
        assert live == ["a.example", "c.example"]
        assert daemon.ask("source show", source="hotline").json["rejected"] == {"long-row": 1}
