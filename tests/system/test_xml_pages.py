"""A hotline shares hashes as NCMEC does: the daemon has the same set as the client of the package threatexchange."""

from __future__ import annotations

import hashlib
import importlib
import json
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.certificates import context_of, make_certificate
from tests.peers import unchecked
from tests.sim.files import in_thread
from tests.sim.hashes import PASSWORD, USER, HashServer, SharedItem
from tests.system.daemon import Daemon

GUARDS = {"max_added": "100%", "max_removed": "100%", "daily": "off", "min_entries": "0"}


def item(number: int, changed: int, value: int | None = None, kind: str = "image") -> SharedItem:
    value = number if value is None else value
    fingerprints = {"md5": f"{value:032X}", "sha1": f"{value:040x}", "pdna": "0,1,2", "pdq": f"{value:064x}"}
    return SharedItem(40 + number % 3, f"id{number // 2}", changed, fingerprints, kind)


def deleted(number: int, changed: int, kind: str = "image") -> SharedItem:
    return SharedItem(40 + number % 3, f"id{number // 2}", changed, None, kind)


class Client:
    """The client of the package threatexchange, which keeps the last update of each item as its exchange does."""

    def __init__(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        try:
            api = importlib.import_module("threatexchange.exchanges.clients.ncmec.hash_api")
        except ImportError:
            unchecked("threatexchange is not installed: run tests/install-peers python")
        monkeypatch.setenv("TZ", "UTC")  # the client writes local times
        time.tzset()
        self._api = api.NCMECHashAPI(USER, PASSWORD, SimpleNamespace(value=url))
        self._updates: dict[str, Any] = {}
        self._since = 0

    def pull(self) -> set[tuple[str, str]]:
        """(type, value) of the hashes after a complete window."""
        until = int(time.time())
        for page in self._api.get_entries_iter(start_timestamp=self._since, end_timestamp=until):
            for one in page.updates:
                self._updates[f"{one.member_id}-{one.id}"] = one
        self._since = until
        return {
            (kind, text.lower())
            for one in self._updates.values()
            if not one.deleted
            for kind, text in one.fingerprints.items()
            if kind in ("md5", "sha1")
        }


def source_of(server: HashServer, folder: Path, **changes: Any) -> dict[str, Any]:
    """The configuration of the server as a source."""
    password = folder / "password"
    password.write_text(PASSWORD)
    password.chmod(0o600)
    return {
        "url": f"{server.url}/v2/entries",
        "format": "xml-pages",
        "fields": {"value": "fingerprints/*", "ref": "id", "category": "classification"},
        "auth": {"basic": {"user": USER, "password": {"file": str(password)}}},
        "schedule": "every 1d",
        "verify": {"method": "none"},
        **changes,
    }


def live(daemon: Daemon, token: str) -> set[tuple[str, str]]:
    lines: list[Mapping[str, str]] = [json.loads(line) for line in daemon.snapshot("national", token).splitlines()]
    return {(one["type"], one["value"]) for one in lines}


def test_the_list_is_that_of_the_threatexchange_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with in_thread(HashServer().serve()) as server:
        client = Client(server.url, monkeypatch)
        source = source_of(server, tmp_path)
        lists = {"national": {"sources": ["hotline"], "types": ["md5", "sha1"], "guards": GUARDS}}
        daemon = Daemon(tmp_path, {"sources": {"hotline": source}, "lists": lists})
        long_ago, now = int(time.time()) - 1_000_000, int(time.time()) - 60
        server.put(*(item(number, long_ago + number * 7919 % 1000) for number in range(20)))
        server.put(*(item(number, long_ago + number, kind="video") for number in range(20, 24)))
        server.put(deleted(5, long_ago + 5), deleted(99, long_ago))
        with daemon:
            server.link_uses = 3
            daemon.first_pull("hotline")
            assert server.refused == 1, "a link went stale"
            token = daemon.subscriber("isp", "national")
            expected = client.pull()
            assert len(expected) > 30
            assert live(daemon, token) == expected
            assert daemon.pull("hotline")["outcome"] == "unchanged"
            assert daemon.ask("source show", source="hotline").json["rejected"].keys() == {"type-not-built"}

            server.put(item(3, now, 133), item(100, now), deleted(7, now), deleted(21, now, "video"), item(5, now))
            server.page = b"<queryResult>"
            failed = daemon.pull("hotline")
            assert failed["outcome"] == "failed"
            assert failed["reason"].endswith(
                "a further page did not arrive, 3 times: expected all pages; the next pull tries again"
            )
            assert live(daemon, token) == expected
            server.page = None

        with daemon:
            server.queries.clear()
            assert daemon.pull("hotline")["outcome"] == "published"
            assert len(server.queries) <= 3, "a window, not all items"
            client._since -= 900
            changed = client.pull()
            assert changed != expected
            assert live(daemon, token) == changed
            server.next = "https://other.example/v2/entries"
            assert "a link to another origin" in daemon.pull("hotline")["reason"]
            assert live(daemon, token) == changed
        assert PASSWORD not in daemon.log


def test_pages_over_tls_need_the_pinned_authority(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path, "hashes")
    other, _ = make_certificate(tmp_path, "other")
    with in_thread(HashServer(tls=context_of(certificate, key)).serve()) as server:
        server.put(*(item(number, 1_700_000_000) for number in range(5)))
        pinned = {"method": "pinned-tls"}
        sources = {
            "hotline": source_of(server, tmp_path, ca=str(certificate), verify=pinned),
            "wrong": source_of(server, tmp_path, ca=str(other), verify=pinned),
            "system": source_of(server, tmp_path),
        }
        lists = {"national": {"sources": ["hotline"], "types": ["md5", "sha1"], "guards": GUARDS}}
        with Daemon(tmp_path, {"sources": sources, "lists": lists}) as daemon:
            daemon.first_pull("hotline")
            token = daemon.subscriber("isp", "national")
            assert len(live(daemon, token)) == 10
            (kept,) = daemon.ask("source evidence", source="hotline").json
            assert (
                kept["peer"]["certificate"]
                == hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.read_text())).hexdigest()
            )
            for name in ("wrong", "system"):
                assert "its certificate is not trusted: self-signed certificate" in daemon.pull(name)["reason"]


def test_pages_in_a_file_can_be_tested(tmp_path: Path) -> None:
    with in_thread(HashServer().serve()) as server:
        server.put(item(1, 1000))
        lists = {"national": {"sources": ["hotline"], "types": ["md5"], "guards": GUARDS}}
        with Daemon(tmp_path, {"sources": {"hotline": source_of(server, tmp_path)}, "lists": lists}) as daemon:
            daemon.first_pull("hotline")
            image = b"<image><id>2</id><fingerprints><md5>%032x</md5></fingerprints></image>" % 2
            body = tmp_path / "pages"
            body.write_bytes(b"<queryResult><images>" + image + b"</images></queryResult>\0")
            arguments = ("source", "test", "hotline", "--json", "--body", str(body), "-c", str(daemon.path))
            said = json.loads(daemon.cli(*arguments).stdout)
            assert (said["outcome"], said["verified"], said["types"]) == ("published", False, {"md5": 1})
