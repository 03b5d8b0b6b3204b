"""The probe: what a resolver answers for test entries, beside a control name, and what that proves."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from blocklistd.client import probe as module
from blocklistd.client.probe import Resolver, names_of_test_entries, probe
from blocklistd.errors import SyncError
from blocklistd.lines.exceptions import Excepted
from blocklistd.model import Entry
from tests.unit.test_client_sync import Scene

TEST = "blocktest.isp.example"
CONTROL = "isp.example"
Reply = Callable[[dns.message.Message], dns.message.Message | None]


def reply(code: dns.rcode.Rcode = dns.rcode.NOERROR, *records: str, silent: bool = False) -> Reply:
    """Answers with a code and records: `A 192.0.2.1`, `CNAME stop.isp.example.`."""

    def answer(query: dns.message.Message) -> dns.message.Message | None:
        made = dns.message.make_response(query)
        made.set_rcode(code)
        for record in records:
            kind, value = record.split()
            if kind in ("CNAME", dns.rdatatype.to_text(query.question[0].rdtype)):
                made.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", kind, value))
        return None if silent else made

    return answer


ADDRESS, NO_DATA = reply(dns.rcode.NOERROR, "A 192.0.2.1"), reply()
NXDOMAIN, REFUSED, SERVFAIL = (reply(code) for code in (dns.rcode.NXDOMAIN, dns.rcode.REFUSED, dns.rcode.SERVFAIL))
SILENT = reply(silent=True)
SIX = reply(dns.rcode.NOERROR, "AAAA 2001:db8::1")
STOP = reply(dns.rcode.NOERROR, "CNAME stop.isp.example.", "A 192.0.2.80")


class Server:
    """A resolver on loopback. `asked`: all names that it was asked for."""

    def __init__(self) -> None:
        self.replies: dict[str, Reply] = {}
        self.asked: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            data, peer = self._socket.recvfrom(4096)
            if not data:
                return
            query = dns.message.from_wire(data)
            assert query.flags & dns.flags.RD, "policies apply to recursive queries only"
            name = query.question[0].name.to_text(omit_final_dot=True)
            self.asked.append(name)
            if (answer := self.replies[name](query)) is not None:
                self._socket.sendto(answer.to_wire(), peer)

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self._socket.getsockname())
        self._thread.join(10)
        self._socket.close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(module, "CLIENT_PROBE", 0.0)
    monkeypatch.setattr(module, "CLIENT_PROBE_PAUSE", 0.0)
    monkeypatch.setattr(module, "CLIENT_PROBE_ANSWER", 0.3)
    server = Server()
    yield server
    server.close()


def snapshot(*names: str, tests: tuple[str, ...] = (TEST,)) -> bytes:
    entries = [Entry("domain", name, {"id": "e-1", "ref": '"test":true'}) for name in names]
    marked = [Entry("host", name, {"id": "e-2", "test": True}) for name in tests]
    return b"".join(sorted(entry.line() + b"\n" for entry in entries + marked))


def probed(
    server: Server, test: Reply, control: Reply, stops: tuple[str, ...] = (), text: bytes | None = None
) -> object:
    server.replies |= {TEST: test, CONTROL: control}
    return probe(
        Resolver.parse(server.address, stops), text or snapshot("bad.example"), None, threading.Event()
    ).outcome


@pytest.mark.parametrize("control", [ADDRESS, NO_DATA], ids=["address", "no data"])
@pytest.mark.parametrize("answer", [NXDOMAIN, REFUSED, SILENT], ids=["nxdomain", "refused", "silent"])
def test_what_counts_as_blocked(server: Server, answer: Reply, control: Reply) -> None:
    assert probed(server, answer, control) == "blocked"


def test_no_data_counts_only_beside_data(server: Server) -> None:
    assert probed(server, NO_DATA, ADDRESS) == "blocked"
    assert probed(server, NO_DATA, NO_DATA) is None


def test_an_address_is_not_blocked(server: Server) -> None:
    assert probed(server, ADDRESS, ADDRESS) == "resolves"
    assert probed(server, SIX, ADDRESS) == "resolves", "also one of IPv6 alone"


def test_the_stop_page_counts_as_blocked_if_it_is_known(server: Server) -> None:
    assert probed(server, STOP, ADDRESS, ("stop.isp.example.",)) == "blocked"
    assert probed(server, STOP, ADDRESS, ("192.0.2.80",)) == "blocked"
    assert probed(server, STOP, ADDRESS) == "resolves"
    assert probed(server, STOP, STOP, ("192.0.2.80",)) is None, "everything is redirected"


@pytest.mark.parametrize(
    "broken", [NXDOMAIN, REFUSED, SERVFAIL, SILENT], ids=["nxdomain", "refused", "servfail", "silent"]
)
def test_a_resolver_that_answers_nothing_proves_nothing(server: Server, broken: Reply) -> None:
    assert probed(server, broken, broken) is None


def test_a_server_failure_is_no_policy(server: Server) -> None:
    assert probed(server, SERVFAIL, ADDRESS) is None


def test_no_listed_name_but_a_test_entry_is_asked_for(server: Server) -> None:
    assert probed(server, NXDOMAIN, ADDRESS, text=snapshot("isp.example")) is None
    assert probed(server, NXDOMAIN, ADDRESS, text=snapshot("example")) is None
    assert server.asked == []
    assert probed(server, NXDOMAIN, ADDRESS) == "blocked"
    assert set(server.asked) == {TEST, CONTROL}


def test_one_test_entry_that_resolves_decides(server: Server) -> None:
    server.replies["second.isp.example"] = ADDRESS
    assert probed(server, NXDOMAIN, ADDRESS, text=snapshot(tests=(TEST, "second.isp.example"))) == "resolves"


def test_without_test_entries_there_is_nothing_to_prove(server: Server) -> None:
    result = probe(Resolver.parse(server.address), snapshot("bad.example", tests=()), None, threading.Event())
    assert (result.outcome, result.is_failure) == (None, True)
    assert "no test entry" in result.why


def test_an_excepted_test_entry_is_not_asked_for(server: Server) -> None:
    resolver, stop = Resolver.parse(server.address), threading.Event()
    excepted = Excepted(frozenset(), frozenset({TEST}))
    found = probe(resolver, snapshot(), None, stop, excepted)
    assert (found.outcome, server.asked) == (None, [])
    assert "local exceptions take out every test entry" in found.why
    server.replies = {"second.isp.example": NXDOMAIN, CONTROL: ADDRESS}
    found = probe(resolver, snapshot(tests=(TEST, "second.isp.example")), None, stop, excepted)
    assert (found.outcome, set(server.asked)) == ("blocked", {"second.isp.example", CONTROL})


def test_a_resolver_may_still_load_the_list(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLIENT_PROBE", 20.0)
    answers = iter([ADDRESS, ADDRESS, NXDOMAIN])
    assert probed(server, lambda query: next(answers)(query), ADDRESS) == "blocked"


def test_names_of_test_entries() -> None:
    assert list(names_of_test_entries(snapshot("a.example", "b.example"))) == [TEST]
    many = tuple(f"t{number}.example" for number in range(20))
    assert len(list(names_of_test_entries(snapshot(tests=many)))) == 8
    assert list(names_of_test_entries(b"")) == []


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [
        ("127.0.0.1:5353", "127.0.0.1", 5353),
        ("127.0.0.1", "127.0.0.1", 53),
        ("[::1]:5353", "::1", 5353),
        ("::1", "::1", 53),
    ],
)
def test_addresses_of_resolvers(text: str, address: str, port: int) -> None:
    assert (Resolver.parse(text).address, Resolver.parse(text).port) == (address, port)


@pytest.mark.parametrize("text", ["localhost", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:x", "", "resolver.example:53"])
def test_other_texts_are_no_address(text: str) -> None:
    with pytest.raises(SyncError, match="expected ADDRESS:PORT of this node's resolver"):
        Resolver.parse(text)


def test_a_sync_probes_until_it_is_blocked_and_reports_it(server: Server, tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.feed.receipt_status = 204
    scene.feed.version = 1
    scene.feed.snapshots[1] = snapshot("bad.example")
    scene.feed.sign()
    server.replies = {TEST: ADDRESS, CONTROL: ADDRESS}
    with pytest.raises(SyncError, match=r"version 1 is in place, but --probe .* an address for a test entry"):
        scene.sync(probe=server.address)
    server.replies[TEST] = NXDOMAIN
    scene.sync(probe=server.address)
    server.asked.clear()
    scene.sync(probe=server.address)
    assert server.asked == [], "it is proved for this version"
    with pytest.raises(SyncError, match="--exec ended with 1"):
        scene.sync(probe=server.address, exec="exit 1", format="plain")
    found = [(receipt["state"], receipt["probe"]) for receipt in scene.feed.receipts]
    assert found == [("applied", "resolves"), ("applied", "blocked"), ("failed", None)]
    scene.feed.close()
