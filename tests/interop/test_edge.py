"""An edge whole: a publisher, an edge with config/edge.yaml, and a real Unbound that can neither sign nor verify."""

from __future__ import annotations

import json
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import pytest
import yaml

from tests.interop.programs import Peers, Resolver
from tests.interop.stub import Stub
from tests.sim.proxy import LyingFeed
from tests.system.daemon import Daemon, free_port

ZONE = "rpz.blocklist.example"
EXAMPLE = Path(__file__).parents[2] / "config" / "edge.yaml"
EXPIRE = 3.0  # seconds: of the SOA of the edge's zone


class Chain:
    """The publisher, a proxy that may be hostile, the edge, and its resolver."""

    def __init__(self, folder: Path, stack: ExitStack, peers: Peers, stub: Stub) -> None:
        for name in ("publisher", "edge"):
            (folder / name).mkdir()
        self.list = folder / "publisher" / "list"
        self.list.write_text("a.example\nb.example\nc.example\n")
        source = {
            "format": "text",
            "defaults": {"type": "domain"},
            "schedule": "every 1d",
            "verify": {"method": "none"},
        }
        self.publisher = Daemon(
            folder / "publisher",
            {
                "sources": {"hotline": {"url": f"file:{self.list}", **source}},
                "lists": {"national": {"sources": ["hotline"]}},
                "keys": {"online": {"file": "own/online.pem"}},
            },
        )
        stack.enter_context(self.publisher)
        self.publisher.first_pull("hotline")
        self.proxy = LyingFeed(self.publisher.feed_port)
        stack.callback(self.proxy.close)
        self.dns_port = free_port()
        self.exceptions = folder / "edge" / "exceptions.json"
        self.edge = Daemon(folder / "edge", self.example())
        (folder / "edge" / "secrets").mkdir()
        token = folder / "edge" / "secrets" / "publisher.token"
        token.write_text(self.publisher.subscriber("edge", "national"))
        token.chmod(0o600)
        (folder / "edge" / "root.json").write_bytes(self.publisher.root.read_bytes())
        self.token = ""
        self.edge_started(stack)
        port = free_port()
        made = self.edge.ask(
            "subscriber add",
            id="resolver",
            lists=["national"],
            zones=[ZONE],
            address=["127.0.0.1"],
            notify=[f"127.0.0.1:{port}"],
            software="unbound",
        )
        assert made.status == 200, made.body
        self.token = made.json["token"]
        pasted = made.json["config"]["unbound"]
        self.resolver: Resolver = stack.enter_context(peers.start("unbound", folder, stub, port, pasted))

    def example(self) -> dict[str, Any]:
        """config/edge.yaml with the ports and folders of the test, and a zone that expires soon."""
        config: dict[str, Any] = yaml.load(EXAMPLE.read_text(), yaml.BaseLoader)
        config["sources"]["publisher"]["url"] = f"tuf+http://127.0.0.1:{self.proxy.server_port}/national"
        config["sources"]["publisher"]["schedule"] = "every 1d"  # the test pulls
        config["zones"][ZONE]["soa"] = {"refresh": "1s", "retry": "1s", "expire": f"{EXPIRE:.0f}s"}
        config["dns"] |= {"listen": [f"127.0.0.1:{self.dns_port}"], "notify": {"retry": "1s", "give_up": "1m"}}
        config["lists"]["national"]["exceptions"] = str(self.exceptions)
        for replaced in ("control", "feed", "ops"):
            del config[replaced]
        self.except_()
        return config

    def edge_started(self, stack: ExitStack) -> None:
        stack.enter_context(self.edge)
        self.edge.first_pull("publisher")

    def except_(self, *exceptions: dict[str, str]) -> None:
        self.exceptions.write_text(json.dumps({"exceptions": exceptions}))

    def publish(self, *names: str) -> None:
        self.list.write_text("".join(f"{name}\n" for name in names))
        assert self.publisher.pull("hotline")["outcome"] == "published"

    def blocks(self, *names: str) -> bool:
        """Whether the resolver blocks these names and no other of the test."""
        every = ("a.example", "b.example", "c.example", "d.example", "evil.example")
        return all(self.resolver.blocked(name) is (name in names) for name in every)

    def receipts(self) -> dict[str, tuple[int, str, str | None]]:
        """What the publisher knows of the nodes of the edge. A pull makes the edge send what is due."""
        self.edge.pull("publisher")
        nodes = self.publisher.ask("status").json["subscribers"]["edge"]["nodes"]
        return {node["node"]: (node["version"], node["state"], node["reason"]) for node in nodes}

    def ids(self) -> dict[str, str]:
        """The ids of the list's entries at the edge, by name: those that the publisher gave."""
        lines = self.edge.snapshot("national", self.token).splitlines()
        return {entry["value"]: entry["id"] for entry in map(json.loads, lines)}


@pytest.fixture
def chain(tmp_path: Path, peers: Peers, stub: Stub) -> Any:
    with ExitStack() as stack:
        yield Chain(tmp_path, stack, peers, stub)


def until(days: int) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).isoformat()


def test_a_hostile_middle_changes_nothing_and_an_absent_publisher_neither(chain: Chain) -> None:
    edge, resolver = chain.edge, chain.resolver
    resolver.wait(lambda: chain.blocks("a.example", "b.example", "c.example"))
    chain.publish("a.example", "b.example", "d.example")
    for path in ("timestamp.json", "snapshot.json", "targets.json", "/diffs/", "/targets/"):
        for change in (
            lambda body: body.replace(b"d.example", b"evil.example"),
            lambda body: body[: len(body) // 2],
            lambda body: body + b" " * 1000,
            lambda body: b"{}",
        ):
            chain.proxy.change = lambda at, status, headers, body, path=path, change=change: (  # type: ignore[misc]
                (status, {}, change(body)) if path in at else (status, headers, body)
            )
            outcome = edge.pull("publisher")["outcome"]
            assert outcome in ("failed", "unchanged", "published")
            assert b"evil" not in edge.snapshot("national", chain.token)
    chain.proxy.change = lambda at, status, headers, body: (status, headers, body)
    assert edge.pull("publisher")["outcome"] in ("published", "unchanged")
    resolver.wait(lambda: chain.blocks("a.example", "b.example", "d.example"))
    reported = {"edge-1": (2, "applied", None), "edge-1-resolver-127.0.0.1": (2, "applied", None)}
    resolver.wait(lambda: chain.receipts() == reported)

    # the publisher is away for longer than the zone may be old at the resolver
    chain.publisher.stop()
    away = datetime.now(UTC)
    assert edge.pull("publisher")["outcome"] == "failed"
    served = edge.ask("status").json["zones"][ZONE]["serial"]
    edge.wait_for(lambda: datetime.now(UTC) > away + timedelta(seconds=2 * EXPIRE))
    assert chain.blocks("a.example", "b.example", "d.example")
    assert soa_serial(chain.dns_port) == served
    status = edge.ask("status").json["sources"]["publisher"]
    assert status["outcome"] == "failed"
    assert status["age"] > 2 * EXPIRE
    metrics = edge.ops("/metrics").body.decode()
    signed = next(
        float(line.split()[-1])
        for line in metrics.splitlines()
        if line.startswith("blocklistd_source_last_accepted_timestamp_seconds")
    )
    assert datetime.now(UTC).timestamp() - signed > 2 * EXPIRE
    edge.kill()
    edge.start()
    edge.pull("publisher")
    resolver.wait(lambda: soa_serial(chain.dns_port) == served)
    assert chain.blocks("a.example", "b.example", "d.example")


def soa_serial(port: int) -> int:
    query = dns.message.make_query(ZONE, "SOA")
    answer = dns.query.udp(query, "127.0.0.1", timeout=10, port=port)
    assert answer.rcode() == dns.rcode.NOERROR
    return int(answer.find_rrset(answer.answer, query.question[0].name, dns.rdataclass.IN, dns.rdatatype.SOA)[0].serial)


@pytest.mark.slow  # an exception ends by the minute
def test_local_exceptions_are_not_blocked_until_they_end(chain: Chain) -> None:
    edge, resolver = chain.edge, chain.resolver
    resolver.wait(lambda: chain.blocks("a.example", "b.example", "c.example"))
    given = chain.ids()
    upstream = chain.publisher.subscriber("reader", "national")
    assert given["a.example"].encode() in chain.publisher.snapshot("national", upstream)

    exceptions = [
        {"id": given["a.example"], "reason": "ticket 7", "until": until(30)},
        {"name": "b.example", "reason": "ticket 8", "until": until(1)},
        {"name": "d.example", "reason": "ticket 9", "until": until(1)},
        {"name": "c.example", "reason": "ticket 10", "until": until(-1)},
    ]
    chain.except_(*exceptions)
    assert edge.ask("reload").status == 200
    resolver.wait(lambda: chain.blocks("c.example"))
    status = edge.ask("status").json["lists"]["national"]
    assert status["exceptions"]["in_force"] == 3
    assert status["withheld"]["exception"] == 2
    assert 'rule="exception"} 2.0' in edge.ops("/metrics").body.decode()
    explained = edge.ask("entry explain", list="national", entry="a.example").json
    assert "exceptions" in json.dumps(explained)
    partial = 1, "partial", "2 entries are withheld by local exceptions"
    resolver.wait(lambda: chain.receipts() == {"edge-1": partial, "edge-1-resolver-127.0.0.1": partial})

    # an entry that has an exception before it is listed never goes live; one that ends comes back by itself
    chain.publish("a.example", "b.example", "c.example", "d.example")
    assert edge.pull("publisher")["outcome"] in ("published", "unchanged")
    assert "d.example" not in chain.ids()
    exceptions[1]["until"] = (datetime.now(UTC) + timedelta(seconds=5)).isoformat()
    chain.except_(*exceptions)
    assert edge.ask("reload").status == 200
    resolver.wait(lambda: chain.blocks("b.example", "c.example"), within=180)
    lines = [line for line in edge.ask("audit").json if line["action"] == "exceptions"]
    assert [(line["actor"], line["object"]) for line in lines] == [("auto", "national")] * 2
    assert [line["detail"]["ids"] for line in lines] == [[given["a.example"]]] * 2
    assert [line["detail"]["names"] for line in lines] == [2, 1]
    assert "b.example" not in edge.log

    # a file with a fault changes nothing, and a reload says which
    chain.exceptions.write_text('{"exceptions": [{"name": "c.example", "reason": "forever"}]}')
    refused = edge.cli("reload", "-c", str(edge.path), check=False)
    assert refused.returncode == 2
    assert "lists.national.exceptions: found" in refused.stderr.decode()
    assert "exception 1: `until`" in refused.stderr.decode()
    assert chain.blocks("b.example", "c.example")
    edge.stop()
    edge.start()
    edge.wait_for(lambda: "the file of exceptions is unusable" in "".join(edge.ask("status").json["alarms"]))
    assert chain.blocks("b.example", "c.example")
    chain.except_()
    assert edge.ask("reload").status == 200
    resolver.wait(lambda: chain.blocks("a.example", "b.example", "c.example", "d.example"))
