"""TLS between a TCP transport and a protocol of asyncio, on pyOpenSSL.

Python's `ssl` can neither ask for a client certificate that no authority has signed, nor refuse a handshake in which no
ALPN protocol matches (docs/adr/0024). States of a TlsProtocol:
    handshaking   from `connection_made` on, for at most TLS_HANDSHAKE seconds and MAX_TLS_HANDSHAKE octets; the TCP
                  transport can be aborted
    established   the inner protocol was made, and has a TlsTransport; it sends and receives plain text
    closed        after `connection_lost`; `lost` was called, or `connection_lost` of the inner protocol
Ciphertext that is not sent yet is bounded: the client's bytes are not read while the TCP transport's buffer is full, so
that a client can't demand answers to its TLS messages (KeyUpdate) faster than it reads them. A connection with more
than TLS_MESSAGES of them is aborted: one takes 20 µs, or 60 µs with the answer, and OpenSSL processes all that it gets.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, cast

from blocklistd.limits import MAX_TLS_HANDSHAKE, TLS_HANDSHAKE, TLS_MESSAGES

if TYPE_CHECKING:
    from OpenSSL import SSL

_READ: Final = 64 * 1024  # octets of plain text, or of ciphertext to send, that are taken at once
_CIPHERTEXT: Final = 4 * 1024  # octets of received ciphertext that are processed at once: 150 KeyUpdate messages

Established = Callable[["SSL.Connection"], asyncio.Protocol]
"""Makes the inner protocol of a connection whose handshake has succeeded."""

Divide = Callable[[memoryview], Iterable[memoryview]]
"""Divides what one `write` sends: each part begins a TLS record."""


class Messages:
    """The number of TLS messages of a connection: those of the client, and the answers to them. `trusted`: False once
    the client's certificate could not be verified, and the context accepts it all the same."""

    def __init__(self) -> None:
        self.count = 0
        self.trusted = True


def count_messages(connection: SSL.Connection, where: int, code: int) -> None:
    """Counts a connection's TLS messages in the Messages that are its app data. The context of a TlsProtocol needs this
    function as its info callback, which OpenSSL calls for each state of a message."""
    from OpenSSL import SSL

    messages = connection.get_app_data()
    if where == SSL.SSL_CB_ACCEPT_EXIT and messages is not None:
        messages.count += 1


class TlsTransport(asyncio.Transport):
    """The transport of the inner protocol. Buffer limits are those of the TCP transport, and count ciphertext."""

    def __init__(self, protocol: TlsProtocol, tcp: asyncio.Transport) -> None:
        super().__init__()
        self._protocol = protocol
        self._tcp = tcp

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What the TCP transport knows, like `peername`."""
        return self._tcp.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Sends plain text."""
        self._protocol.encrypt(data)

    def close(self) -> None:
        """Closes the connection once all is sent."""
        self._protocol.close()

    def abort(self) -> None:
        self._tcp.abort()

    def is_closing(self) -> bool:
        """Whether the connection is closed, or being closed."""
        return self._tcp.is_closing()

    def is_reading(self) -> bool:
        """Whether the inner protocol takes plain text."""
        return not self._protocol.inner_paused

    def pause_reading(self) -> None:
        """Delivers no more plain text."""
        self._protocol.pause_inner(True)

    def resume_reading(self) -> None:
        """Delivers plain text again."""
        self._protocol.pause_inner(False)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Sets the octets of ciphertext at which writing is paused and resumed."""
        self._tcp.set_write_buffer_limits(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """These limits, the lower one first."""
        return self._tcp.get_write_buffer_limits()

    def get_write_buffer_size(self) -> int:
        """Octets of ciphertext that the kernel has not taken yet."""
        return self._tcp.get_write_buffer_size()

    def can_write_eof(self) -> bool:
        """False: `close` ends both directions."""
        return False


class TlsProtocol(asyncio.Protocol):
    """The server's side of a TLS connection. `context`: None refuses the connection. `made` gets the TCP transport.
    `established` makes the inner protocol; `lost` is called if the connection ends before that. `divide`: a client may
    need records that end where messages do. `refused` gets the reason of a failed handshake, or of an
    aborted connection, for the log."""

    def __init__(
        self,
        context: SSL.Context | None,
        made: Callable[[asyncio.Transport], None],
        established: Established,
        lost: Callable[[], None],
        divide: Divide = lambda text: (text,),
        refused: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self._context = context
        self._made = made
        self._established = established
        self._lost = lost
        self._divide = divide
        self._refused = refused
        self._inner: asyncio.Protocol | None = None
        self._messages = Messages()
        self._handshake_messages = self._handshake_octets = 0
        self._timer: asyncio.TimerHandle | None = None
        self._write_paused = False
        self._tcp_ended = False
        """Whether the client has sent its last byte."""
        self._ended = False
        """Whether the inner protocol knows that."""
        self.inner_paused = False
        """Whether the inner protocol takes no more plain text."""

    # -- from the TCP transport ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        from OpenSSL import SSL

        self._tcp = cast(asyncio.Transport, transport)
        self._made(self._tcp)
        if self._context is None:
            self._tcp.abort()
            return
        self._want_read: type[Exception] = SSL.WantReadError
        self._error: type[Exception] = SSL.Error
        self._tls = SSL.Connection(self._context, None)
        self._tls.set_accept_state()
        self._tls.set_app_data(self._messages)
        self._timer = asyncio.get_running_loop().call_later(TLS_HANDSHAKE, self._time_out)

    def data_received(self, data: bytes) -> None:
        if self._context is None:
            return
        for at in range(0, len(data), _CIPHERTEXT):
            if self._tcp.is_closing():
                return
            piece = data[at : at + _CIPHERTEXT]
            if self._inner is None:
                self._handshake_octets += len(piece)
                if self._handshake_octets > MAX_TLS_HANDSHAKE:
                    self._refused("its TLS handshake is too large")
                    self._tcp.abort()
                    return
            self._tls.bio_write(piece)
            self._advance()
            if self._inner is not None and self._messages.count - self._handshake_messages > TLS_MESSAGES:
                self._refused("it sent too many TLS messages after the handshake (KeyUpdate)")
                self._tcp.abort()

    def eof_received(self) -> bool:
        """The client may close its side without a close_notify: each message has its length, and an answer may be
        under way, which it gets completely."""
        self._tcp_ended = True
        if self._context is not None:
            self._advance()
        return self._inner is not None

    def pause_writing(self) -> None:
        self._write_paused = True
        self._update_reading()
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._write_paused = False
        self._update_reading()
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if self._inner is not None:
            self._inner.connection_lost(exc)
        else:
            self._lost()

    # -- from the inner protocol ---------------------------------------------------------------------------------------

    def encrypt(self, data: bytes | bytearray | memoryview) -> None:
        """Sends plain text. Dropped after the end of the connection, as by any transport."""
        if self._tcp.is_closing():
            return
        try:
            for rest in self._divide(memoryview(data)):
                while rest:  # a call takes one record, 16 KiB
                    rest = rest[self._tls.send(rest) :]
        except self._error:
            self._tcp.abort()
        self._flush()

    def close(self) -> None:
        """Sends close_notify (RFC 8446 6.1) and what is buffered, then closes the connection."""
        if not self._tcp.is_closing():
            with contextlib.suppress(self._error):
                self._tls.shutdown()
            self._flush()
            self._tcp.close()

    def pause_inner(self, paused: bool) -> None:
        """Delivers no more plain text, or delivers it again."""
        self.inner_paused = paused
        self._update_reading()
        if not paused:
            asyncio.get_running_loop().call_soon(self._advance)

    # -- between the two -----------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Goes on with the handshake; then delivers the plain text that has arrived."""
        if self._tcp.is_closing():
            return
        try:
            if self._inner is None:
                self._tls.do_handshake()
                self._begin()
            self._deliver()
        except self._want_read:
            self._flush()
            if self._tcp_ended:
                self._end_of_input()
        except self._error as error:  # no TLS, another version, a wrong ALPN protocol or certificate; a damaged record
            if self._inner is None:
                self._refused(f"its TLS handshake failed ({_reason(error)})")
            self._flush()  # the alert
            self._tcp.close()
        else:
            self._flush()

    def _begin(self) -> None:
        self._stop_timer()
        self._handshake_messages = self._messages.count
        inner = self._established(self._tls)
        inner.connection_made(TlsTransport(self, self._tcp))
        self._inner = inner

    def _deliver(self) -> None:
        """Raises `_want_read` when no more plain text has arrived."""
        from OpenSSL import SSL

        while self._inner is not None and not self.inner_paused:
            try:
                data = self._tls.recv(_READ)
            except SSL.ZeroReturnError:  # close_notify
                self._end_of_input()
                return
            self._inner.data_received(data)

    def _end_of_input(self) -> None:
        if self._inner is not None and not self._ended:
            self._ended = True
            if not self._inner.eof_received():  # asyncio.Protocol: the transport closes itself
                self.close()

    def _flush(self) -> None:
        with contextlib.suppress(self._want_read):
            while not self._tcp.is_closing():
                data = self._tls.bio_read(_READ)
                self._tcp.write(data)
                if len(data) < _READ:
                    return

    def _update_reading(self) -> None:
        if self._tcp.is_closing():
            return
        paused = self.inner_paused or self._write_paused
        if paused and self._tcp.is_reading():
            self._tcp.pause_reading()
        elif not paused and not self._tcp.is_reading():
            self._tcp.resume_reading()

    def _time_out(self) -> None:
        self._refused("its TLS handshake took too long")
        self._tcp.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _reason(error: Exception) -> str:
    """OpenSSL's own words for an error, which contain nothing that the client has sent."""
    first = error.args[0] if error.args else ""
    if isinstance(first, list):  # of (library, function, reason), from the first error to the last
        return str(first[0][-1]) if first else "the connection was closed"
    return str(first)
