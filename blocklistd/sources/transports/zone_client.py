"""Fetches a zone as a secondary does: asks for the SOA, then for the differences from the known serial or for the
complete zone. Each request has a TCP connection of its own.

With a key, each request is signed, and each answer is verified (RFC 8945). Some messages of a transfer may be unsigned,
but not the first and the last; the next signature covers them (RFC 8945 section 5.3.1).
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

import dns.exception
import dns.message
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.tsig

from blocklistd.errors import FetchError
from blocklistd.limits import DNS_CONNECT, MAX_DIFFERENCES, MAX_UNSIGNED
from blocklistd.model import NotModified, Validators
from blocklistd.sources.transports import axfr, zone_wire
from blocklistd.sources.transports.sink import Sink
from blocklistd.sources.transports.transport import Arrived, Download, Request, redacted_url
from blocklistd.sources.transports.zone_transfer import AXFR, IXFR, Content, TransferError, ZoneTransfer
from blocklistd.sources.transports.zone_wire import SOA, WireMessage

RESPONSE: Final = 0x8000
TRUNCATED: Final = 0x0200
OPCODE: Final = 0x7800
NOERROR: Final = 0


class AnswerError(TransferError):
    """The server answered with an error. `rcode`: its code."""

    def __init__(self, rcode: int) -> None:
        super().__init__(axfr.RCODES.get(rcode) or axfr.OTHER_RCODE.replace(" N)", f" {rcode})"))
        self.rcode = rcode


class SignatureError(TransferError):
    """An answer is not signed by the key, or its signature is wrong."""


class ZoneDownload(Download):
    """Fetches the zone of an axfr: URL. The signature of a transfer is in its messages; there is no other one."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self._where = redacted_url(request.url)
        try:
            self._location = axfr.location(request.url)
        except ValueError:
            raise FetchError(f"{self._where}: {axfr.NO_ZONE}") from None
        self._addresses: list[str] = []

    async def __aenter__(self) -> ZoneDownload:
        host, port, _ = self._location
        zone_wire.load()
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except socket.gaierror:
            raise FetchError(f"{self._where}: {axfr.NO_NAME}") from None
        self._addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
        return self

    async def body(self, sink: Sink) -> Arrived | NotModified:
        position = self.request.validators.position or ""
        known = int(position) if position.isdecimal() and int(position) < 2**32 else None
        try:
            return await self._body(sink, known)
        except TransferError as error:
            raise FetchError(f"{self._where}: {error}") from None

    async def _body(self, sink: Sink, known: int | None) -> Arrived | NotModified:
        serial = await self._serial()
        if known is not None and serial == known:
            return NotModified()
        if known is not None and (serial is None or axfr.serial_is_newer(serial, known)):
            arrived = await self._differences(sink, known)
            if arrived is not None:
                return arrived
        transfer = ZoneTransfer(self._zone)
        async with aclosing(self._ask(AXFR)) as messages:
            async for message in messages:
                await sink.write(transfer.read(message.answer))
                if self._is_end(transfer, message):
                    break
        return self._arrived(transfer)

    async def _differences(self, sink: Sink, known: int) -> Arrived | NotModified | None:
        """The body from a request for differences; None if the complete zone must be requested. Differences are in
        memory until they are complete."""
        transfer = ZoneTransfer(self._zone, known)
        pending = bytearray()
        try:
            async with aclosing(self._ask(IXFR, known)) as messages:
                async for message in messages:
                    pending += transfer.read(message.answer)
                    if transfer.content is Content.COMPLETE:
                        await sink.write(bytes(pending))
                        pending.clear()
                    if len(pending) > MAX_DIFFERENCES:
                        return None
                    if self._is_end(transfer, message):
                        break
        except SignatureError:
            raise
        except TransferError:  # such as a server that knows no IXFR (RFC 1995 section 4), or whose journal is damaged
            if transfer.content is Content.COMPLETE:
                raise
            return None
        if transfer.content is Content.SAME:
            return NotModified()
        await sink.write(bytes(pending))
        return self._arrived(transfer)

    async def _serial(self) -> int | None:
        """The serial of the zone; None if the server does not answer queries for it. It may still transfer the zone."""
        try:
            async with aclosing(self._ask(SOA)) as messages:
                async for message in messages:
                    return next((record.serial for record in message.answer if record.is_apex_soa), None)
        except AnswerError:
            pass
        return None

    @property
    def _zone(self) -> bytes:
        return self._location.zone.encode()

    def _is_end(self, transfer: ZoneTransfer, message: WireMessage) -> bool:
        """Whether this is the last message. Raises SignatureError if it is not signed and must be."""
        if transfer.done and self.request.tsig is not None and message.signature is None:
            raise SignatureError(axfr.UNSIGNED)
        return transfer.done

    def _arrived(self, transfer: ZoneTransfer) -> Arrived:
        return Arrived(
            self.request.url,
            validators=Validators(position=str(transfer.serial)),
            continues=transfer.content is Content.DIFFERENCES,
        )

    # -- messages ------------------------------------------------------------------------------------------------------

    async def _ask(self, type: int, known: int | None = None) -> AsyncGenerator[WireMessage, None]:
        """Send a request, and yield the verified messages of the answer. `known`: the serial in a request for
        differences. It never ends by itself: close it after the last message.

        Raises TransferError for a message that is refused and for a connection that ends too early, FetchError for any
        other error of the connection.
        """
        query = dns.message.make_query(
            dns.name.from_text(self._location.zone), dns.rdatatype.RdataType.make(type), id=secrets.randbelow(65536)
        )
        query.flags = 0  # no recursion
        if known is not None:
            soa = dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.SOA, f". . {known} 0 0 0 0")
            query.find_rrset(
                query.authority, query.question[0].name, dns.rdataclass.IN, dns.rdatatype.SOA, create=True
            ).add(soa, 0)
        key = self._key()
        if key is not None:
            query.use_tsig(key)
        sent = query.to_wire()
        verifier = None if key is None else _Verifier(key, query.mac or b"")
        reader, writer = await self._connect()
        try:
            writer.write(len(sent).to_bytes(2, "big") + sent)
            while True:
                size = int.from_bytes(await reader.readexactly(2), "big")
                wire = await reader.readexactly(size)
                try:
                    message = zone_wire.read_message(wire, self._zone)
                except zone_wire.WireError:
                    raise TransferError(axfr.NOT_DNS) from None
                if verifier is not None:
                    verifier.check(wire, message)
                elif message.signature is not None:
                    raise TransferError(axfr.OTHER_ANSWER)
                self._check(message, query.id, type)
                yield message
        except asyncio.IncompleteReadError:
            raise TransferError(axfr.CLOSED) from None
        except OSError as error:
            raise FetchError(f"{self._where}: {_network(error)}") from None
        finally:
            writer.close()

    def _check(self, message: WireMessage, id: int, type: int) -> None:
        """Raises TransferError unless the message belongs to the answer to our question, and is no error."""
        if message.id != id or message.flags & (RESPONSE | OPCODE | TRUNCATED) != RESPONSE:
            raise TransferError(axfr.OTHER_ANSWER)
        if message.question not in (None, (self._zone, type, zone_wire.IN)):
            raise TransferError(axfr.OTHER_ANSWER)
        if message.rcode != NOERROR:
            raise AnswerError(message.rcode)
        if not message.answer and type != SOA:
            raise TransferError(axfr.NO_SOA)

    def _key(self) -> dns.tsig.Key | None:
        found = self.request.tsig
        return None if found is None else dns.tsig.Key(found.name, found.secret, found.algorithm)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        failed: OSError = OSError()
        for address in self._addresses:
            try:
                async with asyncio.timeout(DNS_CONNECT):
                    return await asyncio.open_connection(address, self._location.port)
            except OSError as error:  # TimeoutError is one
                failed = error
        raise FetchError(f"{self._where}: {_network(failed)}")


class _Verifier:
    """Verifies the signatures of the messages of one answer, in their order."""

    def __init__(self, key: dns.tsig.Key, request_mac: bytes) -> None:
        self._key = key
        self._mac = request_mac
        self._context: Any = None
        self._unsigned = 0  # messages since the last signed one

    def check(self, wire: bytes, message: WireMessage) -> None:
        """Raises SignatureError unless the message is signed, or may be unsigned in the middle of a transfer."""
        found = message.signature
        if found is None and message.rcode != NOERROR:
            return  # a server without the key; the answer is refused anyway
        if found is None:
            self._unsigned += 1
            if self._context is None or self._unsigned > MAX_UNSIGNED:
                raise SignatureError(axfr.UNSIGNED)
            self._context.update(wire)
            return
        if found.record.error:
            raise SignatureError(axfr.TSIG_ERRORS.get(found.record.error, axfr.OTHER_RCODE.replace(" N)", " 9)")))
        try:
            self._context = dns.tsig.validate(  # type: ignore[no-untyped-call]
                wire,
                self._key,
                found.key,
                found.record,
                now(),
                self._mac,
                found.start,
                self._context,
                True,
            )
        except dns.tsig.BadTime:
            raise SignatureError(axfr.CLOCKS) from None
        except dns.exception.DNSException:
            raise SignatureError(axfr.WRONG_SIGNATURE) from None
        self._unsigned = 0


def now() -> int:
    """The time in Unix seconds, with which signed times are compared."""
    return int(time.time())


def _network(error: OSError) -> str:
    text = f"{os.strerror(error.errno)}: " if error.errno is not None else ""
    return f"{text}{axfr.NO_CONNECTION}"
