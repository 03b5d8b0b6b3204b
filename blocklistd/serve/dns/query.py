"""Decides the answer to a DNS request: from bytes and the time to an answer, or to a transfer to send. Pure.

The order of checks is that of RFC 8945 5.2: the key, the signature, the time; then EDNS, the opcode, the question, and
whether the client is entitled to the zone. docs/dns.md has the table of answers.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Final

from blocklistd.serve.dns import message as dm
from blocklistd.serve.dns import tsig
from blocklistd.serve.dns.message import Malformed, Query
from blocklistd.serve.dns.transfer import is_newer, unwrap_serial
from blocklistd.serve.dns.tsig import Key, Signer
from blocklistd.serve.dns.zones import Peer, TlsClient, Zones, ZoneView

ANSWERED_TYPES: Final = (dm.SOA, dm.AXFR, dm.IXFR)
MAX_SHOWN_KEY_NAME: Final = 64
"""The most characters of an unknown key's name in the log."""
_UNSAFE: Final = re.compile(r"[^a-z0-9._-]")
_TSIG_REASONS: Final = {
    tsig.BADKEY: "there is no such key, or it is of another algorithm",
    tsig.BADSIG: "its signature is wrong",
    tsig.BADTIME: "its clock and ours differ too much",
}
_TYPE_NAMES: Final = {dm.SOA: "SOA", dm.AXFR: "AXFR", dm.IXFR: "IXFR"}


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of one message.

    `query_type`: "SOA", "AXFR", "IXFR", "other" or "malformed", for metrics. `rcode`: the code with the bits of OPT
    (RFC 6891 6.1.3). `refused`: why the client is refused, for the log; "" if it is not. `client`: the refused
    subscriber, or the name of the unknown key.
    """

    wire: bytes
    query_type: str = "malformed"
    rcode: int = dm.FORMERR
    refused: str = ""
    client: str = ""


@dataclass(frozen=True, slots=True)
class _Refusal:
    """The answer REFUSED. `why` is for the log; the client gets the same answer for every reason."""

    why: str


@dataclass(frozen=True, slots=True)
class Transfer:
    """A transfer to send: the difference from serial `since` to `view`, or the complete zone if `since` is None."""

    query: Query
    view: ZoneView
    key: Key | None
    since: int | None
    subscriber: str

    @property
    def query_type(self) -> str:
        """As in Reply."""
        return _TYPE_NAMES[self.query.type]


@dataclass(frozen=True, slots=True)
class SecondaryRequest:
    """A request of an entitled secondary, while the zone's serial was `current`.

    `poll`: it requests the SOA record, else a transfer. `serial` is the secondary's own (32 bits), or None. `key`: the
    name of the TSIG key, in wire format, if it is signed.
    """

    peer: Peer
    zone: bytes
    address: str
    serial: int | None
    current: int
    poll: bool = False
    key: bytes | None = None


def respond(
    wire: bytes, zones: Zones, address: str, *clocks: int, tcp: bool, tls: TlsClient | None = None
) -> tuple[Reply | Transfer | None, SecondaryRequest | None]:
    """The answer (None: send none), and the entitled secondary that sent the request (None: not entitled).

    `clocks` as in `time_for`. `tcp`: not over UDP. `tls`: the client, if the connection is TLS. Raises nothing,
    whatever the bytes.
    """
    try:
        query = dm.parse(wire)
    except Malformed as malformed:
        return (Reply(malformed.answer) if malformed.answer else None), None
    if zones.halted:  # REFUSED or NOTAUTH could make a secondary give up its zone
        return Reply(dm.answer(query, dm.SERVFAIL), _query_type(query), dm.SERVFAIL), None
    key, now = None, time_for(query, clocks)
    if query.tsig is not None:
        try:
            key = tsig.check(wire, query.tsig, zones.key(query.tsig.name, clocks[0]), now)
        except tsig.TsigRefused as refused:
            client, why = _client_identity(query, zones, tls), _TSIG_REASONS[refused.error]
            made = _answer_to_bad_signature(query, refused, now)
            if not tcp and len(made) > query.payload:
                made = dm.truncated(query)
            return Reply(made, _query_type(query), dm.NOTAUTH, why, client), None
    answer, seen = _decide(query, zones, key, address, tcp, tls)
    if isinstance(answer, Transfer):
        return answer, seen
    why = answer.why if isinstance(answer, _Refusal) else ""
    plain = dm.answer(query, dm.REFUSED) if isinstance(answer, _Refusal) else answer
    signed = sign(query, key, plain, now)
    if not tcp and len(signed) > query.payload:
        signed = sign(query, key, dm.truncated(query), now)
    rcode = dm.BADVERS if query.edns else plain[3] & 15
    return Reply(signed, _query_type(query), rcode, why, _client_identity(query, zones, tls) if why else ""), seen


def time_for(query: Query, clocks: tuple[int, ...]) -> int:
    """The time for checking and signing, in Unix seconds: the time in `clocks` that is nearest to the signed time of
    the request.

    If our clocks differ, one of them is wrong, and the request shows which. An unsigned request gets the first.
    """
    if query.tsig is None:
        return clocks[0]
    signed = query.tsig.time
    return min(clocks, key=lambda ours: abs(ours - signed))


def _client_identity(query: Query, zones: Zones, tls: TlsClient | None) -> str:
    """The subscriber whose key a request names, or the unknown name of the key, with unsafe characters replaced. For an
    unsigned request the subscriber of the client certificate."""
    if query.tsig is None:
        owner = zones.owner(tls.certificate) if tls is not None else None
        return owner.subscriber if owner is not None else ""
    subscriber = zones.subscriber(query.tsig.name)
    if subscriber is not None:
        return subscriber
    labels, name = list[str](), query.tsig.name
    while length := name[0]:
        labels.append(name[1 : 1 + length].decode("latin-1"))
        name = name[1 + length :]
    return f"the unknown key {_UNSAFE.sub('?', '.'.join(labels))[:MAX_SHOWN_KEY_NAME]}"


def _query_type(query: Query) -> str:
    """The `query_type` of a Reply."""
    return _TYPE_NAMES.get(query.type, "other") if query.opcode == dm.QUERY else "other"


def sign(query: Query, key: Key | None, answer: bytes, now: int) -> bytes:
    """The answer, signed if the query was. `now` is in Unix seconds."""
    if key is None or query.tsig is None:
        return answer
    return Signer(key, query.tsig.mac).sign(answer, now)


def _answer_to_bad_signature(query: Query, refused: tsig.TsigRefused, now: int) -> bytes:
    """The answer NOTAUTH to a request whose signature fails the check (RFC 8945 5.2)."""
    assert query.tsig is not None
    answer = dm.answer(query, dm.NOTAUTH)
    if refused.key is None:
        return tsig.unsigned_error(answer, query.tsig, now, refused.error)
    # RFC 8945 5.2.3: signed, with the time of the request; our time is the other data
    other = struct.pack("!HI", now >> 32, now & 0xFFFFFFFF)
    return Signer(refused.key, query.tsig.mac).sign(answer, query.tsig.time, refused.error, other)


def _decide(
    query: Query, zones: Zones, key: Key | None, address: str, tcp: bool, tls: TlsClient | None
) -> tuple[bytes | Transfer | _Refusal, SecondaryRequest | None]:
    """Decides on a request whose signature, if any, is valid."""
    if query.edns:
        return dm.answer(query, dm.BADVERS), None
    if query.opcode != dm.QUERY:
        return dm.answer(query, dm.NOTIMP), None
    if query.klass != dm.IN or query.type not in ANSWERED_TYPES:
        return _Refusal("only SOA, AXFR and IXFR are answered"), None
    if query.name not in zones:
        return _Refusal("there is no such zone"), None
    peer = zones.peer_of(key, address, query.name, tls.certificate if tls is not None else "")
    if peer is None:
        return _Refusal("it is not entitled to the zone"), None
    if tls is not None and not tls.alpn and not peer.without_alpn:  # RFC 9103 7.1
        return _Refusal(
            "it uses TLS without the ALPN protocol `dot`, and its software is not registered as unbound"
        ), None
    view = zones.view_for(query.name, peer.subscriber)
    if view is None:  # an empty zone would unblock everything on a secondary that has a copy from before
        return dm.answer(query, dm.SERVFAIL), None
    serial = query.serial if query.type == dm.IXFR else None
    signed_by = key.name if key is not None else None
    seen = SecondaryRequest(peer, query.name, address, serial, view.serial, query.type == dm.SOA, signed_by)
    if query.type == dm.IXFR and query.serial is None:
        return dm.answer(query, dm.FORMERR), None
    if query.type == dm.AXFR and not tcp:
        return _Refusal("an AXFR is not answered over UDP"), None  # RFC 5936 4.2
    current = query.type == dm.IXFR and query.serial is not None and not is_newer(view.serial % 2**32, query.serial)
    if query.type == dm.SOA or current or not tcp:
        return dm.answer(query, dm.NOERROR, view.soa(), 1, authoritative=True), seen
    return Transfer(query, view, key, _since(query, view), peer.subscriber), seen


def _since(query: Query, view: ZoneView) -> int | None:
    """The client's serial, unwrapped, if a difference from it can be made; else None."""
    if query.type != dm.IXFR or query.serial is None:
        return None
    since = unwrap_serial(query.serial, view.serial)
    return since if since >= view.oldest else None
