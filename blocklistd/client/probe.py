"""Asks the node's own resolver for the list's test entries: the proof that it applies the list.

Test entries are hosts under names of the publisher's own, marked `"test":true` in the list; they exist in the DNS, so
that they resolve where the list is not applied. Beside them a control name is asked for: the name above the test entry,
or the one of --probe-control. It exists, too, and is not listed. No other name is asked for, and no other server than
this resolver.

    control name                        test entry                                      result
    answers NOERROR                     NXDOMAIN, REFUSED, no address, no answer        blocked
    answers NOERROR                     an address or alias of --probe-stop             blocked
    answers NOERROR                     another address                                 resolves
    the same as the test entry, or anything but NOERROR                                 not known
    answers NOERROR                     SERVFAIL or another error                       not known

With several test entries, one that resolves decides, then one that is not known.
"""

from __future__ import annotations

import ipaddress
import mmap
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import orjson

from blocklistd.client.state import ProbeResult
from blocklistd.errors import SyncError
from blocklistd.limits import CLIENT_PROBE, CLIENT_PROBE_ANSWER, CLIENT_PROBE_PAUSE, CLIENT_PROBES
from blocklistd.lines.exceptions import NO_EXCEPTIONS, Excepted
from blocklistd.lines.keys import Buffer
from blocklistd.lines.snapshot import find

_IS_TEST: Final = b'"test":true'
_NAMED: Final = ("host", "domain")
_SILENT, _OTHER, _ADDRESS, _STOP, _NO_DATA, _NXDOMAIN, _REFUSED = (
    *("no answer", "an error", "an address", "the stop page"),
    *("no address", "NXDOMAIN", "REFUSED"),
)
_BLOCKS: Final = (_SILENT, _STOP, _NO_DATA, _NXDOMAIN, _REFUSED)


@dataclass(frozen=True, slots=True)
class Resolver:
    """The resolver that is probed. `stops`: the names and addresses to which it redirects listed names."""

    address: str
    port: int
    stops: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, text: str, stops: Sequence[str] = ()) -> Resolver:
        """Parses ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT; the port is 53 by default. Raises SyncError."""
        address, colon, port = text.rpartition(":")
        if not colon or (":" in address and not address.startswith("[")):
            address, port = text, "53"
        try:
            host = str(ipaddress.ip_address(address.removeprefix("[").removesuffix("]")))
            number = int(port) if port.isascii() and port.isdigit() else 0
            if not 0 < number < 65536:
                raise ValueError
        except ValueError:
            raise SyncError(
                f"--probe {text}: expected ADDRESS:PORT of this node's resolver, [ADDRESS]:PORT for IPv6"
            ) from None
        return cls(host, number, frozenset(one.rstrip(".").lower() for one in stops))

    def ask(self, name: str) -> str:
        """What the resolver answers for a name: the answer for A, or for AAAA if there is no A."""
        answer = self._ask(name, dns.rdatatype.A)
        return self._ask(name, dns.rdatatype.AAAA) if answer == _NO_DATA else answer

    def _ask(self, name: str, kind: dns.rdatatype.RdataType) -> str:
        query = dns.message.make_query(name, kind)
        try:
            answer, _ = dns.query.udp_with_fallback(query, self.address, CLIENT_PROBE_ANSWER, self.port)
        except dns.exception.Timeout:
            return _SILENT
        except (dns.exception.DNSException, OSError):
            return _OTHER
        if answer.rcode() in (dns.rcode.NXDOMAIN, dns.rcode.REFUSED):
            return _NXDOMAIN if answer.rcode() == dns.rcode.NXDOMAIN else _REFUSED
        if answer.rcode() != dns.rcode.NOERROR:
            return _OTHER
        records = [str(record).rstrip(".").lower() for found in answer.answer for record in found]
        if self.stops.intersection(records):
            return _STOP
        return _ADDRESS if any(found.rdtype == kind for found in answer.answer) else _NO_DATA


def probe(
    resolver: Resolver,
    snapshot: Buffer,
    control: str | None,
    stop: threading.Event,
    excepted: Excepted = NO_EXCEPTIONS,
) -> ProbeResult:
    """Probes a resolver, again for CLIENT_PROBE seconds while it does not block: it may still load the list. The test
    entries that local exceptions take out are not asked for: the resolver does not block them."""
    names = list(names_of_test_entries(snapshot, excepted))
    if not names and excepted and any(names_of_test_entries(snapshot)):
        return ProbeResult(
            None, "local exceptions take out every test entry: end one of these exceptions, or leave --probe out"
        )
    if not names:
        return ProbeResult(None, "the list has no test entry: ask the publisher for one, or leave --probe out")
    end = time.monotonic() + CLIENT_PROBE
    while True:
        results = [_probe_name(resolver, snapshot, name, control) for name in names]
        worst = min(results, key=lambda result: ["resolves", None, "blocked"].index(result.outcome))
        if worst.outcome == "blocked" or time.monotonic() > end or stop.wait(CLIENT_PROBE_PAUSE):
            return worst


def _probe_name(resolver: Resolver, snapshot: Buffer, name: str, control: str | None) -> ProbeResult:
    beside = control or name.partition(".")[2]
    if not beside or _is_listed(snapshot, beside):
        return ProbeResult(None, "the control name is listed, too: name another one with --probe-control")
    tested, compared = resolver.ask(name), resolver.ask(beside)
    if compared not in (_ADDRESS, _NO_DATA):
        return ProbeResult(
            None,
            f"the resolver answers {compared} for {beside}, which is not listed: does it run, and serve this host?",
        )
    if tested == compared != _ADDRESS:
        return ProbeResult(
            None, f"the resolver answers {tested} for {beside}, too: name one with an address with --probe-control"
        )
    if tested == _ADDRESS:
        return ProbeResult(
            "resolves", "the resolver answers with an address for a test entry: it does not apply the list"
        )
    if tested in _BLOCKS:
        return ProbeResult("blocked", f"the resolver answers {tested}")
    return ProbeResult(None, "the resolver answers a test entry with an error that is no policy: read its log")


def names_of_test_entries(snapshot: Buffer, excepted: Excepted = NO_EXCEPTIONS) -> Iterator[str]:
    """The names of the first CLIENT_PROBES entries that are marked as test entries, without the excepted ones. No value
    can contain the mark: it has quotes."""
    at = snapshot.find(_IS_TEST)
    for _ in range(CLIENT_PROBES):
        if at < 0:
            return
        end = snapshot.find(b"\n", at)
        line = bytes(snapshot[snapshot.rfind(b"\n", 0, at) + 1 : end])
        entry = orjson.loads(line)
        if entry.get("test") is True and entry["type"] in _NAMED and not (excepted and excepted.takes_out(line)):
            yield entry["value"]
        at = snapshot.find(_IS_TEST, end)
    if isinstance(snapshot, mmap.mmap):
        snapshot.madvise(mmap.MADV_DONTNEED)


def _is_listed(snapshot: Buffer, name: str) -> bool:
    """Whether the list has this name, or a domain above it."""
    labels = name.rstrip(".").lower().split(".")
    keys = [b'{"type":"host","value":"%b"' % ".".join(labels).encode()]
    keys += [b'{"type":"domain","value":"%b"' % ".".join(labels[n:]).encode() for n in range(len(labels))]
    return any(find(snapshot, key) is not None for key in keys)
