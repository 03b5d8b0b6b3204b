"""A list goes from one blocklistd to the next, European to national to provider: ids and attributes stay the same."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root

from tests.certificates import make_certificate
from tests.sim.feed import TOKEN, Answer, FeedSimulator, on
from tests.sim.proxy import LyingFeed
from tests.system.daemon import Daemon, free_port

TYPES = ["url", "domain", "sha256"]
NAMES = [f"n{number}.example" for number in range(4000)]


def source(url: str) -> dict[str, Any]:
    return {
        "url": url,
        "schedule": "every 1d",
        "auth": {"bearer": {"file": "upstream.token"}},
        "verify": {"method": "tuf", "key": "upstream.json"},
    }


class Chain:
    """Three publishers, each of which takes the list of the one before. A proxy is before the first."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        for name in ("european", "national", "provider"):
            (folder / name).mkdir()
        self.body = folder / "european" / "list.ndjson"
        hotline = {
            "url": f"file:{self.body}",
            "format": "ndjson",
            "fields": {
                "value": "/v",
                "type": "/t",
                "ref": "/r",
                "category": "/c",
                "verified_at": "/d",
                "expires": "/e",
            },
            "schedule": "every 1d",
            "verify": {"method": "none"},
        }
        self.write(NAMES)
        self.european = Daemon(
            folder / "european",
            {"sources": {"hotline": hotline}, "lists": {"europe": {"sources": ["hotline"], "types": TYPES}}},
        )
        # keys of its own: the others have those that the tests share
        self.european.config["keys"] = {"online": {"file": "own/online.pem"}}
        self.european.write_config()
        stack.enter_context(self.european)
        self.european.first_pull("hotline")
        self.proxy = LyingFeed(self.european.feed_port)
        stack.callback(self.proxy.close)
        self.national = self.after(folder / "national", self.european, self.proxy.server_port, "europe", "national")
        stack.enter_context(self.national)
        self.national.first_pull("upstream")
        self.provider = self.after(folder / "provider", self.national, self.national.feed_port, "national", "isp")
        stack.enter_context(self.provider)
        self.provider.first_pull("upstream")
        self.readers = [
            (daemon, name, daemon.subscriber("reader", name))
            for daemon, name in ((self.european, "europe"), (self.national, "national"), (self.provider, "isp"))
        ]

    def after(self, folder: Path, upstream: Daemon, port: int, there: str, here: str) -> Daemon:
        (folder / "upstream.token").write_text(upstream.subscriber(folder.name, there))
        (folder / "upstream.json").write_bytes(upstream.root.read_bytes())
        sources = {"upstream": source(f"tuf+http://127.0.0.1:{port}/{there}")}
        return Daemon(folder, {"sources": sources, "lists": {here: {"sources": ["upstream"], "types": TYPES}}})

    def write(self, names: list[str]) -> None:
        lines = [{"v": "https://url.example/a?b=\u00fc", "t": "url", "c": 'A "quoted" word', "d": "2026-11-20"}]
        lines += [{"v": "0" * 64, "t": "sha256", "r": "7", "e": "2036-01-01T00:00:00Z"}]
        lines += [{"v": name, "t": "domain", "r": f"case {name}"} for name in names]
        self.body.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def publish(self, names: list[str]) -> None:
        """Publishes a version of the first list."""
        self.write(names)
        assert self.european.pull("hotline")["outcome"] == "published"

    def pass_on(self) -> None:
        for daemon in (self.national, self.provider):
            pull = daemon.pull("upstream")
            assert pull["outcome"] == "published", pull["reason"]

    def snapshots(self) -> list[bytes]:
        """The snapshots of the three, as their subscribers get them."""
        return [daemon.snapshot(name, token) for daemon, name, token in self.readers]


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    with ExitStack() as stack:
        yield Chain(tmp_path, stack)


def test_ids_and_attributes_are_kept_and_changes_arrive_as_diffs(chain: Chain) -> None:
    first, second, third = chain.snapshots()
    assert first == second == third
    assert first.count(b"\n") == first.count(b'"id":"e-') == len(NAMES) + 2
    assert any("targets/" in path for path in chain.proxy.paths)

    chain.proxy.paths.clear()
    assert chain.national.pull("upstream")["outcome"] == "unchanged"
    assert [path.rpartition("/")[2] for path in chain.proxy.paths] == ["timestamp.json"]

    chain.publish([*NAMES[5:], "new.example"])
    said = chain.national.ask("source test", source="upstream").json
    assert (said["outcome"], said["verified"]) == ("published", True), said
    body = chain.european.folder / "given.ndjson"
    body.write_bytes(first)
    options = ("source", "test", "upstream", "--json", "--body", str(body), "-c", str(chain.national.path))
    given = json.loads(chain.national.cli(*options).stdout)
    assert (given["outcome"], given["verified"]) == ("unchanged", False), given
    chain.proxy.paths.clear()
    chain.pass_on()
    first, second, third = chain.snapshots()
    assert first == second == third
    assert b"new.example" in first
    assert not any("/targets/" in path for path in chain.proxy.paths)
    assert [path.rpartition("/")[2] for path in chain.proxy.paths][-1] == "1-2"

    chain.proxy.paths.clear()
    chain.proxy.change = lambda path, status, headers, body: (
        (status, {}, body[::-1]) if "/diffs/" in path else (status, headers, body)
    )
    chain.publish(NAMES)
    chain.pass_on()
    first, second, third = chain.snapshots()
    assert first == second == third
    assert [path.rpartition("/")[2] for path in chain.proxy.paths if "/diffs/" in path] == ["2-3"]
    assert any("/targets/" in path for path in chain.proxy.paths), "a forged diff costs the snapshot, and nothing else"


def test_a_publisher_that_was_restored_or_has_new_root_keys_is_followed(chain: Chain) -> None:
    assert chain.european.ask("start-above", number=1000).status == 200
    chain.proxy.paths.clear()
    assert chain.national.pull("upstream")["outcome"] == "unchanged", "another session with the same entries"
    assert any("/targets/" in path for path in chain.proxy.paths)
    chain.publish(NAMES[1:])
    chain.proxy.paths.clear()
    chain.pass_on()
    assert not any("/targets/" in path for path in chain.proxy.paths)

    _rotate_root(chain.european)
    chain.publish(NAMES[2:])
    chain.proxy.paths.clear()
    chain.pass_on()
    asked = [path.rpartition("/")[2] for path in chain.proxy.paths]
    assert [name for name in asked if name.endswith(".root.json")] == ["2.root.json", "3.root.json"]
    first, second, third = chain.snapshots()
    assert first == second == third

    (chain.national.folder / "upstream.json").write_bytes(chain.provider.root.read_bytes())
    assert chain.national.ask("reload").status == 200
    refused = chain.national.pull("upstream")
    assert refused["outcome"] == "failed"
    assert "check that `verify.key` is this publisher's root.json" in refused["reason"]
    assert chain.snapshots() == [first, second, third]


def _rotate_root(daemon: Daemon) -> None:
    """A second root.json with another root key and the same online key, then a restart."""
    old = CryptoSigner.from_priv_key_uri(
        f"file2:{daemon.root.parent / 'root-1.pem'}",
        _root(daemon).signed.keys[_root(daemon).signed.roles["root"].keyids[0]],
    )
    new = CryptoSigner.generate_ed25519()
    second = _root(daemon)
    second.signed.version = 2
    second.signed.revoke_key(old.public_key.keyid, "root")
    second.signed.add_key(new.public_key, "root")
    second.signatures.clear()
    for signer in (old, new):
        second.sign(signer, append=True)
    daemon.stop()
    (daemon.folder / "state" / "root" / "2.root.json").write_bytes(second.to_bytes())
    daemon.start()


def _root(daemon: Daemon) -> Metadata[Root]:
    return Metadata.from_bytes(daemon.root.read_bytes())


def test_killed_at_any_moment_the_next_pull_has_the_list(chain: Chain) -> None:
    for number in range(1, 5):
        chain.publish(NAMES[number:])
        asked = threading.Event()
        moment = ("timestamp.json", "targets.json", "/diffs/", "/diffs/")[number - 1]

        def change(path: str, status: int, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
            if moment in path:  # noqa: B023
                asked.set()  # noqa: B023
            return status, headers, body

        chain.proxy.change = change
        pull = threading.Thread(target=_pull_of_a_dying_daemon, args=(chain.national,))
        pull.start()
        assert asked.wait(60)
        chain.national.kill()
        pull.join()
        chain.national.start()
        assert chain.national.pull("upstream")["outcome"] in ("published", "unchanged")
        first, second, _ = chain.snapshots()
        assert first == second
    assert chain.provider.pull("upstream")["outcome"] == "published"
    first, second, third = chain.snapshots()
    assert first == second == third


def _pull_of_a_dying_daemon(daemon: Daemon) -> None:
    with suppress(OSError, AssertionError, ValueError, HTTPException):
        daemon.pull("upstream")


def test_what_a_feed_can_do_wrong(tmp_path: Path) -> None:
    feed = FeedSimulator()
    (tmp_path / "upstream.token").write_text(TOKEN)
    (tmp_path / "upstream.json").write_bytes(feed.root)
    where = f"tuf+http://127.0.0.1:{feed.server_port}/national"
    lists = {"isp": {"sources": ["upstream"], "guards": {"max_removed": "100%", "max_added": "100%"}}}
    daemon = Daemon(tmp_path, {"sources": {"upstream": source(where)}, "lists": lists})
    try:
        with daemon:
            daemon.first_pull("upstream")
            token = daemon.subscriber("reader", "isp")

            def failure() -> str:
                pull = daemon.pull("upstream")
                assert pull["outcome"] == "failed", pull
                return str(pull["reason"])

            assert failure() == f"{where}: the list has no version yet: the next pull tries again"
            feed.publish("one.example", "two.example")
            assert daemon.pull("upstream")["outcome"] == "published"
            live = daemon.snapshot("isp", token)
            assert live == feed.live
            before, old = dict(feed.metadata), feed.live
            feed.publish("one.example", "three.example")
            assert daemon.pull("upstream")["outcome"] == "published"
            live = daemon.snapshot("isp", token)

            newest = feed.metadata
            feed.metadata = before
            feed.change = lambda path, answer: Answer(200, old) if "/targets/" in path else answer
            assert "its sequence number is 1000000000002, lower than 1000000000003" in failure()
            feed.metadata = newest
            for status, hint in (
                (401, "check `auth`, or ask the publisher for a new token"),
                (404, "check the name of the list in `url`, or ask the publisher whether you may have it"),
                (503, "the next pull tries again"),
            ):
                feed.change = on("timestamp.json", status=status)
                assert failure() == f"{where}: status {status}: expected 200, {hint}"
            for body in (b"", b"{}", b"[]", b"\xff", b'{"signed":{"meta":{"snapshot.json":{"version":-1}}}}'):
                feed.change = on("timestamp.json", body=body)
                assert failure() == f"{where}: not the feed of a list: check `url`, or ask the publisher"
            feed.change = on("timestamp.json", body=b" " * (1 << 20))
            assert "bytes of metadata: check `url`" in failure()
            feed.change = on(".targets.json", status=404)
            assert failure() == f"{where}: a file of the version is not there any more: the next pull tries again"
            feed.change = on("timestamp.json", cut=10)
            assert "the body was cut short" in failure()

            feed.change = on("timestamp.json", headers={"ETag": '"x"'})
            feed.expires = timedelta(seconds=3)
            feed.sign()
            assert daemon.pull("upstream")["outcome"] == "unchanged", "it is signed again"
            feed.change = lambda path, answer: Answer(304) if "timestamp.json" in path else answer
            expired = datetime.now(UTC) + feed.expires
            outcomes = [daemon.pull("upstream")["outcome"] for _ in iter(lambda: datetime.now(UTC) < expired, False)]
            assert set(outcomes) <= {"unchanged", "failed"}
            assert "status 304: expected 200" in failure(), "a frozen mirror is found out once its metadata expires"
            feed.change = lambda path, answer: answer
            assert "timestamp.json expired on" in failure()
            assert daemon.snapshot("isp", token) == live
            feed.expires = timedelta(days=1)
            feed.publish("one.example", "three.example", "four.example")
            assert daemon.pull("upstream")["outcome"] == "published"
            assert daemon.snapshot("isp", token) == feed.live
    finally:
        feed.close()


def test_over_tls_in_a_process_that_can_open_no_file(tmp_path: Path) -> None:
    (tmp_path / "european").mkdir()
    (tmp_path / "national").mkdir()
    cert, key = make_certificate(tmp_path, "feed")
    client_cert, client_key = make_certificate(tmp_path, "client")
    (tmp_path / "list.txt").write_text("one.example\ntwo.example\n")
    hotline = {
        "url": f"file:{tmp_path}/list.txt",
        "format": "text",
        "defaults": {"type": "domain"},
        "schedule": "every 1d",
        "verify": {"method": "none"},
    }
    european = Daemon(
        tmp_path / "european", {"sources": {"hotline": hotline}, "lists": {"europe": {"sources": ["hotline"]}}}
    )
    european.config["feed"]["tls"] = {"cert": str(cert), "key": {"file": str(key)}}
    european.write_config()
    with european:
        european.first_pull("hotline")
        (tmp_path / "national" / "upstream.token").write_text(european.subscriber("national", "europe"))
        (tmp_path / "national" / "upstream.json").write_bytes(european.root.read_bytes())
        by_address, by_name = (f"tuf+https://{host}:{european.feed_port}/europe" for host in ("127.0.0.1", "localhost"))
        pinned = source(by_address) | {"ca": str(cert)}
        own = {"client_cert": {"cert": str(client_cert), "key": {"file": str(client_key)}}}
        unknown = source("tuf+https://nothing.invalid/europe")
        refused = {
            "system": (source(by_address), "its certificate is not trusted: self-signed certificate"),
            "name": (pinned | {"url": by_name}, "its certificate is not trusted: Hostname mismatch"),
            "client": (pinned | {"auth": own}, "status 401: expected 200, check `auth`"),
            "port": (source(f"tuf+https://127.0.0.1:{free_port()}/europe"), "Connection refused: expected a response"),
            "plain": (source(by_address.replace("+https", "+http")), "check `url`"),
            "unknown": (unknown, "its name does not resolve: check `url`, and the resolver of this machine"),
        }
        sources = {"upstream": pinned} | {name: found for name, (found, _) in refused.items()}
        national = Daemon(tmp_path / "national", {"sources": sources, "lists": {"national": {"sources": ["upstream"]}}})
        national.in_forks = False  # a fork of the tests has every module already, and would not notice a late import
        with national:
            national.first_pull("upstream")
            live = national.snapshot("national", national.subscriber("reader", "national"))
            assert live.count(b"\n") == 2
            for name, (found, reason) in refused.items():
                pull = national.pull(name)
                assert pull["outcome"] == "failed"
                assert str(pull["reason"]).startswith(f"{found['url']}: "), pull["reason"]
                assert reason in pull["reason"]
