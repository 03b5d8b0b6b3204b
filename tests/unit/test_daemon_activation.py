"""Sockets that systemd passes are those of the configuration, or the start fails and says which are not."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from blocklistd.config import check
from blocklistd.daemon.activation import adopt
from blocklistd.errors import ConfigError, StoreError
from blocklistd.ops.systemd import passed_sockets

CONFIG = """
control: {{socket: {folder}/c.sock}}
feed: {{listen: ["127.0.0.1:{feed}"]}}
ops: {{listen: ["{ops}"]}}
"""


class Scene:
    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.folder = folder
        self.stack = stack
        self.feed = self.bound()
        self.configure()

    def configure(self, more: str = "", ops: str = "127.0.0.1:0") -> None:
        path = self.folder / "blocklistd.yaml"
        path.write_text(CONFIG.format(folder=self.folder, feed=port(self.feed), ops=ops) + more)
        self.checked = check(path)

    def bound(self, where: tuple[str, int] | str = ("127.0.0.1", 0), kind: int = socket.SOCK_STREAM) -> socket.socket:
        family = socket.AF_UNIX if isinstance(where, str) else socket.AF_INET6 if ":" in where[0] else socket.AF_INET
        made = self.stack.enter_context(socket.socket(family, kind))
        made.bind(where)
        return made

    def refused(self, **passed: list[socket.socket]) -> str:
        with pytest.raises(ConfigError) as found:
            adopt(self.checked, passed)
        return str(found.value)


def port(bound: socket.socket) -> int:
    return int(bound.getsockname()[1])


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with contextlib.ExitStack() as stack:
        yield Scene(tmp_path, stack)


def test_each_listener_gets_its_sockets(scene: Scene) -> None:
    control = scene.bound(str(scene.folder / "c.sock"))
    given = adopt(scene.checked, {"feed": [scene.feed], "control": [control]})
    assert given == {"feed": [scene.feed], "control": [control]}, "the daemon binds the others itself"
    assert adopt(scene.checked, {}) == {}


def test_a_missing_and_a_foreign_socket_are_named_with_the_line_to_change(scene: Scene) -> None:
    other = scene.bound()
    text = scene.refused(feed=[other])
    where = f"127.0.0.1:{port(scene.feed)}"
    assert f"blocklistd.yaml:3: feed.listen: found {where} (TCP), for which systemd passed no socket" in text
    assert f"expected ListenStream={where} in the socket unit with FileDescriptorName=feed" in text
    assert f"found a socket on 127.0.0.1:{port(other)} (TCP) that systemd passed" in text
    assert f"remove ListenStream=127.0.0.1:{port(other)}" in text
    assert "systemctl daemon-reload" in text


def test_a_unit_with_another_name_is_refused(scene: Scene) -> None:
    text = scene.refused(**{"blocklistd-feed.socket": [scene.feed]})
    assert "FileDescriptorName=blocklistd-feed.socket" in text
    assert "one of the names feed, ops, dns, dns-tls, control, status" in text


def test_sockets_of_dns_need_a_zone(scene: Scene) -> None:
    assert "dns.listen: found a socket on" in scene.refused(dns=[scene.bound(kind=socket.SOCK_DGRAM)])


def test_every_address_of_dns_needs_tcp_and_udp(scene: Scene) -> None:
    stream = scene.bound()
    where = f"127.0.0.1:{port(stream)}"
    with open(scene.checked.config.path, "a") as file:
        file.write(
            "sources: {a: {url: 'file:drop', format: text, defaults: {type: host}, verify: {method: none}}}\n"
            "lists: {national: {sources: [a]}}\nzones: {rpz.blocklist.example: {list: national}}\n"
            f"dns: {{listen: ['{where}']}}\n"
        )
    scene.checked = check(scene.checked.config.path)
    assert f"ListenDatagram={where}" in scene.refused(dns=[stream])
    datagram = scene.bound(("127.0.0.1", port(stream)), socket.SOCK_DGRAM)
    assert adopt(scene.checked, {"dns": [datagram, stream]}) == {"dns": [stream, datagram]}


def test_both_families_are_needed_where_the_configuration_says_so(scene: Scene) -> None:
    only = scene.stack.enter_context(socket.socket(socket.AF_INET6))
    only.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    only.bind(("::", 0))
    scene.configure(ops=f"[::]:{port(only)}")
    assert "BindIPv6Only=both" in scene.refused(ops=[only])


def test_descriptors_of_another_process_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", str(os.getppid()))
    assert passed_sockets() == {}
    assert "LISTEN_FDS" not in os.environ, "no child takes them either"


def test_a_descriptor_that_is_no_socket_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb") as file:
        monkeypatch.setattr("blocklistd.ops.systemd.FIRST_PASSED", file.fileno())
        monkeypatch.setenv("LISTEN_FDS", "1")
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        monkeypatch.setenv("LISTEN_FDNAMES", "feed")
        with pytest.raises(StoreError, match="is not a socket"):
            passed_sockets()
