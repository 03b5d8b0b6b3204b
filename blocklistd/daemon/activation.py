"""Socket activation: systemd listens, and passes the bound sockets to the daemon at each start (sd_listen_fds(3)).

systemd keeps these sockets while the daemon restarts: connections and datagrams that arrive meanwhile wait, and none is
refused. FileDescriptorName= of a socket unit is the name of a listener:

| name | sockets |
|---|---|
| feed, ops | TCP, `listen` of the section |
| dns, dns-tls | TCP and UDP, `dns.listen` and `dns.tls.listen` |
| control, status | Unix stream sockets: `control.socket`, and status.sock beside it |

The daemon binds a listener itself if no socket has its name. Otherwise the sockets with that name must be exactly those
that the configuration describes.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from blocklistd.config import Address, CheckedConfig, Config
from blocklistd.daemon.state_checks import problem_at
from blocklistd.errors import ConfigError, ConfigProblem

_SETTINGS: Final = {socket.SOCK_STREAM: "ListenStream", socket.SOCK_DGRAM: "ListenDatagram"}
_TRANSPORTS: Final = {socket.SOCK_STREAM: "TCP", socket.SOCK_DGRAM: "UDP"}
_AGREE: Final = "then run `systemctl daemon-reload`, and restart the socket unit and the daemon"


class Endpoint(NamedTuple):
    """The kind of a socket (SOCK_STREAM or SOCK_DGRAM), and the address or path on which it listens."""

    kind: socket.SocketKind
    where: Address | Path

    def __str__(self) -> str:
        return str(self.where) if isinstance(self.where, Path) else f"{self.where} ({_TRANSPORTS[self.kind]})"

    @property
    def setting(self) -> str:
        """The line of a socket unit."""
        return f"{_SETTINGS[self.kind]}={self.where}"


class Described(NamedTuple):
    """A listener as the configuration describes it: the key of its addresses, and its sockets in order."""

    key: str
    endpoints: Sequence[Endpoint]


Passed = Mapping[str, Sequence[socket.socket]]
"""The sockets that systemd passed, by name."""


def adopt(checked: CheckedConfig, passed: Passed) -> dict[str, list[socket.socket]]:
    """The passed sockets by listener, in the order of the configuration; a listener without any has no key.

    Raises ConfigError with every socket that is missing, and every one that the configuration does not describe.
    """
    described = listeners(checked.config)
    problems = list(_problems(checked, described, passed))
    if problems:
        raise ConfigError(problems)
    found: dict[str, list[socket.socket]] = {}
    for name, sockets in passed.items():
        by_endpoint = {_endpoint(one): one for one in sockets}
        found[name] = [by_endpoint[endpoint] for endpoint in described[name].endpoints]
    return found


def listeners(config: Config) -> dict[str, Described]:
    """The listeners by name."""
    stream, both = (socket.SOCK_STREAM,), (socket.SOCK_STREAM, socket.SOCK_DGRAM)
    dns = config.serves_dns
    xot = dns.tls.listen if dns is not None and dns.tls is not None else ()
    return {
        "feed": Described("feed.listen", _each(config.feed.listen, stream)),
        "ops": Described("ops.listen", _each(config.ops.listen, stream)),
        "dns": Described("dns.listen", _each(dns.listen if dns is not None else (), both)),
        "dns-tls": Described("dns.tls.listen", _each(xot, both)),
        "control": Described("control.socket", _each([config.control.socket], stream)),
        "status": Described("control.socket", _each([config.status_socket], stream)),
    }


def _each(places: Iterable[Address | Path], kinds: Iterable[socket.SocketKind]) -> list[Endpoint]:
    places = list(places)
    return [Endpoint(kind, where) for kind in kinds for where in places]


def _endpoint(bound: socket.socket) -> Endpoint:
    name = bound.getsockname()
    if bound.family == socket.AF_UNIX:
        return Endpoint(socket.SocketKind(bound.type), Path(os.fsdecode(name)))
    return Endpoint(socket.SocketKind(bound.type), Address(*name[:2]))


def _problems(checked: CheckedConfig, described: Mapping[str, Described], passed: Passed) -> Iterator[ConfigProblem]:
    for name, sockets in passed.items():
        listener = described.get(name)
        if listener is None:
            yield problem_at(
                checked,
                f"the socket unit with FileDescriptorName={name}",
                f"a socket with the name {name!r} that systemd passed",
                f"one of the names {', '.join(described)}: {_AGREE}",
            )
            continue
        given, key = [_endpoint(one) for one in sockets], listener.key
        unit = f"the socket unit with FileDescriptorName={name}"
        for endpoint in listener.endpoints:
            if endpoint not in given:
                found = f"{endpoint}, for which systemd passed no socket"
                yield problem_at(checked, key, found, f"{endpoint.setting} in {unit}, or another {key}: {_AGREE}")
        for endpoint, bound in zip(given, sockets, strict=True):
            if endpoint not in listener.endpoints:
                found = f"a socket on {endpoint} that systemd passed, but not this address"
                expected = f"the address, or a unit without it: correct {key}, or remove {endpoint.setting} from {unit}"
                yield problem_at(checked, key, found, f"{expected}; {_AGREE}")
            elif endpoint.where == Address("::", bound.getsockname()[1]) and _is_ipv6_only(bound):
                expected = f"both families, as [::] means: BindIPv6Only=both in {unit}: {_AGREE}"
                yield problem_at(checked, key, f"a socket on {endpoint} that takes IPv6 only", expected)


def _is_ipv6_only(bound: socket.socket) -> bool:
    return bool(bound.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
