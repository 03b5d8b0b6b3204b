"""nginx before the daemon, as config/nginx/ has it: each body is fetched once, each subscriber gets only its own."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest
import zstandard

from tests.interop.nginx import nginx
from tests.system.daemon import Answer, free_port
from tests.system.test_feed import NAMES, Feed

CONFIG = Path(__file__).parents[2] / "config" / "nginx" / "blocklistd.conf"
RELOAD = CONFIG.with_name("blocklistd-reload.conf")
ENDS_WITHIN = 10.0  # seconds: after a reload, of a download that runs
REVOKED_WITHIN = 11.0  # seconds: the daemon's answer is kept for ten
POLLERS = 50


def configured(folder: Path, port: int, daemon_port: int) -> str:
    """The configuration of config/nginx/, with the ports and folders of a test, and without TLS."""
    text = CONFIG.read_text()
    text = re.sub(
        r"    listen 443 ssl;\n    listen \[::\]:443 ssl;\n", f"    listen 127.0.0.1:{port} sndbuf=64k;\n", text
    )
    text = re.sub(r"    ssl_certificate.*\n", "", text)
    text = text.replace("server 127.0.0.1:8443;", f"server 127.0.0.1:{daemon_port};")
    text = text.replace("/run/blocklistd-authorized", f"{folder}/nginx/cache/authorized")
    text = text.replace("/var/cache/nginx/blocklistd", f"{folder}/nginx/cache/bodies")
    assert " ssl" not in text
    return text


class Front:
    """A daemon with the lists national and foreign, and nginx before it."""

    def __init__(self, folder: Path, feed: Feed, port: int) -> None:
        self.folder = folder
        self.feed = feed
        self.daemon = feed.daemon
        self.port = port

    def get(self, path: str, token: str | None = None, method: str = "GET", **headers: str) -> Answer:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        try:
            connection.request(method, path, headers=sent)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def fetched(self) -> Counter[str]:
        """The bodies that the daemon has sent, by resource: answers 200."""
        found = re.findall(
            r"blocklistd_feed_requests_total\{(.*?)\} ([0-9.]+)", self.daemon.ops("/metrics").body.decode()
        )
        counts: Counter[str] = Counter()
        for labels, value in found:
            if 'status="200"' in labels or 'code="200"' in labels:
                resource = re.search(r'resource="(\w+)"', labels)
                assert resource is not None
                counts[resource[1]] += int(float(value))
        return counts


@contextmanager
def started(tmp_path: Path, names: list[str]) -> Iterator[Front]:
    """A front whose list national has these names."""
    feed, port = Feed(tmp_path), free_port()
    feed.write(names)
    feed.daemon.config["feed"] |= {"trusted_proxies": ["127.0.0.1"], "rate_limit": "off"}
    feed.daemon.write_config()
    text = configured(tmp_path, port, feed.daemon.feed_port)
    with feed.daemon as daemon, nginx(tmp_path / "nginx", text, port, RELOAD.read_text()):
        for source in ("hotline", "second"):
            daemon.first_pull(source)
        yield Front(tmp_path, feed, port)


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    with started(tmp_path, NAMES) as front:
        yield front


def test_each_body_is_fetched_once_and_each_subscriber_gets_only_its_own(front: Front) -> None:
    daemon = front.daemon
    front.feed.publish([*NAMES, "new.example"])
    tokens = [daemon.subscriber("isp-1", "national"), daemon.subscriber("isp-2", "national", "foreign")]
    status = daemon.get("/v1/lists/national", tokens[0]).json
    target = f"/v1/lists/national/targets/{status['sha256']}.national.ndjson"
    daemon.wait_for(lambda: "content-encoding" in daemon.get(target, tokens[0], Accept_Encoding="zstd").headers)
    paths = ["/v1/lists/national", "/v1/lists/national/metadata/timestamp.json", target]
    paths += ["/v1/lists/national/diffs/1-2", "/v1/lists/national/export/squid"]
    before, answers, started = front.fetched(), dict[tuple[str, int], Answer](), threading.Barrier(POLLERS)

    def poll(number: int) -> None:
        started.wait()
        for path in paths:
            coding = ("zstd", "zstd, gzip;q=0.5", "br, zstd;q=1.0")[number % 3]
            answers[path, number] = front.get(path, tokens[number % 2], Accept_Encoding=coding)

    threads = [threading.Thread(target=poll, args=(number,)) for number in range(POLLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sent = front.fetched() - before
    assert {answer.status for answer in answers.values()} == {200}
    assert {name: sent[name] for name in ("targets", "diffs")} == {"targets": 1, "diffs": 1}
    assert sent["status"] == 1, "asked for again by its ETag"
    assert sent["metadata"] == 1
    assert sent["export"] == 1
    body = zstandard.ZstdDecompressor().decompressobj().decompress(answers[target, 0].body)
    assert hashlib.sha256(body).hexdigest() == status["sha256"]
    assert answers[paths[-1], 0].headers["blocklistd-omitted"] == "0"
    assert answers[target, 0].headers["cache-control"].startswith("private")

    assert front.get("/v1/lists/foreign", tokens[1]).status == 200
    theirs = front.get("/v1/lists/foreign", tokens[0])
    absent = front.get("/v1/lists/absent", tokens[0])
    assert (theirs.status, theirs.body) == (absent.status, absent.body) == (404, theirs.body)
    assert theirs.json == daemon.get("/v1/lists/foreign", tokens[0]).json
    for spelling in ("/v1/lists/national/../foreign", "/v1/lists/%66oreign", "/v1//lists/foreign"):
        assert front.get(spelling, tokens[0]).status == 404
    refused = front.get(target)
    assert (refused.status, refused.headers["www-authenticate"]) == (401, 'Bearer realm="blocklistd"')
    assert refused.headers["content-type"] == "application/problem+json"
    assert front.get(target, "x" * 43).status == 401
    assert [one["list"] for one in front.get("/v1/lists", tokens[0]).json["lists"]] == ["national"]

    assert front.get("/v1/authorize", tokens[0], X_Original_URI="/v1/lists/national").status == 404

    etag = answers["/v1/lists/national", 0].headers["etag"]
    assert front.get("/v1/lists/national", tokens[0], If_None_Match=etag).status == 304
    part = front.get(target, tokens[0], Range="bytes=10-19", Accept_Encoding="zstd")
    assert (part.status, part.body) == (206, body[10:20])
    assert front.get(target, tokens[0], "HEAD").headers["content-length"] == str(len(body))

    events, versions = HTTPConnection("127.0.0.1", front.port, timeout=30), list[str]()
    events.request("GET", "/v1/events", headers={"Authorization": f"Bearer {tokens[0]}"})
    stream = events.getresponse()
    assert stream.status == 200

    def follow() -> None:
        while not any('"version":3,' in line for line in versions) and (line := stream.readline()):
            versions.append(line.decode())

    following = threading.Thread(target=follow)
    following.start()

    def woken() -> None:
        answers["wait", 0] = front.get("/v1/lists/national?wait=50", tokens[0], If_None_Match=etag)

    waiting = threading.Thread(target=woken)
    waiting.start()
    daemon.wait_for(lambda: "blocklistd_feed_long_polls 1" in daemon.ops("/metrics").body.decode())
    front.feed.publish([*NAMES, "new.example", "more.example"])
    waiting.join(20)
    assert answers["wait", 0].json["version"] == 3
    following.join(20)
    assert not following.is_alive(), "an event passes at once"
    assert '"list":"national"' in versions[-1]
    events.close()
    daemon.wait_for(lambda: front.get("/v1/lists/national", tokens[1]).json["version"] == 3, within=5)

    assert daemon.ask("subscriber revoke", id="isp-1").status == 200
    revoked = time.monotonic()
    daemon.wait_for(lambda: front.get(target, tokens[0]).status == 401, within=REVOKED_WITHIN)
    assert time.monotonic() - revoked < REVOKED_WITHIN
    assert front.get(target, tokens[1]).status == 200
    daemon.stop()
    assert front.get(target, tokens[1]).status == 200, "the answer of the daemon is kept for ten seconds"


def _children(pid: int) -> set[int]:
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def test_a_reload_ends_the_downloads_of_a_revoked_subscriber(tmp_path: Path) -> None:
    with started(tmp_path, [f"n{number}.example" for number in range(20_000)]) as front:
        daemon, token = front.daemon, front.daemon.subscriber("isp-1", "national")
        status = daemon.get("/v1/lists/national", token).json
        target = f"/v1/lists/national/targets/{status['sha256']}.national.ndjson"
        assert len(front.get(target, token).body) == status["length"]
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.settimeout(ENDS_WITHIN)
            slow.connect(("127.0.0.1", front.port))
            slow.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
            assert slow.recv(1024).startswith(b"HTTP/1.1 200 ")
            assert daemon.ask("subscriber revoke", id="isp-1").status == 200
            master = int((tmp_path / "nginx" / "pid").read_text())
            workers = _children(master)
            os.kill(master, signal.SIGHUP)
            # a worker that has ended sends nothing more; what the kernel still holds for the client is no download
            daemon.wait_for(lambda: not workers & _children(master), within=ENDS_WITHIN)
            arrived = 0
            with contextlib.suppress(ConnectionError):
                while part := slow.recv(65536):
                    arrived += len(part)
            assert arrived < status["length"], "it did not come to its end"
        daemon.wait_for(lambda: front.get(target, token).status == 401, within=REVOKED_WITHIN)


SPELLINGS_OF_FOREIGN = (
    *("/v1//lists/foreign", "//v1/lists/foreign", "/v1/./lists/foreign", "/v1/x/../lists/foreign", "/V1/lists/foreign"),
    *("/v1/LISTS/foreign", "/v1/lists//foreign", "/v1/lists/%66oreign", "/v1/%6cists/foreign", "/%76%31/lists/foreign"),
    *("/v1/lists/national/../foreign", "/v1/lists/national/%2e%2e/foreign", "/v1/lists/national/..%2fforeign/x"),
    *("/v1/lists;x/foreign", "/v1/lists/national;/../foreign", "/v1\\lists\\foreign", "/v1/lists/foreign#", "/v1/.."),
    *("http://feed.example/v1/lists/foreign", "/v1/lists/national/", "/v1/lists/", "/v1/", "/", "v1/lists/foreign"),
)
"""Paths that a proxy which passes on the client's spelling may answer as if they were of the list `foreign`."""


def test_only_trusted_proxies_may_ask_for_others(tmp_path: Path) -> None:
    feed = Feed(tmp_path)
    with feed.daemon as daemon:
        token = daemon.subscriber("isp-1", "national")
        assert daemon.get("/v1/authorize", token, X_Original_URI="/v1/lists/national").status == 404
        daemon.config["feed"]["trusted_proxies"] = ["127.0.0.1"]
        daemon.write_config()
        daemon.cli("reload", "-c", str(daemon.path))
        for path, status in (
            ("/v1/lists/national", 204),
            ("/v1/lists/national/targets/x", 204),
            ("/v1/lists/foreign", 403),
            ("/v1/lists/absent", 403),
            ("/v1/lists", 204),
            ("/v1/lists/national/metadata/1.root.json?x=/v1/lists/foreign", 204),
            *((path, 403) for path in SPELLINGS_OF_FOREIGN),
        ):
            assert daemon.get("/v1/authorize", token, X_Original_URI=path).status == status, path
        assert daemon.get("/v1/authorize", token).status == 403, "a proxy that names no path"
        assert daemon.get("/v1/authorize", X_Original_URI="/v1/lists/national").status == 401
