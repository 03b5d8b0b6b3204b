"""Receipts of nodes: what the feed takes and refuses, and who is late or failed a probe in status, metrics, alarms and
the report."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import dns.tsig
import pytest

from blocklistd.limits import MAX_NODES
from tests.system.daemon import Answer, Daemon, free_port
from tests.system.test_alarms_to_people import Receiver
from tests.system.test_zones import ORIGIN, Secondary

ZONE = ORIGIN.to_text(omit_final_dot=True)
SECRET = "listed-elsewhere.example"


class Feed:
    """A daemon with a list that a subscriber has, one that it has not, and a zone; its alarms go to a receiver."""

    def __init__(self, folder: Path, receiver: Receiver) -> None:
        self.body, self.port = folder / "list.txt", free_port()
        (folder / "other.txt").write_text(f"{SECRET}\n")
        self.body.write_text("a.example\n")
        common = {
            "format": "text",
            "defaults": {"type": "domain"},
            "schedule": "every 1d",
            "verify": {"method": "none"},
        }
        guards = {"max_added": "100%", "max_removed": "100%", "min_change": 100, "daily": "off"}
        self.daemon = Daemon(
            folder,
            {
                "sources": {
                    "hotline": {"url": f"file:{self.body}", **common},
                    "second": {"url": f"file:{folder}/other.txt", **common},
                },
                "lists": {
                    "national": {"sources": ["hotline"], "guards": guards},
                    "foreign": {"sources": ["second"]},
                },
                "zones": {ZONE: {"list": "national"}},
                "dns": {"listen": [f"127.0.0.1:{self.port}"]},
                "alarms": {"webhook": {"url": receiver.url}},
            },
        )
        self.receiver = receiver
        self.session = self.token = ""

    def publish(self, *names: str) -> None:
        self.body.write_text("".join(f"{name}\n" for name in names))
        assert self.daemon.pull("hotline")["outcome"] == "published"

    def send(self, name: str = "national", token: str | None = None, **changes: Any) -> Answer:
        """Sends a receipt of edge-1 for version 1."""
        receipt = {"session": self.session, "version": 1, "node": "edge-1", "state": "applied", "reason": None}
        receipt |= {"applied_at": now(), "probe": None, **changes}
        return self.daemon.post(f"/v1/lists/{name}/receipts", token or self.token, json.dumps(receipt).encode())

    def shown(self, name: str = "isp") -> Any:
        return self.daemon.ask("status").json["subscribers"][name]

    def metric(self, name: str) -> float:
        found = re.search(rf"^blocklistd_{re.escape(name)} (\S+)$", self.daemon.ops("/metrics").body.decode(), re.M)
        assert found is not None, name
        return float(found[1])


def now(**ago: float) -> str:
    return (datetime.now(UTC) - timedelta(**ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Feed]:
    receiver = Receiver()
    made = Feed(tmp_path_factory.mktemp("receipts"), receiver)
    with made.daemon as daemon:
        for source in ("hotline", "second"):
            daemon.first_pull(source)
        made.token = daemon.subscriber("isp", "national")
        made.session = daemon.get("/v1/lists/national", made.token).json["session"]
        yield made
    receiver.stop()


def test_a_receipt_is_taken_and_shown(feed: Feed) -> None:
    at = now()
    assert (feed.send(applied_at=at).status, feed.send(applied_at=at).status) == (204, 204)
    (node,) = feed.shown()["nodes"]
    assert (node["node"], node["list"], node["version"], node["state"]) == ("edge-1", "national", 1, "applied")
    assert (node["applied_at"], node["lag"], node["late"], node["silent"]) == (at, 0.0, False, False)
    assert feed.shown()["lists"]["national"] == {"version": 1, "lag": 0.0}
    assert feed.metric('receipts_total{outcome="repeated"}') == 1
    text = feed.daemon.cli("subscriber", "show", "isp", "-c", str(feed.daemon.path)).stdout.decode()
    assert "edge-1: national at 1" in text


def test_what_is_refused_is_a_problem_that_does_not_quote_it(feed: Feed) -> None:
    before = feed.shown()["nodes"]
    refused: list[tuple[int, dict[str, Any]]] = [
        (409, {"session": "00000000-0000-4000-8000-000000000000"}),
        (409, {"version": 99}),
        (400, {"version": 0}),
        (400, {"version": 10**30}),
        (400, {"node": "edge\x1b[31m"}),
        (400, {"reason": "see https://a.example/"}),
        (400, {"reason": "the name a.example is not blocked"}),
        (400, {"node": "www.a.example"}),
        (400, {"applied_at": "yesterday"}),
    ]
    for status, changes in refused:
        answer = feed.send(**{"reason": "of edge-9", "node": "edge-9", **changes})
        assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json"), changes
        assert "a.example" not in answer.json["detail"]
    assert feed.daemon.post("/v1/lists/national/receipts", feed.token, b"{" * 5000).status == 413
    assert feed.shown()["nodes"] == before
    assert "client_ahead" in str(feed.daemon.ops("/metrics").body)
    assert "a.example" not in feed.daemon.log


def test_another_subscribers_list_is_not_there(feed: Feed) -> None:
    answers = [feed.send(name) for name in ("foreign", "nowhere")]
    assert [answer.status for answer in answers] == [404, 404]
    assert answers[0].body == answers[1].body
    assert feed.daemon.post("/v1/lists/national/receipts", "wrong", b"{}").status == 401


def test_the_answer_does_not_reveal_whether_a_name_is_on_another_list(feed: Feed) -> None:
    for name in (SECRET, "unlisted.example"):
        assert feed.send(node="edge-2", version=1, reason=f"no answer for {name}").status == 204
    assert feed.send(node=SECRET).status == feed.send(node="unlisted.example").status == 204
    shown = feed.daemon.ask("status").body.decode()
    assert SECRET not in shown
    assert SECRET not in feed.daemon.log
    assert {"withheld", "unlisted.example"} <= {node["node"] for node in feed.shown()["nodes"]}
    gone = ("withheld", "unlisted.example", "edge-2")
    assert feed.daemon.ask("subscriber set", id="isp", remove_node=list(gone)).status == 200
    assert [node["node"] for node in feed.shown()["nodes"]] == ["edge-1"]
    assert feed.daemon.ask("subscriber set", id="isp", remove_node=["edge-2"]).status == 409


def test_a_flood_of_node_names_is_bounded(feed: Feed) -> None:
    token = feed.daemon.subscriber("flood", "national")
    connection = HTTPConnection("127.0.0.1", feed.daemon.feed_port, timeout=60)
    statuses = []
    for number in range(MAX_NODES + 3):
        receipt = {"session": feed.session, "version": 1, "node": f"n{number}", "state": "applied", "applied_at": now()}
        connection.request(
            "POST", "/v1/lists/national/receipts", json.dumps(receipt), {"Authorization": f"Bearer {token}"}
        )
        answer = connection.getresponse()
        answer.read()
        statuses.append(answer.status)
    connection.close()
    assert statuses == [204] * MAX_NODES + [409] * 3
    assert feed.send(token=token, node="n7", version=1).status == 204, "a known node goes on"
    assert feed.daemon.ask("subscriber revoke", id="flood").status == 200


def test_a_late_node_and_a_failed_probe_are_alarms_once_until_they_are_over(feed: Feed) -> None:
    feed.publish("a.example", "b.example")
    assert feed.daemon.ask("subscriber set", id="isp", objective="1s").json["objective"] == 1.0
    assert feed.send(version=1, applied_at=now(seconds=1), probe="resolves").status == 204
    daemon, receiver = feed.daemon, feed.receiver
    daemon.wait_for(lambda: receiver.of("node_late") == ["raised"] and receiver.of("probe_failed") == ["raised"])
    (node,) = feed.shown()["nodes"]
    assert (node["late"], node["probe"], node["version"]) == (True, "resolves", 1)
    assert feed.metric('subscriber_nodes_late{subscriber="isp"}') == 1
    assert feed.metric('subscriber_probes_failed{subscriber="isp"}') == 1
    text = daemon.cli("status", "-c", str(daemon.path)).stdout.decode()
    assert "isp: late: edge-1" in text
    assert "isp: failed probe: edge-1" in text
    text = next(one["text"] for one in receiver.got if one["alarm"] == "node_late")
    assert "edge-1" in text
    assert feed.send(version=2, state="failed", reason="unbound does not reload").status == 204
    assert feed.shown()["nodes"][0]["late"], "a failed version is not live"
    assert feed.send(version=2, probe="blocked").status == 204
    daemon.wait_for(lambda: receiver.of("node_late") == ["raised", "cleared"])
    daemon.wait_for(lambda: receiver.of("probe_failed") == ["raised", "cleared"])
    assert feed.metric('subscriber_nodes_late{subscriber="isp"}') == 0


def test_the_report_has_the_time_of_each_version_at_each_node(feed: Feed) -> None:
    daemon, today = feed.daemon, datetime.now(UTC).date().isoformat()
    feed.publish("a.example", "b.example", "c.example")
    assert feed.send(version=3, node="edge-3", applied_at="2999-01-01T00:00:00Z").status == 204
    report = daemon.ask("subscriber report", id="isp", **{"from": today, "to": today}).json
    three, two, one = report["lists"]["national"]["versions"]
    assert (three["version"], three["live"], three["missing"]) == (3, 1, 1)
    assert three["nodes"]["edge-1"]["seconds"] is None
    assert 0 <= three["nodes"]["edge-3"]["seconds"] < 60, "a clock that is ahead does not count"
    assert two["nodes"].keys() == {"edge-1"}, "edge-3 was not known then"
    assert two["nodes"]["edge-1"]["probe"] == "blocked"
    assert (one["nodes"]["edge-1"]["state"], one["live"]) == ("applied", 1)
    assert {node["node"]: node["resolves"] for node in report["lists"]["national"]["nodes"]} == {
        "edge-1": 1,
        "edge-3": 0,
    }
    config = ("-c", str(daemon.path))
    text = daemon.cli("subscriber", "report", "isp", "--from", today, "--to", today, *config).stdout.decode()
    assert "edge-1" in text
    assert daemon.ask("subscriber report", id="nobody", **{"from": today, "to": today}).status == 409


def test_a_secondary_counts_by_its_serial_and_is_known_after_a_restart(feed: Feed) -> None:
    daemon, today = feed.daemon, datetime.now(UTC).date().isoformat()
    made = daemon.ask("subscriber add", id="resolver", zones=[ZONE], objective="6h").json
    tsig = made["tsig"]
    secondary = Secondary(feed.port, dns.tsig.Key(tsig["name"], base64.b64decode(tsig["secret"]), tsig["algorithm"]))
    first = secondary.refresh("AXFR")
    feed.publish("a.example", "d.example")
    daemon.wait_for(lambda: daemon.ask("status").json["zones"][ZONE]["serial"] > first)
    secondary.refresh()  # names the serial that it has
    report = daemon.ask("subscriber report", id="resolver", **{"from": today, "to": today}).json
    (at,) = [row for row in report["zones"][ZONE]["versions"] if row["version"] == first]
    assert at["nodes"]["127.0.0.1"]["seconds"] >= 0
    daemon.kill()
    daemon.start()
    (found,) = feed.shown("resolver")["zones"][ZONE]["secondaries"]
    assert (found["address"], found["serial"], found["late"], found["silent"]) == ("127.0.0.1", first, False, False)
    assert [node["node"] for node in feed.shown()["nodes"]] == ["edge-1", "edge-3"]
