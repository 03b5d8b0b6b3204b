"""A simulated feed in one thread: a TUF repository, signed with python-tuf, and faults that a test sets."""

from __future__ import annotations

import hashlib
import json
import threading
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import zstandard
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Key, Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from blocklistd.lines.delta import ENTRIES, render
from blocklistd.lines.snapshot import changed_lines
from blocklistd.model import Entry

LIST = "national"
TOKEN = "token-of-a-test"
_FAR = timedelta(days=30)


def snapshot_of(names: Iterable[str], category: str = "A") -> bytes:
    """A snapshot with a domain entry for each name."""
    found = [
        Entry("domain", name, {"category": category, "id": f"e-{hashlib.sha256(name.encode()).hexdigest()[:32]}"})
        for name in names
    ]
    return b"".join(sorted(entry.line() + b"\n" for entry in found))


def difference(old: bytes, new: bytes) -> bytes:
    """The diff between two snapshots as docs/feed.md has it: by (type, value), remove before add."""
    return render(ENTRIES, *changed_lines(old, new)).data


@dataclass(frozen=True, slots=True)
class Answer:
    """`cut`: closes the connection after so many bytes of the body. `slow`: sends single bytes with pauses."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    slow: bool = False


Change = Callable[[str, Answer], Answer]


def on(part: str, **changed: object) -> Change:
    """A fault in the answers to paths that contain `part`: these fields of the answer are replaced."""
    return lambda path, answer: replace(answer, **changed) if part in path else answer  # type: ignore[arg-type]


class FeedSimulator(ThreadingHTTPServer):
    """Serves one list to a client with TOKEN. A test changes these attributes between requests:

    `change(path, answer)` returns the answer with a fault. `metadata`: the served files by name; putting back a copy
    makes a replay. `paths`: the requested paths, behind the list's. `ranges`: the offsets that were asked for.
    `receipts`: those that were sent, answered with `receipt_status`. `expires` (time from now), `custom` (fields of the
    target to replace) and `signed_list` (the list's name in the metadata) apply from the next `sign` on.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.change: Change = lambda path, answer: answer
        self.paths: list[str] = []
        self.metadata: dict[str, bytes] = {}
        self.snapshots: dict[int, bytes] = {}
        self.session = str(uuid.UUID(int=1))
        self.version = 0
        self.expires = _FAR
        self.custom: dict[str, object] = {}
        self.signed_list = LIST
        self.changed = threading.Condition()
        self.closing = False
        self.counter = 0
        self.recorded: list[dict[str, bytes]] = []
        self.tokens: set[str | None] = set()
        self.receipts: list[dict[str, Any]] = []
        self.receipt_status = 404
        self.ranges: list[int] = []
        self._root_keys, self._root_number = [CryptoSigner.generate_ed25519()], 0
        self._online = CryptoSigner.generate_ed25519()
        self.root = self.rotate_root(keys=1)
        self.sign()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def close(self) -> None:
        self.closing = True
        with self.changed:
            self.changed.notify_all()
        self.shutdown()
        self._thread.join()
        self.server_close()

    def until_asked(self, path: str, times: int = 1) -> None:
        """Waits until so many requests for a path (behind the list's) have arrived."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.paths.count(path) >= times, timeout=20)

    # -- the publisher ---------------------------------------------------------------------------------------------

    def publish(self, *names: str) -> int:
        """Publishes a version with these names, and returns its number."""
        self.version += 1
        self.snapshots[self.version] = snapshot_of(names)
        self.sign()
        with self.changed:
            self.changed.notify_all()
        return self.version

    def start_over(self) -> None:
        """Begins another session, without a version. The metadata's version numbers continue."""
        self.session, self.version, self.snapshots = str(uuid.uuid4()), 0, {}

    @property
    def live(self) -> bytes:
        return self.snapshots[self.version]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.live).hexdigest()

    def sign(
        self,
        targets_expire: timedelta | None = None,
        targets_version: int | None = None,
        snapshot_version: int | None = None,
    ) -> None:
        """Signs new metadata of the three online roles, with the next version number. With a version: the role above
        names that one instead."""
        self.counter += 1
        count, now = self.counter, datetime.now(UTC)
        expires = now + self.expires
        targets = {self.target.path: self.target} if self.version else {}
        until = expires if targets_expire is None else now + targets_expire
        self._seal(f"{count}.targets.json", Metadata(Targets(count, expires=until, targets=targets)))
        meta = {"targets.json": MetaFile(version=targets_version or count)}
        self._seal(f"{count}.snapshot.json", Metadata(Snapshot(count, expires=expires, meta=meta)))
        named = MetaFile(version=snapshot_version or count)
        self._seal("timestamp.json", Metadata(Timestamp(count, expires=expires, snapshot_meta=named)))
        if self.version:
            self.recorded.append(dict(self.metadata))

    def restore(self, metadata: dict[str, bytes], version: int) -> None:
        """The feed is honest again: these roots, this version, signed again."""
        self.change = lambda path, answer: answer
        self.metadata, self.version, self.custom, self.signed_list = dict(metadata), version, {}, LIST
        self.expires = _FAR
        self.sign()

    @property
    def target(self) -> TargetFile:
        target = TargetFile.from_data(f"{self.signed_list}.ndjson", self.live, ["sha256"])
        custom = {
            "list": self.signed_list,
            "session": self.session,
            "version": self.version,
            "entries": self.live.count(b"\n"),
            "canonicaliser": 1,
        }
        target.unrecognized_fields["custom"] = custom | self.custom
        return target

    def rotate_root(
        self,
        keys: int = 1,
        threshold: int = 1,
        signed_by: int | None = None,
        sign_with_old: bool = True,
        sign_with_new: bool = True,
        expires: timedelta = _FAR,
        online: bool = False,
    ) -> bytes:
        """Makes the next root.json, with new root keys, and serves it. `online`: with a new online key, too."""
        self._root_number += 1
        first = self._root_number == 1
        old, new = self._root_keys, [CryptoSigner.generate_ed25519() for _ in range(keys)]
        if online:
            self._online = CryptoSigner.generate_ed25519()
        root = Root(version=self._root_number, expires=datetime.now(UTC) + expires, consistent_snapshot=True)
        for key in new:
            root.add_key(_public(key), "root")
        root.roles["root"].threshold = threshold
        for role in ("timestamp", "snapshot", "targets"):
            root.add_key(_public(self._online), role)
        signed = Metadata(root)
        signers = (old if sign_with_old and not first else []) + (new[:signed_by] if sign_with_new else [])
        for key in signers:
            signed.sign(key, append=True)
        self._root_keys = new
        self.metadata[f"{self._root_number}.root.json"] = signed.to_bytes()
        return signed.to_bytes()

    def _seal(self, name: str, signed: Metadata[Any]) -> None:
        signed.sign(self._online)
        self.metadata[name] = signed.to_bytes()

    # -- the feed --------------------------------------------------------------------------------------------------

    def answer(self, path: str, etag: str | None, query: dict[str, list[str]]) -> Answer:
        """The answer by docs/feed.md, without a fault."""
        root, _, rest = path.removeprefix("/v1/lists/").partition("/")
        if root != LIST:
            return Answer(404)
        kind, _, name = rest.partition("/")
        if kind == "":
            return self._status(etag, float(query.get("wait", ["0"])[0]))
        if kind == "metadata" and name in self.metadata:
            return Answer(200, self.metadata[name])
        if kind == "targets" and self.version and name == f"{self.sha256}.{LIST}.ndjson":
            return _coded(self.live)
        if kind == "diffs":
            start, _, end = name.partition("-")
            if int(start) in self.snapshots and int(end) in self.snapshots:
                return _coded(difference(self.snapshots[int(start)], self.snapshots[int(end)]))
        return Answer(404)

    def part(self, start: int) -> Answer:
        """The answer to a Range request: the snapshot from an offset on, not compressed."""
        self.ranges.append(start)
        if start >= len(self.live):
            return Answer(416)
        return Answer(206, self.live[start:], {"Content-Range": f"bytes {start}-{len(self.live) - 1}/{len(self.live)}"})

    def _status(self, etag: str | None, wait: float) -> Answer:
        with self.changed:
            if wait:
                self.changed.wait_for(lambda: self.closing or etag != self._etag, timeout=wait)
            body = json.dumps({"list": LIST, "session": self.session, "version": self.version}).encode()
            return Answer(304 if etag == self._etag else 200, body if etag != self._etag else b"", {"ETag": self._etag})

    @property
    def _etag(self) -> str:
        return f'"{self.session}.{self.version}"'


def _public(signer: CryptoSigner) -> Key:
    key: Key = signer.public_key
    return key


def _coded(body: bytes) -> Answer:
    return Answer(200, zstandard.ZstdCompressor(level=1).compress(body), {"Content-Encoding": "zstd"})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: FeedSimulator

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.changed:
            self.server.receipts.append(json.loads(body))
            self.server.changed.notify_all()
        self.send_response(self.server.receipt_status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        with self.server.changed:
            self.server.paths.append(self.path.removeprefix(f"/v1/lists/{LIST}"))
            self.server.tokens.add(self.headers["Authorization"])
            self.server.changed.notify_all()
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            answer = Answer(401)
        else:
            answer = self.server.answer(parts.path, self.headers["If-None-Match"], parse_qs(parts.query))
            if (ranged := self.headers["Range"]) and "/targets/" in parts.path and answer.status == 200:
                answer = self.server.part(int(ranged.removeprefix("bytes=").removesuffix("-")))
        answer = self.server.change(parts.path, answer)
        self.send_response(answer.status)
        if answer.status != 304:
            self.send_header("Content-Length", str(len(answer.body)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(ConnectionError):
            self._send(answer)

    def _send(self, answer: Answer) -> None:
        if answer.slow:
            pause = threading.Event()
            for at in range(len(answer.body)):
                self.wfile.write(answer.body[at : at + 1])
                if self.server.closing or pause.wait(0.02):
                    break
            self.close_connection = True
        elif answer.cut is not None:
            self.wfile.write(answer.body[: answer.cut])
            self.close_connection = True
        else:
            self.wfile.write(answer.body)
