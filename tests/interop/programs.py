"""Name servers of other projects, each run with the configuration under test pasted into its own.

`Peers` has those of one release of Debian.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import dns.exception
import dns.message
import dns.query
import dns.rcode
import yaml

from blocklistd.daemon.profiles import PROGRAMS
from blocklistd.daemon.profiles.versions import software as software_named
from tests.interop.release import Release
from tests.interop.stub import ADDRESS, Stub
from tests.system.daemon import free_port
from tests.system.test_zones import Scene

WITHIN = 60.0  # seconds that a resolver may take to load a new version


@contextlib.contextmanager
def running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with open(log, "wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Resolver:
    """Sends queries to a resolver under test, and waits until it has loaded a change."""

    def __init__(self, port: int, log: Path, control: Mapping[str, list[str]] | None = None) -> None:
        self.port = port
        self.log = log
        self._control = control or {}

    def run(self, command: str) -> str:
        """Runs a command of the resolver's control program, as a guide names it, and returns its output."""
        program, *arguments = shlex.split(command)
        done = subprocess.run(
            [*self._control[program], *arguments], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ask(self, name: str, kind: str = "A") -> dns.message.Message:
        query = dns.message.make_query(name, kind, use_edns=0)
        for _ in range(3):  # a resolver that reads a new zone may answer late (RFC 1035 4.2.1 expects repeated queries)
            with contextlib.suppress(dns.exception.Timeout):
                return dns.query.udp(query, "127.0.0.1", port=self.port, timeout=5)
        raise AssertionError(f"no answer within 15 s to a query of type {kind}")

    def blocked(self, name: str) -> bool:
        """Whether the answer is NXDOMAIN. Raises AssertionError unless it is that or the stub's address."""
        answer = self.ask(name)
        if answer.rcode() == dns.rcode.NXDOMAIN:
            return True
        assert answer.rcode() == dns.rcode.NOERROR, answer
        assert answer.answer[0][0].to_text() == ADDRESS
        return False

    def wait(self, condition: Callable[[], bool], within: float = WITHIN) -> None:
        """Waits until the condition holds, for at most `within` seconds."""
        deadline = time.monotonic() + within
        while True:
            with contextlib.suppress(AssertionError, OSError, dns.exception.DNSException):
                if condition():
                    return
            assert time.monotonic() < deadline, self.log.read_text(errors="replace")[-4000:]
            threading.Event().wait(0.1)


_RNDC_KEY: Final = 'key rndc { algorithm hmac-sha256; secret "cm5kYw=="; };\n'


@contextlib.contextmanager
def named(release: Release, folder: Path, stub: int, port: int, pasted: str) -> Iterator[Resolver]:
    """BIND. The pasted options are merged into the test's own options block."""
    program = release.command("/usr/sbin/named", "bind9")
    policy = re.search(r"options \{[^\n]*\n(.*?)\n\};", pasted, re.S)
    assert policy is not None
    others = pasted.replace(policy[0], "")
    folder, control = made(folder, "bind"), free_port()
    (folder / "rndc.conf").write_text(
        _RNDC_KEY + f"options {{ default-key rndc; default-server 127.0.0.1; default-port {control}; }};\n"
    )
    (folder / "named.conf").write_text(
        f'options {{ directory "{folder}"; pid-file "{folder}/pid"; session-keyfile "{folder}/key";\n'
        f"  listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; recursion yes;\n"
        f"  forward only; forwarders {{ 127.0.0.1 port {stub}; }}; dnssec-validation no;\n{policy[1]}\n}};\n{_RNDC_KEY}"
        f"controls {{ inet 127.0.0.1 port {control} allow {{ 127.0.0.1; }} keys {{ rndc; }}; }};\n{others}"
    )
    checked = subprocess.run(
        [*release.command("/usr/bin/named-checkconf", "bind9-utils"), str(folder / "named.conf")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout
    rndc = [*release.command("/usr/sbin/rndc", "bind9-utils"), "-c", str(folder / "rndc.conf")]
    with running([*program, "-g", "-c", str(folder / "named.conf")], folder / "log"):
        yield Resolver(port, folder / "log", {"rndc": rndc})


@contextlib.contextmanager
def named_secondary(
    release: Release, folder: Path, port: int, primary: int, catalog: str, tsig: Mapping[str, str]
) -> Iterator[Resolver]:
    """BIND as a distribution secondary of the zones in a catalog. `primary`: the port of the publisher."""
    program = release.command("/usr/sbin/named", "bind9")
    folder = made(folder, "bind")
    key, where = tsig["name"], f"{{ 127.0.0.1 port {primary} key {tsig['name']}; }}"
    (folder / "named.conf").write_text(
        f'key "{key}" {{ algorithm {tsig["algorithm"]}; secret "{tsig["secret"]}"; }};\n'
        f'options {{ directory "{folder}"; pid-file "{folder}/pid"; session-keyfile "{folder}/key";\n'
        f"  listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; recursion no; dnssec-validation no;\n"
        f"  allow-query {{ 127.0.0.2; }}; allow-transfer {{ 127.0.0.2; }}; notify no;\n"
        f'  allow-notify {{ key "{key}"; }};\n'
        f'  catalog-zones {{ zone "{catalog}" default-primaries {where} in-memory no zone-directory "{folder}"\n'
        f"    min-update-interval 1; }};\n}};\n"
        f'controls {{ }};\nzone "{catalog}" {{ type secondary; primaries {where}; file "{folder}/catalog"; }};\n'
    )
    with running([*program, "-g", "-c", str(folder / "named.conf")], folder / "log"):
        yield Resolver(port, folder / "log")


@contextlib.contextmanager
def unbound(release: Release, folder: Path, stub: int, port: int, pasted: str) -> Iterator[Resolver]:
    program = release.command("/usr/sbin/unbound", "unbound")
    folder, control = made(folder, "unbound"), free_port()
    (folder / "unbound.conf").write_text(
        f'server:\n  directory: "{folder}"\n  chroot: ""\n  username: ""\n  pidfile: "{folder}/pid"\n'
        f"  interface: 127.0.0.1@{port}\n  do-not-query-localhost: no\n  use-syslog: no\n  verbosity: 2\n"
        f'forward-zone:\n  name: "."\n  forward-addr: 127.0.0.1@{stub}\n'
        f"remote-control:\n  control-enable: yes\n  control-port: {control}\n  control-use-cert: no\n"
        + pasted.replace("/var/lib/unbound", str(folder))
    )
    tool = [*release.command("/usr/sbin/unbound-control", "unbound"), "-c", str(folder / "unbound.conf")]
    with running([*program, "-d", "-c", str(folder / "unbound.conf")], folder / "log"):
        yield Resolver(port, folder / "log", {"unbound-control": tool})


@contextlib.contextmanager
def recursor(release: Release, folder: Path, stub: int, port: int, pasted: str) -> Iterator[Resolver]:
    """PowerDNS Recursor. The pasted text is Lua (its `lua-config-file`), or YAML (a file in its `include_dir`)."""
    program = release.command("/usr/sbin/pdns_recursor", "pdns-recursor")
    folder = made(folder, "powerdns")
    sockets = tempfile.mkdtemp()  # its path is short: that of a Unix socket has at most 107 characters
    pasted = pasted.replace("/var/lib/pdns-recursor", str(folder))
    if software_named(release.software("powerdns")).in_lua:
        (folder / "rpz.lua").write_text(pasted)
        (folder / "recursor.conf").write_text(
            f"local-address=127.0.0.1\nlocal-port={port}\nsocket-dir={sockets}\nlua-config-file={folder}/rpz.lua\n"
            f"forward-zones-recurse=.=127.0.0.1:{stub}\ndisable-packetcache=yes\nsecurity-poll-suffix=\ndnssec=off\n"
            f"loglevel=6\n"
        )
    else:
        settings: dict[str, dict[str, Any]] = {
            "incoming": {"listen": [f"127.0.0.1:{port}"]},
            "recursor": {
                "socket_dir": sockets,
                "include_dir": str(made(folder, "recursor.d")),
                "forward_zones_recurse": [{"zone": ".", "forwarders": [f"127.0.0.1:{stub}"]}],
                "security_poll_suffix": "",
            },
            "dnssec": {"validation": "off"},
            "logging": {"loglevel": 6},
            "packetcache": {"disable": True},
        }
        (folder / "recursor.d" / "blocklist.yml").write_text(pasted)
        (folder / "recursor.yml").write_text(yaml.safe_dump(settings))
    control = [*release.command("/usr/bin/rec_control", "pdns-recursor"), f"--socket-dir={sockets}"]
    try:
        with running([*program, f"--config-dir={folder}", "--daemon=no"], folder / "log"):
            yield Resolver(port, folder / "log", {"rec_control": control})
    finally:
        shutil.rmtree(sockets)


@contextlib.contextmanager
def knot(release: Release, folder: Path, stub: int, port: int, pasted: str) -> Iterator[Resolver]:
    """Knot DNS. Its copy of the zone is knot/rpz.blocklist.example.zone."""
    program = release.command("/usr/sbin/knotd", "knot")
    folder = made(folder, "knot")
    (folder / "knot.conf").write_text(
        f"server:\n  listen: 127.0.0.1@{port}\n  rundir: {folder}\n  automatic-acl: on\n"
        f"log:\n  - target: stderr\n    any: info\n"
        f"database:\n  storage: {folder}\n"
        f'template:\n  - id: default\n    storage: {folder}\n    file: "%s.zone"\n    semantic-checks: on\n' + pasted
    )
    knotc = [*release.command("/usr/sbin/knotc", "knot"), "-c", str(folder / "knot.conf")]
    with running([*program, "-c", str(folder / "knot.conf")], folder / "log"):
        yield Resolver(port, folder / "log", {"knotc": knotc})


@contextlib.contextmanager
def nsd(release: Release, folder: Path, stub: int, port: int, pasted: str) -> Iterator[Resolver]:
    program = release.command("/usr/sbin/nsd", "nsd")
    folder = made(folder, "nsd")
    (folder / "nsd.conf").write_text(
        f'server:\n  ip-address: 127.0.0.1@{port}\n  username: ""\n  chroot: ""\n  pidfile: {folder}/pid\n'
        f'  xfrdfile: {folder}/xfrd.state\n  xfrdir: {folder}\n  zonelistfile: {folder}/zone.list\n  database: ""\n'
        f"  verbosity: 2\nremote-control:\n  control-enable: yes\n  control-interface: {folder}/control\n"
        + pasted.replace("/var/lib/nsd", str(folder))
    )
    control = [*release.command("/usr/sbin/nsd-control", "nsd"), "-c", str(folder / "nsd.conf")]
    with running([*program, "-d", "-c", str(folder / "nsd.conf")], folder / "log"):
        yield Resolver(port, folder / "log", {"nsd-control": control})


def made(folder: Path, name: str) -> Path:
    found = folder / name
    found.mkdir(exist_ok=True)
    return found


STARTS: Final[Mapping[str, Callable[[Release, Path, int, int, str], AbstractContextManager[Resolver]]]] = {
    "bind": named,
    "knot": knot,
    "nsd": nsd,
    "powerdns": recursor,
    "unbound": unbound,
}


@dataclass(frozen=True, slots=True)
class Peers:
    """The name servers of a release of Debian, by the names that `--software` has for them."""

    release: Release

    def start(
        self, software: str, folder: Path, stub: Stub | None, port: int, pasted: str
    ) -> AbstractContextManager[Resolver]:
        """Runs one with the configuration `pasted`. A resolver asks the stub for what is not blocked."""
        return STARTS[software](self.release, folder, stub.port if stub else 0, port, pasted)

    def subscribe(self, scene: Scene, software: str, port: int, **more: Any) -> dict[str, Any]:
        """Adds the subscriber `isp` with a secondary of that software and version on `port`."""
        address = {} if PROGRAMS[software].signs else {"address": ["127.0.0.1"]}
        return scene.subscriber(
            "isp", notify=[f"127.0.0.1:{port}"], software=self.release.software(software), **address, **more
        )

    def soa(self, software: str) -> dict[str, str]:
        """A zone's `soa`: with a short refresh for PowerDNS, which takes no NOTIFY, or from 5.1 none for five seconds
        after a transfer."""
        return {"refresh": "1s"} if software == "powerdns" else {}

    def takes_notify(self, software: str) -> bool:
        """Whether this version of the program transfers a policy zone when it gets NOTIFY."""
        return software_named(self.release.software(software)).takes_notify

    def printed(self, scene: Scene, software: str, port: int, **more: Any) -> str:
        """What `subscriber add` prints to paste, for the subscriber `isp`."""
        text: str = self.subscribe(scene, software, port, **more)["config"][software]
        return text
