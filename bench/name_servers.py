"""Other DNS servers as primaries of a zone, which they read from a file: knotd, nsd and named.

Each is started on one core with one thread or process for queries, tells a secondary of each change by NOTIFY, and
makes IXFR from the differences of the files.
"""

from __future__ import annotations

import base64
import signal
import subprocess
from pathlib import Path
from typing import ClassVar

import dns.tsig

from bench.zones import SECRET, SERVER, ZONE, serial_of, wait_until
from tests.certificates import make_certificate
from tests.system.daemon import free_port


class Peer:
    """Another DNS server, which reads the zone from a file. `notify`: the port of the secondary on loopback."""

    name: ClassVar[str]
    serves_tls: ClassVar[bool] = True

    def __init__(self, folder: Path, notify: int) -> None:
        self.folder = folder / self.name
        self.folder.mkdir()
        self.port, self.tls_port, self.notify = free_port(), free_port(), notify
        self.cert, self.private_key = make_certificate(self.folder, "peer")
        self.key = dns.tsig.Key("peer", base64.b64decode(SECRET), "hmac-sha256")
        self.zone = self.folder / "zone"
        self.process: subprocess.Popen[bytes] | None = None

    def write(self, names: list[bytes], serial: int) -> None:
        """Writes the zone file with the rules of these domains."""
        lines = [f"$ORIGIN {ZONE}.", "$TTL 60", f"@ SOA localhost. h.invalid. {serial} 60 30 600 60", "@ NS localhost."]
        for name in sorted(names):
            lines += [f"{name.decode()} CNAME .", f"*.{name.decode()} CNAME ."]
        temporary = self.folder / "new"
        temporary.write_text("\n".join(lines) + "\n")
        temporary.rename(self.zone)

    def launch(self, *command: str) -> None:
        log = open(self.folder / "log", "wb")  # noqa: SIM115 - the process has it as long as it lives
        self.process = subprocess.Popen(["taskset", "-c", str(SERVER), *command], stdout=log, stderr=log)
        process = self.process
        wait_until(lambda: process.poll() is not None or serial_of(self.port, self.key) is not None)
        assert process.poll() is None, (self.folder / "log").read_text()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Starts the server with the zone file, and waits until it answers."""
        raise NotImplementedError

    def reload(self) -> None:
        """Makes the server read the new zone file."""
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)


class Knot(Peer):
    """knotd with one worker for UDP and one for TCP."""

    name = "knotd"
    serves_tls = False  # version 3.2

    def start(self) -> None:
        config = f"""
server:
  rundir: {self.folder}
  listen: 127.0.0.1@{self.port}
  tcp-workers: 1
  udp-workers: 1
database:
  storage: {self.folder}
log:
  - target: stderr
    any: error
control:
  listen: {self.folder}/control
key:
  - id: peer
    algorithm: hmac-sha256
    secret: {SECRET}
remote:
  - id: secondary
    address: 127.0.0.1@{self.notify}
acl:
  - id: keyed
    key: peer
    action: transfer
  - id: local
    address: 127.0.0.0/8
    action: transfer
zone:
  - domain: {ZONE}
    file: {self.zone}
    zonefile-sync: -1
    zonefile-load: difference
    journal-content: changes
    semantic-checks: off
    notify: secondary
    acl: [keyed, local]
"""
        (self.folder / "knot.conf").write_text(config)
        self.launch("knotd", "-c", str(self.folder / "knot.conf"))

    def reload(self) -> None:
        subprocess.run(
            ["knotc", "-s", self.folder / "control", "zone-reload", ZONE], check=True, stdout=subprocess.DEVNULL
        )


class Nsd(Peer):
    """nsd with one server process."""

    name = "nsd"

    def start(self) -> None:
        config = f"""
server:
  ip-address: 127.0.0.1@{self.port}
  ip-address: 127.0.0.1@{self.tls_port}
  tls-port: {self.tls_port}
  tls-service-key: {self.private_key}
  tls-service-pem: {self.cert}
  username: ""
  chroot: ""
  zonesdir: "{self.folder}"
  pidfile: "{self.folder}/pid"
  zonelistfile: "{self.folder}/zonelist"
  xfrdfile: "{self.folder}/xfrd"
  xfrdir: "{self.folder}"
  server-count: 1
  tcp-timeout: 300
remote-control:
  control-enable: no
key:
  name: peer
  algorithm: hmac-sha256
  secret: "{SECRET}"
zone:
  name: {ZONE}
  zonefile: {self.zone}
  provide-xfr: 127.0.0.0/8 NOKEY
  provide-xfr: 127.0.0.0/8 peer
  notify: 127.0.0.1@{self.notify} NOKEY
  store-ixfr: yes
  create-ixfr: yes
"""
        (self.folder / "nsd.conf").write_text(config)
        self.launch("nsd", "-d", "-c", str(self.folder / "nsd.conf"))


class Named(Peer):
    """named with one thread for the network."""

    name = "named"

    def start(self) -> None:
        config = f"""
key peer {{ algorithm hmac-sha256; secret "{SECRET}"; }};
tls xot {{ cert-file "{self.cert}"; key-file "{self.private_key}"; protocols {{ TLSv1.3; }}; }};
options {{
  directory "{self.folder}"; pid-file "{self.folder}/pid"; session-keyfile "{self.folder}/session";
  listen-on port {self.port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
  listen-on port {self.tls_port} tls xot {{ 127.0.0.1; }};
  recursion no; dnssec-validation no; empty-zones-enable no;
  allow-transfer {{ 127.0.0.0/8; }}; transfers-out 100; tcp-clients 200;
  notify explicit; also-notify {{ 127.0.0.1 port {self.notify}; }}; notify-delay 0; ixfr-from-differences yes;
}};
controls {{ }};
zone "{ZONE}" {{ type primary; file "{self.zone}"; }};
"""
        (self.folder / "named.conf").write_text(config)
        self.launch("named", "-g", "-n", "1", "-c", str(self.folder / "named.conf"))
