"""Writes DNS messages to TCP connections: not faster than the client reads, and not for longer than WRITE_STALL."""

from __future__ import annotations

import asyncio
import struct

from blocklistd.limits import WRITE_STALL


async def send_message(writer: asyncio.StreamWriter, message: bytes) -> None:
    """Sends one message with its length prefix (RFC 1035 4.2.2). Raises what `send` raises."""
    await send(writer, struct.pack("!H", len(message)) + message)


async def send(writer: asyncio.StreamWriter, data: bytes | bytearray | memoryview) -> None:
    """Writes, and waits until there is room for more. Lets other tasks run, also while the client is fast.

    Raises OSError if the client has closed the connection, TimeoutError if it takes nothing for WRITE_STALL seconds.
    """
    if writer.is_closing():  # uvloop raises RuntimeError for a write to a closing transport
        raise ConnectionResetError("the client closed the connection")
    writer.write(data)
    await asyncio.sleep(0)  # uvloop writes at the end of a turn; drain() does not yield while there is room
    if writer.transport.get_write_buffer_size():
        async with asyncio.timeout(WRITE_STALL):
            await writer.drain()


async def flush(writer: asyncio.StreamWriter) -> None:
    """Waits until the kernel has all bytes that were written. Raises what `send` raises."""
    transport = writer.transport
    low, high = transport.get_write_buffer_limits()
    transport.set_write_buffer_limits(0)
    await send(writer, b"")
    transport.set_write_buffer_limits(high, low)
    if writer.is_closing():
        raise ConnectionResetError("the client closed the connection")
