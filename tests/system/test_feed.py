"""The HTTPS feed from a client's side: authorisation, long polls, caching, content codings, ranges, diffs."""

from __future__ import annotations

import gzip
import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from tests.damage import flip_a_bit
from tests.system.daemon import Answer, Daemon

NAMES = [f"n{number}.example" for number in range(400)]
GAUGE = "blocklistd_feed_long_polls "
IMMUTABLE = "private, max-age=31536000, immutable"


class Feed:
    """A daemon with two lists of different subscribers, and a list without a version."""

    def __init__(self, folder: Path) -> None:
        self.body = folder / "list.txt"
        other = folder / "other.txt"
        self.write(NAMES)
        other.write_text("other.example\n")
        common = {
            "format": "text",
            "defaults": {"type": "domain"},
            "schedule": "every 1d",
            "verify": {"method": "none"},
        }
        self.daemon = Daemon(
            folder,
            {
                "sources": {
                    "hotline": {"url": f"file:{self.body}", **common},
                    "second": {"url": f"file:{other}", **common},
                    "absent": {"url": f"file:{folder}/absent.txt", **common},
                },
                "lists": {
                    "national": {"sources": ["hotline"]},
                    "foreign": {"sources": ["second"]},
                    "empty": {"sources": ["absent"]},
                },
            },
        )

    def write(self, names: list[str]) -> None:
        self.body.write_text("".join(f"{name}\n" for name in names))

    def publish(self, names: list[str]) -> None:
        self.write(names)
        assert self.daemon.pull("hotline")["outcome"] == "published"


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Feed]:
    made = Feed(tmp_path_factory.mktemp("feed"))
    with made.daemon as daemon:
        for source in ("hotline", "second", "absent"):
            daemon.first_pull(source)
        yield made


@pytest.fixture(scope="module")
def token(feed: Feed) -> str:
    return feed.daemon.subscriber("isp", "national", "empty")


def test_without_a_valid_token_every_path_is_401(feed: Feed, token: str) -> None:
    for path in ("/v1/lists", "/v1/lists/national", "/v1/lists/absent", "/v1/anything", "/"):
        for wrong in (None, "wrong", token + "x"):
            answer = feed.daemon.get(path, wrong)
            assert answer.status == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert answer.headers["content-type"].startswith("application/problem+json")
            assert answer.json["status"] == 401


def test_another_subscribers_list_is_answered_as_a_missing_list(feed: Feed, token: str) -> None:
    digest = "0" * 64
    for path in ("", "?wait=1", "/metadata/timestamp.json", f"/targets/{digest}.LIST.ndjson", "/diffs/1-1"):
        answers = [feed.daemon.get(f"/v1/lists/{n}{path.replace('LIST', n)}", token) for n in ("foreign", "nowhere")]
        assert [answer.status for answer in answers] == [404, 404]
        assert answers[0].body == answers[1].body
        assert {k: v for k, v in answers[0].headers.items() if k != "date"} == {
            k: v for k, v in answers[1].headers.items() if k != "date"
        }
    assert [one["list"] for one in feed.daemon.get("/v1/lists", token).json["lists"]] == ["empty", "national"]


def test_304_has_the_same_headers_on_a_closing_connection(feed: Feed, token: str) -> None:
    status = feed.daemon.get("/v1/lists/national", token).json
    target = f"/v1/lists/national/targets/{status['sha256']}.national.ndjson"
    for path in ("/v1/lists/national", "/v1/lists/national/metadata/timestamp.json", target):
        etag = feed.daemon.get(path, token).headers["etag"]
        stays = feed.daemon.get(path, token, If_None_Match=etag)
        ends = feed.daemon.get(path, token, If_None_Match=etag, Connection="close")
        assert (stays.status, ends.status) == (304, 304)
        assert stays.headers["etag"] == ends.headers["etag"] == etag
        for name in ("cache-control", "vary", "accept-ranges"):
            assert stays.headers.get(name) == ends.headers.get(name)
        assert stays.headers["cache-control"]
        assert "date" in stays.headers
        assert "date" in ends.headers


def test_a_revoked_token_is_unknown(feed: Feed) -> None:
    token = feed.daemon.subscriber("leaver", "national")
    assert feed.daemon.get("/v1/lists/national", token).status == 200
    assert feed.daemon.ask("subscriber revoke", id="leaver").status == 200
    assert feed.daemon.get("/v1/lists/national", token).status == 401


def test_a_revoked_subscribers_id_can_be_reused_and_its_old_token_stays_invalid(feed: Feed) -> None:
    old = feed.daemon.subscriber("comes-back", "national")
    assert feed.daemon.ask("subscriber revoke", id="comes-back").status == 200
    new = feed.daemon.subscriber("comes-back", "national")
    assert feed.daemon.get("/v1/lists/national", old).status == 401
    assert feed.daemon.get("/v1/lists/national", new).status == 200
    assert feed.daemon.ask("subscriber show", id="comes-back").json["revoked"] is None


def test_a_list_without_a_version_is_empty_and_has_no_target(feed: Feed, token: str) -> None:
    status = feed.daemon.get("/v1/lists/empty", token).json
    assert (status["version"], status["entries"]) == (0, 0)
    metadata = feed.daemon.get("/v1/lists/empty/metadata/1.targets.json", token).json
    assert metadata["signed"]["targets"] == {}
    assert feed.daemon.get("/v1/lists/empty/diffs/0-0", token).status == 404
    assert feed.daemon.get("/v1/lists/empty/diffs/1-1", token).status == 404


def test_a_status_is_revalidated(feed: Feed, token: str) -> None:
    first = feed.daemon.get("/v1/lists/national", token)
    assert set(first.json) == {
        *("list", "session", "version", "entries", "length", "sha256"),
        *("published", "expires", "oldest_diff", "canonicaliser"),
    }
    assert first.headers["cache-control"] == "no-cache"
    etag = first.headers["etag"]
    for header in (etag, f"W/{etag}", f'"another", {etag}', "*"):
        again = feed.daemon.get("/v1/lists/national", token, If_None_Match=header)
        assert (again.status, again.body) == (304, b"")
        assert again.headers["etag"] == etag
    assert feed.daemon.get("/v1/lists/national", token, If_None_Match='"another"').status == 200


def test_waiting_ends_when_the_version_changes(feed: Feed, token: str) -> None:
    before = feed.daemon.get("/v1/lists/national", token)
    answers = []
    waiting = threading.Thread(
        target=lambda: answers.append(
            feed.daemon.get("/v1/lists/national?wait=55", token, If_None_Match=before.headers["etag"])
        )
    )
    began = time.monotonic()
    waiting.start()
    feed.publish([*NAMES, "woken.example"])
    waiting.join(30)
    assert time.monotonic() - began < 30, "long before the wait was over"
    assert answers[0].status == 200
    assert answers[0].json["version"] == before.json["version"] + 1
    feed.publish(NAMES)


def test_waiting_ends_with_304(feed: Feed, token: str) -> None:
    etag = feed.daemon.get("/v1/lists/national", token).headers["etag"]
    began = time.monotonic()
    assert feed.daemon.get("/v1/lists/national?wait=1", token, If_None_Match=etag).status == 304
    assert time.monotonic() - began >= 1
    assert feed.daemon.get("/v1/lists/national?wait=55", token).status == 200, "nothing to compare with: at once"
    for wrong in ("0", "56", "-1", "x", "1.5", "", "9" * 30):
        refused = feed.daemon.get(f"/v1/lists/national?wait={wrong}", token, If_None_Match=etag)
        assert refused.status == 400, wrong
        assert "1 to 55" in refused.json["detail"]


def test_signing_again_does_not_end_a_wait(tmp_path: Path) -> None:
    """The answer is 304: the client's ETag was right when it sent the request."""
    made = Feed(tmp_path)
    made.daemon.config["lists"]["national"]["expires"] = "4s"
    made.daemon.config["keys"]["timestamp_expires"] = "4s"
    made.daemon.write_config()
    with made.daemon as daemon:
        daemon.first_pull("hotline")
        token = daemon.subscriber("isp", "national")
        before = daemon.get("/v1/lists/national", token)
        began = time.monotonic()
        waited = daemon.get("/v1/lists/national?wait=3", token, If_None_Match=before.headers["etag"])
        assert (waited.status, waited.headers["etag"]) == (304, before.headers["etag"])
        assert time.monotonic() - began >= 3
        again = daemon.get("/v1/lists/national?wait=3", token, If_None_Match=before.headers["etag"])
        assert again.status == 200
        assert again.json["expires"] > before.json["expires"]


def test_a_long_poll_whose_client_leaves_is_no_longer_counted(feed: Feed) -> None:
    token = feed.daemon.subscriber("restless", "national")
    asked = f"GET /v1/lists/national?wait=55 HTTP/1.1\r\nHost: x\r\nIf-None-Match: *\r\nAuthorization: Bearer {token}"

    def waiting() -> str:
        return next(
            line for line in feed.daemon.ops("/metrics").body.decode().splitlines() if line.startswith(GAUGE)
        ).removeprefix(GAUGE)

    streams = []
    for number in range(256):  # an address may have half as many before it has said whose they are
        source = f"127.0.1.{1 + number // 100}", 0
        streams.append(socket.create_connection(("127.0.0.1", feed.daemon.feed_port), source_address=source))
        streams[-1].sendall(f"{asked}\r\n\r\n".encode())
    feed.daemon.wait_for(lambda: waiting() == "256.0")
    assert feed.daemon.get("/v1/lists", token).status == 429
    for stream in streams:
        stream.close()
    feed.daemon.wait_for(lambda: waiting() == "0.0", within=5)
    assert feed.daemon.get("/v1/lists", token).status == 200


def test_targets_in_every_coding(feed: Feed, token: str) -> None:
    status = feed.daemon.get("/v1/lists/national", token).json
    path = f"/v1/lists/national/targets/{status['sha256']}.national.ndjson"
    plain = feed.daemon.get(path, token)
    packed = feed.daemon.get(path, token, Accept_Encoding="gzip")
    zipped = when_zipped(feed.daemon, path, token)
    assert hashlib.sha256(plain.body).hexdigest() == status["sha256"]
    assert gzip.decompress(packed.body) == plain.body
    assert zstandard.ZstdDecompressor().decompress(zipped.body) == plain.body
    assert "content-encoding" not in plain.headers
    assert (packed.headers["content-encoding"], zipped.headers["content-encoding"]) == ("gzip", "zstd")
    etags = {answer.headers["etag"] for answer in (plain, packed, zipped)}
    assert len(etags) == 3
    for answer in (plain, packed, zipped):
        assert answer.headers["vary"] == "Accept-Encoding"
        assert answer.headers["cache-control"] == IMMUTABLE
    coded = feed.daemon.get(path, token, Accept_Encoding="zstd", If_None_Match=zipped.headers["etag"])
    assert coded.status == 304
    assert feed.daemon.get(path, token, If_None_Match=zipped.headers["etag"]).status == 200
    head = feed.daemon.get(path, token, method="HEAD")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(plain.body)))
    for accepted, coding in (
        ("zstd;q=0, identity", None),
        ("identity, zstd;q=0.5", None),
        ("identity;q=0.1, gzip;q=0.2", "gzip"),
        ("identity;q=0, *", "zstd"),
        ("gzip;q=nan", None),
        ("br", None),
    ):
        answer = feed.daemon.get(path, token, Accept_Encoding=accepted)
        assert (answer.status, answer.headers.get("content-encoding")) == (200, coding), accepted
    for refused in ("identity;q=0", "*;q=0", "zstd;q=0, gzip;q=0, identity;q=0"):
        answer = feed.daemon.get(path, token, Accept_Encoding=refused)
        assert (answer.status, answer.json["status"]) == (406, 406), refused


def when_zipped(daemon: Daemon, path: str, token: str) -> Answer:
    """The target once its zstd rendering is made, after the version became live."""
    answers: list[Answer] = []

    def zipped() -> bool:
        answers.append(daemon.get(path, token, Accept_Encoding="gzip;q=0.5, zstd"))
        return answers[-1].headers.get("content-encoding") == "zstd"

    daemon.wait_for(zipped)
    for early in answers[:-1]:
        assert "content-encoding" not in early.headers, "until then it is sent as it is"
    return answers[-1]


def test_a_target_is_sent_uncompressed_until_zstd_is_made(feed: Feed, token: str) -> None:
    feed.publish([*NAMES, "zipped.example"])
    status = feed.daemon.get("/v1/lists/national", token).json
    path = f"/v1/lists/national/targets/{status['sha256']}.national.ndjson"
    plain = feed.daemon.get(path, token)
    zipped = when_zipped(feed.daemon, path, token)
    assert zstandard.ZstdDecompressor().decompress(zipped.body) == plain.body
    found = zstandard.get_frame_parameters(zipped.body)
    assert (found.content_size, found.has_checksum) == (len(plain.body), True), "one ordinary frame"
    feed.publish(NAMES)


@pytest.mark.parametrize("what", ["snapshot", "delta", "zstd", "netted diff"])
def test_no_wrong_byte_is_sent_of_a_file_with_a_bit_flipped_while_the_daemon_runs(tmp_path: Path, what: str) -> None:
    made = Feed(tmp_path)
    with made.daemon as daemon:
        daemon.first_pull("hotline")
        token = daemon.subscriber("isp", "national")
        made.publish([*NAMES, "a.example"])
        made.publish([*NAMES[1:], "b.example"])
        digest = daemon.get("/v1/lists/national", token).json["sha256"]
        target = f"/v1/lists/national/targets/{digest}.national.ndjson"
        when_zipped(daemon, target, token)
        path, accepted, file = {
            "snapshot": (target, "identity", f"sealed/{digest[:2]}/{digest}"),
            "delta": ("/v1/lists/national/diffs/2-3", "identity", ""),
            "zstd": (target, "zstd", f"sealed/{digest[:2]}/{digest}.zst"),
            "netted diff": ("/v1/lists/national/diffs/1-3", "identity", "diffs/*/1-3.ndjson"),
        }[what]
        right = daemon.get(path, token, Accept_Encoding=accepted)
        assert right.status == 200
        if what == "delta":
            delta = hashlib.sha256(right.body).hexdigest()
            file = f"sealed/{delta[:2]}/{delta}"
        (found,) = (tmp_path / "state").glob(file)
        flip_a_bit(found)
        plain = zstandard.ZstdDecompressor().decompress(right.body) if accepted == "zstd" else right.body
        for _ in range(20):
            answer = daemon.get(path, token, Accept_Encoding=accepted)
            if answer.status == 503:
                assert what in ("snapshot", "delta"), "a rendering is made again at once"
                assert answer.headers["retry-after"]
                continue
            if what == "delta" and answer.status == 410:  # it is lost: diffs start later
                continue
            assert answer.status == 200
            zipped = answer.headers.get("content-encoding") == "zstd"
            assert (zstandard.ZstdDecompressor().decompress(answer.body) if zipped else answer.body) == plain
        if what != "delta":
            daemon.wait_for(lambda: daemon.get(path, token, Accept_Encoding=accepted).status == 200)


def test_several_header_lines_of_one_name_are_one_list(feed: Feed, token: str) -> None:
    status = feed.daemon.get("/v1/lists/national", token)
    target = f"/v1/lists/national/targets/{status.json['sha256']}.national.ndjson"
    for path, lines, wanted in (
        ("/v1/lists/national", ('If-None-Match: "a"', f"If-None-Match: {status.headers['etag']}"), b"304"),
        (target, ("Accept-Encoding: identity;q=0", "Accept-Encoding: *;q=0"), b"406"),
    ):
        head = "\r\n".join((f"GET {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {token}", *lines, "", ""))
        with socket.create_connection(("127.0.0.1", feed.daemon.feed_port), timeout=20) as stream:
            stream.sendall(head.encode())
            assert stream.recv(4096).split(b" ")[1] == wanted


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("bytes=0-9", 0, 10), ("bytes=10-", 10, None), ("bytes=-7", -7, None), ("bytes=5-99999999", 5, None)],
)
def test_ranges_of_a_target(feed: Feed, token: str, asked: str, start: int, end: int | None) -> None:
    status = feed.daemon.get("/v1/lists/national", token).json
    path = f"/v1/lists/national/targets/{status['sha256']}.national.ndjson"
    whole = feed.daemon.get(path, token)
    part = feed.daemon.get(path, token, Range=asked, Accept_Encoding="zstd")
    assert part.status == 206
    assert part.body == whole.body[start:end]
    assert part.headers["content-range"].endswith(f"/{len(whole.body)}")
    assert feed.daemon.get(path, token, Range=asked, If_Range=whole.headers["etag"]).status == 206
    assert feed.daemon.get(path, token, Range=asked, If_Range='"another"').body == whole.body
    outside = feed.daemon.get(path, token, Range=f"bytes={len(whole.body)}-")
    assert (outside.status, outside.headers["content-range"]) == (416, f"bytes */{len(whole.body)}")
    assert feed.daemon.get(path, token, Range="bytes=0-1,3-4").status == 200, "several ranges: the whole"
    head = feed.daemon.get(path, token, method="HEAD", Range=asked)
    assert (head.status, head.headers["content-length"]) == (200, str(len(whole.body))), "ranges are defined for GET"


def test_diffs_between_versions(feed: Feed, token: str) -> None:
    version = feed.daemon.get("/v1/lists/national", token).json["version"]
    feed.publish([*NAMES[1:], "a.example"])
    feed.publish([*NAMES[1:], "b.example"])
    diff = feed.daemon.get(f"/v1/lists/national/diffs/{version}-{version + 2}", token)
    steps = [json.loads(line) for line in diff.body.splitlines()]
    assert [(op, entry["value"]) for step in steps for op, entry in step.items()] == [
        ("add", "b.example"),
        ("remove", "n0.example"),
    ], "a.example came and left, and is nowhere"
    assert diff.headers["cache-control"] == IMMUTABLE
    same = feed.daemon.get(f"/v1/lists/national/diffs/{version}-{version}", token)
    assert (same.status, same.body) == (200, b"")
    back = feed.daemon.get(f"/v1/lists/national/diffs/{version + 2}-{version}", token)
    assert sorted(next(iter(json.loads(line))) for line in back.body.splitlines()) == ["add", "remove"]
    for never in (f"0-{version}", f"{version}-99", "99-1", "1-x", "1", "-1-2", "01-2"):
        assert feed.daemon.get(f"/v1/lists/national/diffs/{never}", token).status == 404, never
    feed.publish(NAMES)


def test_changed_attributes_are_a_remove_and_an_add(tmp_path: Path) -> None:
    body = tmp_path / "list.csv"
    rows = [f"https://a.example/{number},A" for number in range(30)]
    body.write_text("\n".join(["url,class", *rows]) + "\n")
    source = {
        "url": f"file:{body}",
        "format": "csv",
        "fields": {"value": "url", "category": "class"},
        "defaults": {"type": "url"},
        "schedule": "every 1d",
        "verify": {"method": "none"},
    }
    with Daemon(tmp_path, {"sources": {"h": source}, "lists": {"l": {"sources": ["h"]}}}) as daemon:
        daemon.first_pull("h")
        token = daemon.subscriber("isp", "l")
        body.write_text("\n".join(["url,class", *rows[1:], "https://a.example/0,B"]) + "\n")
        assert daemon.pull("h")["versions"] == {"l": 2}
        steps = [json.loads(line) for line in daemon.get("/v1/lists/l/diffs/1-2", token).body.splitlines()]
        assert [list(step) for step in steps] == [["remove"], ["add"]]
        removed, added = steps[0]["remove"], steps[1]["add"]
        assert (removed["category"], added["category"]) == ("A", "B")
        assert removed["id"] == added["id"]


def test_unknown_paths_and_methods_are_refused(feed: Feed, token: str) -> None:
    for path in ("/", "/v1", "/v1/lists/", "/v1/lists/national/", "/v1/lists/national/targets/x", "/v1/event"):
        assert feed.daemon.get(path, token).status == 404, path
    posted = feed.daemon.get("/v1/lists/national", token, method="POST")
    assert (posted.status, posted.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


def test_health_readiness_and_metrics(feed: Feed) -> None:
    assert feed.daemon.ops("/healthz").status == 200
    ready = feed.daemon.ops("/readyz")  # with what another test has asked for in its body
    assert (ready.status, ready.body.splitlines()[0]) == (200, b"ready")
    metrics = feed.daemon.ops("/metrics").body.decode()
    assert 'blocklistd_list_entries{list="national"} 400.0' in metrics
    assert 'blocklistd_pulls_total{outcome="published",source="hotline"}' in metrics
    assert feed.daemon.ops("/anything").status == 404


def test_a_revoke_during_a_long_poll_ends_it_with_401(feed: Feed, token: str) -> None:
    """Revoked during the long poll: its answer is that of an unauthenticated client."""
    token = feed.daemon.subscriber("waiter", "national")
    etag = feed.daemon.get("/v1/lists/national", token).headers["etag"]
    answers = []
    waiting = threading.Thread(
        target=lambda: answers.append(feed.daemon.get("/v1/lists/national?wait=2", token, If_None_Match=etag))
    )
    waiting.start()
    feed.daemon.ask("subscriber revoke", id="waiter")
    waiting.join()
    assert answers[0].status == 401
