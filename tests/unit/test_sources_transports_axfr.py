from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rdatatype
import dns.renderer
import dns.rrset
import dns.tsig
import pytest

from blocklistd.errors import FetchError
from blocklistd.model import NotModified, Validators
from blocklistd.sources.reasons import FETCH, AllowedMessages
from blocklistd.sources.transports import axfr, zone_client
from blocklistd.sources.transports.axfr import REASONS, location, serial_is_newer
from blocklistd.sources.transports.sink import Sink
from blocklistd.sources.transports.transport import Arrived, Request, TransferKey
from blocklistd.sources.transports.zone_client import ZoneDownload

ZONE = "rpz.hotline.example"
SECRET = base64.b64encode(b"a secret of the tests").decode()
KEY = TransferKey("k.example", "hmac-sha256", base64.b64decode(SECRET))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("axfr://192.0.2.1/rpz.example", ("192.0.2.1", 53, "rpz.example.")),
        ("axfr://[2001:db8::1]:5353/RPZ.example.", ("2001:db8::1", 5353, "rpz.example.")),
        ("axfr://ns.hotline.example:1053/_rpz", ("ns.hotline.example", 1053, "_rpz.")),
        ("AXFR://localhost/rpz", ("localhost", 53, "rpz.")),
    ],
)
def test_a_url_names_server_and_zone(url: str, expected: tuple[str, int, str]) -> None:
    assert location(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        *("axfr:", "axfr://", "axfr://192.0.2.1", "axfr://192.0.2.1/", "axfr:///rpz.example", "axfr://ns.example/a..b"),
        *("axfr://u:p@ns.example/rpz", "axfr://ns.example:0/rpz", "axfr://ns.example:99999/rpz", "axfr://[::1/rpz"),
        *("axfr://ns.example/rpz?x", "axfr://ns.example/rpz#x", "axfr://ns.example/a/b", "axfr://ns.example/%41"),
        *(
            "axfr://192.0.2.300/rpz",
            "axfr://ns_.-/rpz",
            f"axfr://ns.example/{'a' * 64}",
            f"axfr://n.example/{'a.' * 127}b",
        ),
    ],
)
def test_any_other_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="axfr://SERVER/ZONE"):
        axfr.check(url)


def test_serials_are_compared_as_rfc_1982_says() -> None:
    assert serial_is_newer(1, 2**32 - 1)
    assert serial_is_newer(5, 4)
    assert not any(serial_is_newer(serial, 5) for serial in (5, 4, 5 + 2**31, 2**32 - 1 - 2**31 + 7))


# -- a primary whose answers a test writes -----------------------------------------------------------------------------


def soa(serial: int, owner: str = ZONE) -> str:
    return f"{owner}. 60 IN SOA localhost. hostmaster.hotline.example. {serial} 60 30 600 60"


def rule(name: str, data: str = "CNAME .") -> str:
    return f"{name}.{ZONE}. 60 IN {data}"


Answer = Callable[[dns.message.Message], list[bytes]]
"""The messages that answer a request; after them the connection is closed if one is empty, else it stays open."""


def answer(
    query: dns.message.Message, *messages: list[str], rcode: int = 0, unsigned: tuple[int, ...] = (), **change: Any
) -> list[bytes]:
    """Messages with these records, signed if the request was."""
    made, context = [], None
    for number, records in enumerate(messages):
        response = dns.message.make_response(query)
        response.set_rcode(dns.rcode.Rcode(rcode))
        response.flags |= dns.flags.AA
        if number:
            response.question = []
        for text in records:
            owner, ttl, rdclass, type, data = text.split(" ", 4)
            response.answer.append(dns.rrset.from_text(owner, int(ttl), rdclass, type, data))
        for name, value in change.items():
            setattr(response, name, value)
        if number in unsigned:
            response.want_tsig_sign, response.tsig = False, None
            wire = response.to_wire(max_size=65535)
            if context is not None:
                context.update(wire)
        else:
            wire = response.to_wire(max_size=65535, multi=True, tsig_ctx=context)
            context = response.tsig_ctx
        made.append(wire)
    return made


class Primary:
    """Answers each request by `answers`, by the type of its question. `asked`: these types."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.keyring = {dns.name.from_text("k.example"): dns.tsig.Key("k.example", SECRET)}

    @asynccontextmanager
    async def serve(self) -> Any:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            size = int.from_bytes(await reader.readexactly(2), "big")
            query = dns.message.from_wire(await reader.readexactly(size), keyring=self.keyring)
            kind = dns.rdatatype.to_text(query.question[0].rdtype)
            self.asked.append(kind)
            for wire in self.answers[kind](query):
                if not wire:
                    break
                writer.write(len(wire).to_bytes(2, "big") + wire)
            else:
                await reader.read()
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        async with server:
            yield server.sockets[0].getsockname()[1]


@pytest.fixture
def primary() -> Primary:
    made = Primary()
    made.answers["SOA"] = lambda query: answer(query, [soa(7)])
    return made


async def fetch(
    primary: Primary, folder: Path, position: str | None = None, tsig: TransferKey | None = None, max_bytes: int = 10**6
) -> tuple[Arrived | NotModified, str]:
    async with primary.serve() as port:
        request = Request(f"axfr://127.0.0.1:{port}/{ZONE}", None, 20, max_bytes, tsig=tsig)
        request = replace(request, validators=Validators(position=position))
        sink = Sink(folder / "body", request)
        try:
            async with ZoneDownload(request) as download:
                found = await download.body(sink)
                await sink.finish()
            return found, (folder / "body").read_text()
        finally:
            await sink.discard()


async def fails(primary: Primary, folder: Path, **request: Any) -> str:
    """The message of the failed transfer, which is one that the daemon accepts from the job."""
    with pytest.raises(FetchError) as caught:
        await fetch(primary, folder, **request)
    text = str(caught.value)
    allowed = AllowedMessages((*FETCH, *REASONS), (text.partition(": ")[0],), folder)
    assert allowed.fixed(FetchError, text) == text
    return text


ZONE_TEXT = f"$ORIGIN {ZONE}.\n@ 60 IN SOA localhost. hostmaster.hotline.example. 7 60 30 600 60\n"


@pytest.mark.parametrize("tsig", [None, KEY])
async def test_a_zone_is_transferred_completely(primary: Primary, tmp_path: Path, tsig: TransferKey | None) -> None:
    records = [rule("a.example"), rule("*.a.example", "CNAME stop.isp.example."), rule("B.example", 'TXT "x \\"y" z')]
    primary.answers["AXFR"] = lambda query: answer(
        query, [soa(7)], records, [rule("c.example", "TYPE65280 \\# 2 00ff"), soa(7)]
    )
    found, text = await fetch(primary, tmp_path, tsig=tsig)
    assert isinstance(found, Arrived)
    assert (found.validators, found.continues) == (Validators(position="7"), False)
    assert text == ZONE_TEXT + (
        "a.example 60 IN CNAME .\n*.a.example 60 IN CNAME stop.isp.example.\n"
        'b.example 60 IN TXT "x \\"y" "z"\nc.example 60 IN TYPE65280 \\# 2 00ff\n'
    )
    assert primary.asked == ["SOA", "AXFR"]


async def test_the_same_serial_is_not_modified(primary: Primary, tmp_path: Path) -> None:
    assert (await fetch_only(primary, tmp_path, "7")) == NotModified()
    assert primary.asked == ["SOA"]


async def fetch_only(primary: Primary, folder: Path, position: str) -> Arrived | NotModified:
    found, _ = await fetch(primary, folder, position)
    return found


async def test_differences_continue_the_last_body(primary: Primary, tmp_path: Path) -> None:
    primary.answers["IXFR"] = lambda query: answer(
        query,
        [soa(7), soa(4), rule("a.example")],
        [soa(6), rule("b.example"), soa(6)],
        [soa(7), rule("c.example"), soa(7)],
    )
    found, text = await fetch(primary, tmp_path, "4")
    assert isinstance(found, Arrived)
    assert (found.validators, found.continues) == (Validators(position="7"), True)
    signs = [line.split(" ", 1)[0] for line in text.splitlines()[1:]]
    assert signs == ["-@", "-a.example", "+@", "+b.example", "-@", "+@", "+c.example"]


@pytest.mark.parametrize(
    "differences",
    [
        lambda query: answer(query, [soa(7), rule("a.example"), soa(7)]),  # the complete zone
        lambda query: answer(query, [], rcode=4),
        lambda query: answer(query, [], rcode=5),
        lambda query: answer(query, [soa(7), soa(3), soa(7), soa(7)]),  # from another serial
        lambda query: answer(query, [soa(7), soa(4), rule("a.example"), soa(5), soa(6), soa(7), soa(7)]),  # a gap
        lambda query: answer(query, [soa(7), soa(4), rule("a.example"), soa(5), soa(7)]),
        lambda query: [*answer(query, [soa(7), soa(4), rule("a.example")]), b""],
        lambda query: [b""],
        lambda query: answer(
            query, *[[soa(7), soa(4)], *([rule(f"{'x' * 60}{n}") for n in range(99)] for _ in range(9))]
        ),
    ],
)
async def test_without_usable_differences_the_zone_is_transferred(
    primary: Primary, tmp_path: Path, differences: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zone_client, "MAX_DIFFERENCES", 10_000)
    primary.answers |= {"IXFR": differences, "AXFR": lambda query: answer(query, [soa(7), rule("a.example"), soa(7)])}
    found, text = await fetch(primary, tmp_path, "4")
    assert isinstance(found, Arrived)
    assert not found.continues
    assert text == ZONE_TEXT + "a.example 60 IN CNAME .\n"


async def test_a_serial_that_is_not_newer_is_a_complete_zone(primary: Primary, tmp_path: Path) -> None:
    primary.answers["AXFR"] = lambda query: answer(query, [soa(7), rule("a.example"), soa(7)])
    found, _ = await fetch(primary, tmp_path, "9")
    assert isinstance(found, Arrived)
    assert found.validators.position == "7"
    assert primary.asked == ["SOA", "AXFR"]


async def test_a_server_may_transfer_a_zone_and_answer_no_query(primary: Primary, tmp_path: Path) -> None:
    primary.answers["SOA"] = lambda query: answer(query, [], rcode=5)
    primary.answers["IXFR"] = lambda query: answer(query, [soa(7)])
    assert (await fetch_only(primary, tmp_path, "7")) == NotModified()


@pytest.mark.parametrize(
    ("transfer", "says"),
    [
        *((lambda query, code=code: answer(query, [], rcode=code), text) for code, text in axfr.RCODES.items()),
        (lambda query: answer(query, [], rcode=11), "RCODE 11"),
        (lambda query: answer(query, [rule("a.example"), soa(7)]), axfr.NO_SOA),
        (lambda query: answer(query, [soa(7, "other.example"), rule("a.example")]), axfr.NO_SOA),
        (lambda query: answer(query, []), axfr.NO_SOA),
        (lambda query: answer(query, [soa(7), rule("a.example"), soa(8)]), axfr.OTHER_SOA),
        (lambda query: answer(query, [soa(7), rule("a.example"), soa(7), rule("b.example")]), axfr.AFTER_END),
        (lambda query: [*answer(query, [soa(7), rule("a.example")]), b""], axfr.CLOSED),
        (lambda query: [b""], axfr.CLOSED),
        (lambda query: answer(query, [soa(7), soa(7)], id=query.id ^ 1), axfr.OTHER_ANSWER),
        (lambda query: answer(query, [soa(7), soa(7)], flags=0), axfr.OTHER_ANSWER),
        (lambda query: answer(query, [soa(7), soa(7)], flags=dns.flags.QR | dns.flags.TC), axfr.OTHER_ANSWER),
        (lambda query: answer(dns.message.make_query("x.example", "AXFR", id=query.id), [soa(7)]), axfr.OTHER_ANSWER),
        (lambda query: [b"HTTP/1.1 400 Bad Request"], axfr.NOT_DNS),
        (lambda query: [answer(query, [soa(7), soa(7)])[0] + b"\0"], axfr.NOT_DNS),
    ],
)
async def test_what_is_no_transfer_fails(primary: Primary, tmp_path: Path, transfer: Answer, says: str) -> None:
    primary.answers["AXFR"] = transfer
    assert says in await fails(primary, tmp_path)


async def test_a_zone_that_is_too_large_fails(primary: Primary, tmp_path: Path) -> None:
    primary.answers["AXFR"] = lambda query: answer(query, [soa(7)], *([rule(f"n{n}")] for n in range(200)), [soa(7)])
    assert "raise `max_bytes`" in await fails(primary, tmp_path, max_bytes=1000)


async def test_nobody_listens(tmp_path: Path) -> None:
    for host in ("127.0.0.1:1", "nobody.invalid"):
        request = Request(f"axfr://{host}/{ZONE}", None, 20, 10**6)
        with pytest.raises(FetchError, match="check `url`"):
            async with ZoneDownload(request) as download:
                await download.body(Sink(tmp_path / "body", request))


# -- TSIG --------------------------------------------------------------------------------------------------------------

MESSAGES = [[soa(7)], *([rule(f"n{number}")] for number in range(150)), [soa(7)]]


@pytest.mark.parametrize("unsigned", [(), (1, 2, 50), tuple(range(1, 100)), tuple(range(52, 151))])
async def test_messages_within_a_transfer_may_be_unsigned(
    primary: Primary, tmp_path: Path, unsigned: tuple[int, ...]
) -> None:
    primary.answers["AXFR"] = lambda query: answer(query, *MESSAGES, unsigned=unsigned)
    _, text = await fetch(primary, tmp_path, tsig=KEY)
    assert text.count("\n") == 152


@pytest.mark.parametrize("unsigned", [(0,), (151,), tuple(range(1, 101)), tuple(range(152))])
async def test_the_first_and_the_last_message_are_signed(
    primary: Primary, tmp_path: Path, unsigned: tuple[int, ...]
) -> None:
    primary.answers["AXFR"] = lambda query: answer(query, *MESSAGES, unsigned=unsigned)
    assert await fails(primary, tmp_path, tsig=KEY)


@pytest.mark.parametrize("at", [0, 20, 60, 151])
@pytest.mark.parametrize("unsigned", [(), (19, 20, 60)])
async def test_a_changed_message_is_refused(
    primary: Primary, tmp_path: Path, at: int, unsigned: tuple[int, ...]
) -> None:
    def changed(query: dns.message.Message) -> list[bytes]:
        made = answer(query, *MESSAGES, unsigned=unsigned)
        made[at] = made[at].replace(b"hostmaster", b"postmaster").replace(b"\2n", b"\2m").replace(b"\3n", b"\3m")
        return made

    primary.answers["AXFR"] = changed
    assert "a signature that does not fit" in await fails(primary, tmp_path, tsig=KEY)


@pytest.mark.parametrize("drop", [0, 60])
async def test_a_dropped_message_is_refused(primary: Primary, tmp_path: Path, drop: int) -> None:
    def dropped(query: dns.message.Message) -> list[bytes]:
        made = answer(query, *MESSAGES)
        return made[:drop] + made[drop + 1 :]

    primary.answers["AXFR"] = dropped
    assert "a signature that does not fit" in await fails(primary, tmp_path, tsig=KEY)


async def test_the_answer_to_an_earlier_request_is_refused(primary: Primary, tmp_path: Path) -> None:
    kept: list[list[bytes]] = []

    def replayed(query: dns.message.Message) -> list[bytes]:
        kept.append(answer(query, [soa(7), rule("a.example"), soa(7)]))
        return [query.id.to_bytes(2, "big") + wire[2:] for wire in kept[0]]

    primary.answers["AXFR"] = replayed
    await fetch(primary, tmp_path, tsig=KEY)
    assert "a signature that does not fit" in await fails(primary, tmp_path, tsig=KEY)


async def test_the_clocks_differ(primary: Primary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    primary.answers["SOA"] = lambda query: answer(query, [soa(7)])
    now = time.time()
    monkeypatch.setattr(zone_client, "now", lambda: int(now) + 400)
    assert "check the clocks" in await fails(primary, tmp_path, tsig=KEY)


@pytest.mark.parametrize(("error", "says"), axfr.TSIG_ERRORS.items())
async def test_an_error_of_the_servers_tsig_is_named(primary: Primary, tmp_path: Path, error: int, says: str) -> None:
    def refused(query: dns.message.Message) -> list[bytes]:
        response = dns.message.make_response(query, tsig_error=error)
        response.set_rcode(dns.rcode.NOTAUTH)
        return [response.to_wire()]

    primary.answers["SOA"] = refused
    assert says in await fails(primary, tmp_path, tsig=KEY)


def test_a_secret_is_in_no_text() -> None:
    assert "secret" not in repr(Request("axfr://ns.example/rpz", None, 1, 1, tsig=KEY)).replace("secrets", "")
