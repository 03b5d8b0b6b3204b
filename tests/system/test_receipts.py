"""Receipts of nodes: what the feed takes and refuses, and who is late or failed a probe in status, metrics, alarms and
the report."""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dns.tsig
import pytest

from blocklistd.client.options import Options
from blocklistd.client.sync import sync_once
from blocklistd.errors import SyncError
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
        self.token = ""

    def publish(self, *names: str) -> None:
        self.body.write_text("".join(f"{name}\n" for name in names))
        assert self.daemon.pull("hotline")["outcome"] == "published"

    @property
    def status(self) -> Any:
        return self.daemon.get("/v1/lists/national", self.token).json

    def subscriber(self, name: str, **more: Any) -> Sender:
        answer = self.daemon.ask("subscriber add", id=name, lists=["national"], **more)
        assert answer.status == 200, answer.body
        return Sender(self, name, answer.json["token"])

    def metric(self, name: str) -> float:
        found = re.search(rf"^blocklistd_{re.escape(name)} (\S+)$", self.daemon.ops("/metrics").body.decode(), re.M)
        assert found is not None, name
        return float(found[1])


class Sender:
    """A subscriber that sends receipts."""

    def __init__(self, feed: Feed, name: str, token: str) -> None:
        self.feed, self.name, self.token = feed, name, token

    def send(self, list_id: str = "national", **changes: Any) -> Answer:
        """Sends a receipt of edge-1 for the newest version."""
        status = self.feed.status
        receipt = {"session": status["session"], "version": status["version"], "node": "edge-1", "state": "applied"}
        receipt |= {"reason": None, "applied_at": now(), "probe": None, **changes}
        return self.feed.daemon.post(f"/v1/lists/{list_id}/receipts", self.token, json.dumps(receipt).encode())

    @property
    def shown(self) -> Any:
        return self.feed.daemon.ask("status").json["subscribers"][self.name]

    @property
    def nodes(self) -> list[str]:
        return [node["node"] for node in self.shown["nodes"]]


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
        yield made
    receiver.stop()


def test_a_receipt_is_taken_and_shown(feed: Feed) -> None:
    isp, at = feed.subscriber("isp-1", objective="6h"), now()
    before = feed.metric('receipts_total{outcome="repeated"}')
    assert (isp.send(applied_at=at).status, isp.send(applied_at=at).status) == (204, 204)
    assert feed.metric('receipts_total{outcome="repeated"}') == before + 1
    (node,) = isp.shown["nodes"]
    version = feed.status["version"]
    assert (node["node"], node["list"], node["version"], node["state"]) == ("edge-1", "national", version, "applied")
    assert (node["applied_at"], node["lag"], node["late"], node["silent"]) == (at, 0.0, False, False)
    assert isp.shown["lists"]["national"] == {"version": version, "lag": 0.0}
    assert isp.shown["objective"] == 21600
    text = feed.daemon.cli("subscriber", "show", "isp-1", "-c", str(feed.daemon.path)).stdout.decode()
    assert f"edge-1: national at {version}" in text


def test_a_node_with_a_wrong_clock_is_shown(feed: Feed) -> None:
    isp = feed.subscriber("clocks")
    past, future = "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"
    assert (isp.send(node="past", applied_at=past).status, isp.send(node="future", applied_at=future).status) == (
        204,
    ) * 2
    nodes = {node["node"]: node for node in isp.shown["nodes"]}
    assert {name: node["clock"] for name, node in nodes.items()} == {"past": "behind", "future": "ahead"}
    for node in nodes.values():
        assert feed.status["published"] <= node["applied_at"] <= now(), "the time of arrival"
    text = feed.daemon.cli("subscriber", "show", "clocks", "-c", str(feed.daemon.path)).stdout.decode()
    assert "its clock is BEHIND" in text
    assert isp.send(node="past", applied_at="2026-11-20T12:00:00.123456789123Z").status == 204
    assert isp.send(node="past").status == 204


def test_what_is_refused_is_a_problem_that_does_not_quote_it(feed: Feed) -> None:
    isp = feed.subscriber("isp-2")
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
        answer = isp.send(**changes)
        assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json"), changes
        assert "a.example" not in answer.json["detail"]
    assert feed.daemon.post("/v1/lists/national/receipts", isp.token, b"{" * 5000).status == 413
    assert isp.nodes == []
    assert 'blocklistd_alarms_active{alarm="client_ahead"} 1.0' in feed.daemon.ops("/metrics").body.decode()
    assert not re.search(r"\ba\.example", feed.daemon.log)


def test_another_subscribers_list_is_not_there(feed: Feed) -> None:
    isp = feed.subscriber("isp-3")
    answers = [isp.send(name) for name in ("foreign", "nowhere")]
    assert [answer.status for answer in answers] == [404, 404]
    assert answers[0].body == answers[1].body
    assert feed.daemon.post("/v1/lists/national/receipts", "wrong", b"{}").status == 401


def test_the_answer_does_not_reveal_whether_a_name_is_on_another_list(feed: Feed) -> None:
    isp = feed.subscriber("isp-4")
    for name in (SECRET, "unlisted.example"):
        assert isp.send(node="edge-2", reason=f"no answer for {name}").status == 204
        assert isp.send(node=name).status == 204
    shown = feed.daemon.ask("status").body.decode()
    assert SECRET not in shown
    assert SECRET not in feed.daemon.log
    assert sorted(isp.nodes) == ["edge-2", "unlisted.example", "withheld"]
    answer = feed.daemon.ask("subscriber set", id="isp-4", remove_node=["withheld", "unlisted.example"])
    assert (answer.status, isp.nodes) == (200, ["edge-2"])
    assert feed.daemon.ask("subscriber set", id="isp-4", remove_node=["withheld"]).status != 200


def test_a_flood_of_node_names_is_bounded(feed: Feed) -> None:
    flood, status = feed.subscriber("flood"), feed.status
    same = {"session": status["session"], "version": status["version"], "state": "applied", "applied_at": now()}

    def send(number: int) -> int:
        receipt = json.dumps({"node": f"n{number}", **same}).encode()
        return feed.daemon.post("/v1/lists/national/receipts", flood.token, receipt).status

    with ThreadPoolExecutor(32) as at_once:  # one after another, each would wait for the next transaction
        statuses = sorted(at_once.map(send, range(MAX_NODES + 3)))
    assert statuses == [204] * MAX_NODES + [409] * 3
    assert flood.send(node=flood.nodes[0]).status == 204, "a known node goes on"
    assert feed.daemon.ask("subscriber revoke", id="flood").status == 200


def test_a_late_node_and_a_failed_probe_are_alarms_once_until_they_are_over(feed: Feed) -> None:
    isp, daemon, receiver = feed.subscriber("isp-5", objective="1s"), feed.daemon, feed.receiver
    assert isp.send(applied_at=now(seconds=1), probe="resolves").status == 204
    before = feed.status["version"]
    feed.publish("a.example", "b.example", f"v{before}.example")

    def of(alarm: str) -> list[str]:
        return [one["state"] for one in receiver.got if (one["alarm"], one["subject"]) == (alarm, "isp-5 national")]

    daemon.wait_for(lambda: isp.shown["nodes"][0]["late"])
    assert daemon.ask("subscriber set", id="isp-5", objective="2s").json["objective"] == 2.0  # checks the nodes soon
    daemon.wait_for(lambda: of("node_late") == of("probe_failed") == ["raised"])
    (node,) = isp.shown["nodes"]
    assert (node["late"], node["probe"], node["version"]) == (True, "resolves", before)
    assert feed.metric('subscriber_nodes_late{subscriber="isp-5"}') == 1
    assert feed.metric('subscriber_probes_failed{subscriber="isp-5"}') == 1
    text = daemon.cli("status", "-c", str(daemon.path)).stdout.decode()
    assert "isp-5: late: edge-1" in text
    assert "isp-5: failed probe: edge-1" in text
    assert "edge-1" in next(one["text"] for one in receiver.got if one["alarm"] == "node_late")
    assert isp.send(state="failed", reason="unbound does not reload").status == 204
    assert isp.shown["nodes"][0]["late"], "a failed version is not live"
    assert isp.send(probe="blocked").status == 204
    daemon.wait_for(lambda: of("node_late") == of("probe_failed") == ["raised", "cleared"])
    assert feed.metric('subscriber_nodes_late{subscriber="isp-5"}') == 0
    assert daemon.ask("subscriber set", id="isp-5", objective="off").json["objective"] is None


def test_the_report_has_the_time_of_each_version_at_each_node(feed: Feed) -> None:
    isp, daemon, today = feed.subscriber("isp-6", objective="6h"), feed.daemon, datetime.now(UTC).date().isoformat()
    assert isp.send(probe="blocked").status == 204
    first = feed.status["version"]
    feed.publish("a.example", "c.example", f"v{first}.example")
    assert isp.send(node="edge-3", applied_at="2999-01-01T00:00:00Z").status == 204
    report = daemon.ask("subscriber report", id="isp-6", **{"from": today, "to": today}).json
    newest, before = report["lists"]["national"]["versions"][:2]
    assert (newest["version"], newest["live"], newest["missing"], newest["late"]) == (first + 1, 1, 1, 0)
    assert newest["nodes"]["edge-1"]["seconds"] is None
    assert 0 <= newest["nodes"]["edge-3"]["seconds"] < 60, "a clock that is ahead does not count"
    assert before["nodes"].keys() == {"edge-1"}, "edge-3 was not known then"
    assert (before["nodes"]["edge-1"]["probe"], before["nodes"]["edge-1"]["state"]) == ("blocked", "applied")
    assert {node["node"]: node["blocked"] for node in report["lists"]["national"]["nodes"]} == {
        "edge-1": 1,
        "edge-3": 0,
    }
    config = ("-c", str(daemon.path))
    text = daemon.cli("subscriber", "report", "isp-6", "--from", today, "--to", today, *config).stdout.decode()
    assert "edge-1" in text
    assert daemon.ask("subscriber report", id="nobody", **{"from": today, "to": today}).status != 200


def test_a_secondary_counts_by_its_serial_and_is_known_after_a_restart(feed: Feed) -> None:
    isp, daemon, today = feed.subscriber("isp-7"), feed.daemon, datetime.now(UTC).date().isoformat()
    assert isp.send().status == 204
    made = daemon.ask("subscriber add", id="resolver", zones=[ZONE], objective="6h").json
    tsig = made["tsig"]
    secondary = Secondary(feed.port, dns.tsig.Key(tsig["name"], base64.b64decode(tsig["secret"]), tsig["algorithm"]))
    first = secondary.refresh("AXFR")
    feed.publish("a.example", "d.example", f"v{feed.status['version']}.example")
    daemon.wait_for(lambda: daemon.ask("status").json["zones"][ZONE]["serial"] > first)
    secondary.refresh()  # names the serial that it has
    report = daemon.ask("subscriber report", id="resolver", **{"from": today, "to": today}).json
    (at,) = [row for row in report["zones"][ZONE]["versions"] if row["version"] == first]
    assert at["nodes"]["127.0.0.1"]["seconds"] >= 0
    daemon.kill()
    daemon.start()
    (found,) = daemon.ask("status").json["subscribers"]["resolver"]["zones"][ZONE]["secondaries"]
    assert (found["address"], found["serial"], found["late"], found["silent"]) == ("127.0.0.1", first, False, False)
    assert isp.nodes == ["edge-1"]


def test_what_sync_does_is_what_the_daemon_shows(feed: Feed, tmp_path: Path) -> None:
    isp, daemon, today = feed.subscriber("isp-8"), feed.daemon, datetime.now(UTC).date().isoformat()
    (tmp_path / "token").write_text(isp.token)
    said: list[str] = []
    good = tmp_path / "good"

    def sync(command: str = f"test -e {good}", exceptions: Path | None = None) -> str:
        feed_url, folder, token = f"http://127.0.0.1:{daemon.feed_port}", tmp_path / "copy", tmp_path / "token"
        options = Options(feed_url, "national", daemon.root, folder, token, node="edge-8", exec=command)
        return sync_once(replace(options, exceptions=exceptions), said.append).how

    def shown() -> list[object]:
        (node,) = isp.shown["nodes"]
        assert (node["node"], node["list"]) == ("edge-8", "national")
        return [node[key] for key in ("version", "reported", "state", "reason")]

    first = feed.status["version"]
    with pytest.raises(SyncError, match="the next sync runs it again"):
        sync()
    assert shown() == [None, first, "failed", "--exec ended with 1"]
    good.touch()
    assert sync() == "unchanged"
    assert shown() == [first, first, "applied", None]
    taken = feed.metric('receipts_total{outcome="taken"}')
    assert sync() == "unchanged"
    assert feed.metric('receipts_total{outcome="taken"}') == taken, "one receipt a version"
    feed.publish("a.example", "e.example", f"v{first}.example")
    assert sync() == "diff"
    assert shown() == [first + 1, first + 1, "applied", None]
    report = daemon.ask("subscriber report", id="isp-8", **{"from": today, "to": today}).json
    newest, before = report["lists"]["national"]["versions"][:2]
    assert (newest["version"], newest["nodes"]["edge-8"]["state"], newest["live"]) == (first + 1, "applied", 1)
    assert (before["version"], before["nodes"]["edge-8"]["state"]) == (first, "applied")
    text = daemon.cli("subscriber", "show", "isp-8", "-c", str(daemon.path)).stdout.decode()
    assert f"edge-8: national at {first + 1}" in text
    assert said == []

    one = {"name": "e.example", "reason": "ticket 8", "until": "2999-01-01T00:00:00Z"}
    (tmp_path / "exceptions.json").write_text(json.dumps({"exceptions": [one]}))
    feed.publish("a.example", "e.example", f"w{first}.example")
    assert sync(exceptions=tmp_path / "exceptions.json") == "diff"
    assert shown() == [first + 2, first + 2, "partial", "1 of 3 entries are withheld by local exceptions"]
    assert said == ["1 of 3 entries are withheld from national.excepted.ndjson by local exceptions"]
    said.clear()

    feed.publish("a.example", "f.example", f"v{first}.example")
    revoke = f"{sys.executable} -m blocklistd subscriber revoke isp-8 -c {daemon.path}"
    assert sync(revoke) == "diff"
    assert len(said) == 1
    assert "401: the token is wrong or was revoked" in said[0]
    assert said[0].endswith(f"the receipt for version {first + 3} was not taken: the next sync sends it again")
    with pytest.raises(SyncError, match="401: the token is wrong or was revoked: ask the publisher"):
        sync()
