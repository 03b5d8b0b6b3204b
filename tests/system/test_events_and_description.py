"""The streams of events of a real daemon, and its OpenAPI document, to which schemathesis holds it."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.peers import unchecked
from tests.system.daemon import Daemon

NAMES = [f"n{number}.example" for number in range(50)]
EXAMPLES = 6  # of each operation
CONFIGURATION = """
[generation]
allow-extra-parameters = false  # the feed ignores parameters that it does not know
[dictionaries]
lists = {{ values = ["national", "empty", "nowhere"] }}
versions = {{ values = ["1", "2"] }}
files = {{ values = ["1.root.json", "1.targets.json", "2.snapshot.json"] }}
targets = {{ values = ["{sha256}.national.ndjson"] }}
seconds = {{ values = [1] }}
[parameters]
"path.list" = {{ dictionary = "lists", probability = 0.9 }}
"path.from" = {{ dictionary = "versions", probability = 0.9 }}
"path.to" = {{ dictionary = "versions", probability = 0.9 }}
"path.name" = {{ dictionary = "files", probability = 0.9 }}
"path.target" = {{ dictionary = "targets", probability = 0.9 }}
"query.wait" = {{ dictionary = "seconds", probability = 1 }}  # with `If-None-Match: *` it is a wait
[[operations]]
include-operation-id = "receipts"
[operations.checks.positive_data_acceptance]
enabled = false  # a reason that is not printable, or that has a URL, is refused: no schema says that
"""
"""With values by which the generated requests reach what exists."""


class Scene:
    """A daemon with two lists, of which the second has no version."""

    def __init__(self, folder: Path) -> None:
        self.body = folder / "list.txt"
        self.write(NAMES)
        common = {
            "format": "text",
            "defaults": {"type": "domain"},
            "schedule": "every 1d",
            "verify": {"method": "none"},
        }
        self.daemon = Daemon(
            folder,
            {
                "sources": {
                    "hotline": {"url": f"file:{self.body}", **common},
                    "absent": {"url": f"file:{folder}/absent.txt", **common},
                },
                "lists": {"national": {"sources": ["hotline"]}, "empty": {"sources": ["absent"]}},
            },
        )

    def write(self, names: list[str]) -> None:
        self.body.write_text("".join(f"{name}\n" for name in names))

    def publish(self, names: list[str]) -> None:
        self.write(names)
        assert self.daemon.pull("hotline")["outcome"] == "published"


class Events:
    """An open stream of events. Closes with its connection."""

    def __init__(self, daemon: Daemon, token: str, last: str = "") -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", daemon.feed_port, timeout=30)
        self._connection.request(
            "GET", "/v1/events", headers={"Authorization": f"Bearer {token}", "Last-Event-ID": last}
        )
        self.answer = self._connection.getresponse()
        self.last = last

    def next(self) -> dict[str, Any] | None:
        """The STATUS of the next event; None at the end of the stream."""
        while line := self.answer.readline():
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name == "id":
                self.last = value
            if name == "data":
                status: dict[str, Any] = json.loads(value)
                return status
        return None

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    made = Scene(tmp_path_factory.mktemp("events"))
    with made.daemon as daemon:
        for source in ("hotline", "absent"):
            daemon.first_pull(source)
        yield made


def test_a_stream_tells_of_versions_and_survives_a_restart(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    with scene.daemon as daemon:
        daemon.first_pull("hotline")
        token, other = daemon.subscriber("isp", "national", "empty"), daemon.subscriber("other", "empty")
        stream = Events(daemon, token)
        first = [stream.next(), stream.next()]
        assert {one["list"]: one["version"] for one in first if one} == {"national": 1, "empty": 0}
        narrow = Events(daemon, other)
        assert narrow.next() == next(one for one in first if one and one["list"] == "empty")
        scene.publish(NAMES[1:])
        second = stream.next()
        assert second is not None
        assert second == daemon.get("/v1/lists/national", token).json
        assert second["version"] == 2
        scrape = daemon.ops("/metrics").body.decode()
        assert "\nblocklistd_feed_event_streams 2.0\n" in scrape
        missing = Events(daemon, token, stream.last)
        scene.publish(NAMES[2:])
        assert [one.next()["version"] for one in (stream, missing)] == [3, 3]  # type: ignore[index]
        daemon.ask("subscriber revoke", id="other")
        daemon.stop()
        assert [one.next() for one in (stream, missing, narrow)] == [None, None, None], "each stream has its end"
        daemon.start()
        again = Events(daemon, token, stream.last)
        found = [again.next(), again.next()]
        assert {one["list"]: one["version"] for one in found if one} == {"national": 3, "empty": 0}, "another process"
        for one in (stream, missing, narrow, again):
            one.close()


def test_the_description_names_every_path_and_needs_a_token(scene: Scene) -> None:
    token = scene.daemon.subscriber("reader", "national")
    assert scene.daemon.get("/v1/openapi.json").status == 401
    answer = scene.daemon.get("/v1/openapi.json", token)
    assert answer.headers["content-type"].startswith("application/json")
    assert scene.daemon.get("/v1/openapi.json", token, If_None_Match=answer.headers["etag"]).status == 304
    assert answer.json["openapi"].startswith("3.1.")
    schemes = answer.json["components"]["securitySchemes"]
    assert {name: one["type"] for name, one in schemes.items()} == {"token": "http", "certificate": "mutualTLS"}
    assert answer.json["security"] == [{name: []} for name in schemes], "either of them suffices"
    for path in ("/v1/lists", "/v1/lists/{list}", "/v1/lists/{list}/diffs/{from}-{to}", "/v1/events"):
        allowed = {name.upper() for name in answer.json["paths"][path]} - {"PARAMETERS"}
        real = path.format(**{"list": "national", "from": 1, "to": 1})
        said = scene.daemon.get(real, token, method="OPTIONS")
        assert (said.status, set(said.headers["allow"].split(", "))) == (204, allowed)
        wrong = scene.daemon.get(real, token, method="PATCH")
        assert (wrong.status, wrong.headers["allow"]) == (405, said.headers["allow"])
        assert wrong.headers["content-type"].startswith("application/problem+json")


@pytest.mark.slow  # schemathesis sends every operation right and wrong requests
def test_the_feed_keeps_to_its_description(scene: Scene, tmp_path: Path) -> None:
    """Generated requests, right and wrong ones, to every operation but the endless one; each answer must be described,
    and of the described schema."""
    program = Path(sys.executable).with_name("schemathesis")
    if not program.exists():
        unchecked("schemathesis is not installed: pip install --require-hashes -r requirements-dev.lock")
    daemon = scene.daemon
    token = daemon.subscriber("tester", "national", "empty")
    scene.publish(NAMES[1:])
    (tmp_path / "openapi.json").write_bytes(daemon.get("/v1/openapi.json", token).body)
    values = CONFIGURATION.format(sha256=daemon.get("/v1/lists/national", token).json["sha256"])
    (tmp_path / "schemathesis.toml").write_text(values)
    done = subprocess.run(
        [
            *(str(program), "--config-file", "schemathesis.toml", "run", "openapi.json"),
            *("--url", f"http://127.0.0.1:{daemon.feed_port}", "--header", f"Authorization:Bearer {token}"),
            *("--phases", "coverage,fuzzing", "--request-timeout", "60"),
            *("--max-examples", str(EXAMPLES), "--generation-deterministic", "--no-shrink"),
            *("--exclude-operation-id-regex", "^events$|^options_", "--suppress-health-check", "all"),
            *("--report", "ndjson", "--report-ndjson-path", "report.ndjson"),
        ],
        cwd=tmp_path,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    statuses = set(re.findall(r'"status_code":\s*(\d+)', (tmp_path / "report.ndjson").read_text()))
    assert {"200", "304", "400", "401", "404", "405"} <= statuses
