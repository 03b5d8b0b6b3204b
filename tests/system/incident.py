"""A publisher with a signing hotline, an operator at the command line, and a provider that follows feed and zone."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import dns.rcode
import dns.tsig

from tests.certificates import make_certificate
from tests.sim.hotline import HotlineThread
from tests.system.daemon import Answer, Daemon, exchange_https, free_port
from tests.system.test_zones import ORIGIN, ZONE, Secondary

Entries = set[tuple[str, str]]

SETTLED = -60  # seconds by which a file is made older: a younger one may be half written


def domains(*names: str) -> Entries:
    return {("domain", name) for name in names}


def rules(entries: Iterable[tuple[str, str]]) -> set[str]:
    """The rules of a zone with these entries, none of which covers another."""
    blocked = [(kind, value) for kind, value in entries if kind in ("host", "domain")]
    return {value for _, value in blocked} | {f"*.{value}" for kind, value in blocked if kind == "domain"}


class Provider:
    """A subscriber: it follows the list by differences over HTTPS, and the zone by IXFR with its TSIG key."""

    def __init__(self, scene: Incident, name: str) -> None:
        made = scene.daemon.ask("subscriber add", id=name, lists=["national"], zones=[ZONE])
        assert made.status == 200, made.body
        tsig = made.json["tsig"]
        key = dns.tsig.Key(tsig["name"], base64.b64decode(tsig["secret"]), tsig["algorithm"])
        self.token = str(made.json["token"])
        self._scene, self._lines, self.version = scene, b"", 0
        self._secondary = Secondary(scene.dns_port, key)

    def get(self, path: str) -> Answer:
        answer = exchange_https(self._scene.daemon.feed_port, path, self.token, self._scene.trust)
        assert answer.status == 200, (path, answer.status, answer.body)
        return answer

    @property
    def entries(self) -> Entries:
        """What its proxies block: the last copy and the signed difference since then, or the first snapshot."""
        status = self.get("/v1/lists/national").json
        if not self.version:
            self._lines = self.get(f"/v1/lists/national/targets/{status['sha256']}.national.ndjson").body
        elif status["version"] != self.version:
            lines = set(self._lines.splitlines(keepends=True))
            for line in self.get(f"/v1/lists/national/diffs/{self.version}-{status['version']}").body.splitlines():
                ((action, entry),) = json.loads(line).items()
                changed = json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
                (lines.remove if action == "remove" else lines.add)(changed)
            self._lines = b"".join(sorted(lines))
        self.version = status["version"]
        assert hashlib.sha256(self._lines).hexdigest() == status["sha256"]
        found = map(json.loads, self._lines.splitlines())
        return {(entry["type"], entry["value"]) for entry in found}

    @property
    def rules(self) -> set[str]:
        """What its resolvers block. The zone answers no query for a rule."""
        query = dns.message.make_query(ORIGIN, "SOA")
        query.use_tsig(self._secondary.key)
        soa = dns.query.tcp(query, "127.0.0.1", port=self._scene.dns_port, timeout=10).answer[0][0]
        if not self._secondary.zone.nodes or self._secondary.serial != soa.serial:
            assert self._secondary.refresh() == soa.serial
        probe = dns.message.make_query(f"probe.{ZONE}", "CNAME")
        probed = dns.query.udp(probe, "127.0.0.1", port=self._scene.dns_port, timeout=10)
        assert probed.rcode() == dns.rcode.REFUSED
        return self._secondary.rules

    def blocks(self, entries: Entries) -> bool:
        """Whether proxies and resolvers block exactly these entries, none of which covers another."""
        return self.entries == entries and self.rules == rules(entries)


class Incident:
    """A list `national` of one hotline, with guards by default and two files of names, its zone, and the provider."""

    def __init__(self, folder: Path, hotline: HotlineThread, *, form: str = "ndjson", **settings: Any) -> None:
        self.folder, self.hotline, self.form = folder, hotline, form
        self.dns_port = free_port()
        cert, _ = make_certificate(folder, "feed")
        self.trust = ssl.create_default_context(cafile=str(cert))
        self.names("never.txt", "search.example", "cloud.example")
        self.names("shared.txt", "wiki.example", "drive.test")
        self.write_key()
        fields = {"fields": {"value": "/v", "type": "/t"}} if form == "ndjson" else {"defaults": {"type": "domain"}}
        source = {
            "url": hotline.url,
            "format": form,
            "schedule": "every 1d",
            "verify": {"method": "minisign", "key": "hotline.pub"},
            **fields,
        }
        guards = {"never_block": ["never.txt"], "shared_hosts": ["shared.txt"]}
        self.daemon = Daemon(
            folder,
            {
                "sources": {"hotline": source},
                "lists": {"national": {"sources": ["hotline"], "guards": guards, **settings}},
                "zones": {ZONE: {"list": "national"}},
                "dns": {"listen": [f"127.0.0.1:{self.dns_port}"]},
            },
        )
        self.daemon.config["feed"]["tls"] = {"cert": "feed.pem", "key": {"file": "feed.key"}}
        self.daemon.write_config()

    def names(self, file: str, *names: str) -> None:
        path = self.folder / file
        path.write_text("".join(f"{name}\n" for name in names))
        old = path.stat().st_mtime + SETTLED
        os.utime(path, (old, old))

    def write_key(self) -> None:
        (self.folder / "hotline.pub").write_text(self.hotline.public_key_text)

    def begin(self, entries: Entries, also: Iterable[tuple[str, str]] = ()) -> Provider:
        """The first version, and a provider that has it. `also`: what other sources assert."""
        self.publish(entries)
        self.daemon.start()
        for source in self.daemon.config["sources"]:
            self.daemon.first_pull(source)
        self.daemon.wait_for(lambda: self.daemon.ask("status").json["zones"].get(ZONE) is not None)
        isp = Provider(self, "isp")
        assert isp.blocks(entries | set(also))
        return isp

    def publish(self, entries: Entries) -> None:
        if self.form == "ndjson":
            lines = [json.dumps({"t": kind, "v": value}) for kind, value in sorted(entries)]
        else:
            lines = [value for _, value in sorted(entries)]
        self.hotline.publish(lines)

    def cli(self, *words: str, stdin: str | bytes = b"", code: int = 0) -> str:
        """What an operator reads: stdout, then stderr."""
        given = stdin.encode() if isinstance(stdin, str) else stdin
        done = self.daemon.cli(*words, "-c", str(self.daemon.path), stdin=given, check=False)
        text = done.stdout.decode() + done.stderr.decode()
        assert done.returncode == code, (done.returncode, text)
        return text

    def pull(self, entries: Entries | None = None, *, code: int = 0) -> str:
        """The operator pulls; `entries`: what the hotline publishes before."""
        if entries is not None:
            self.publish(entries)
        return self.cli("source", "pull", "hotline", code=code)

    @property
    def held(self) -> str:
        """The id of the one held candidate."""
        (held,) = json.loads(self.cli("candidate", "list", "--json"))
        return str(held["id"])

    @property
    def holds_nothing(self) -> bool:
        return self.cli("candidate", "list", "--json").strip() == "[]"

    def restart(self) -> None:
        """After kill -9."""
        self.daemon.kill()
        self.daemon.start()

    def blocked_at(self, isp: Provider, entries: Entries) -> None:
        """Waits until it blocks them: after a start, and after a policy change, the zone follows its list."""
        self.daemon.wait_for(lambda: isp.blocks(entries))

    def is_quiet_about(self, *texts: str) -> None:
        """No log and no line of the audit has one of the texts."""
        written = self.daemon.log + self.cli("audit", "--json") + self.cli("status")
        for text in texts:
            assert text not in written
