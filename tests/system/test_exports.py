"""Exports over HTTPS, and as formats of `sync`."""

from __future__ import annotations

import gzip
import json
import threading
from pathlib import Path

import zstandard

from blocklistd.outputs import OUTPUTS
from tests.system.daemon import Answer, Daemon

OMITTED = "blocklistd-omitted"
RECORDS = [
    {"type": "domain", "value": "d.example"},
    {"type": "host", "value": "w.d.example"},
    {"type": "host", "value": "h.example"},
    {"type": "ip", "value": "192.0.2.1"},
    {"type": "url", "value": "https://u.example/x"},
]
LEFT_OUT = {
    **{"plain": 0, "hosts": 3, "rpz": 1, "unbound": 2, "squid": 2, "squid-urls": 4, "dnsmasq": 2},
    **{"adblock": 1, "mikrotik": 1},
}
"""The entries that each format omits of RECORDS. No format needs a line for `w.d.example`: the domain covers it."""


def configuration(folder: Path) -> dict[str, object]:
    def source(name: str, records: list[dict[str, str]]) -> dict[str, object]:
        (folder / name).write_text("".join(json.dumps(record) + "\n" for record in records))
        options = {
            "format": "ndjson",
            "fields": {"type": "/type", "value": "/value"},
            "schedule": "every 1d",
            "verify": {"method": "none"},
        }
        return {"url": f"file:{folder}/{name}", **options}

    return {
        "sources": {"hotline": source("a.ndjson", RECORDS), "second": source("b.ndjson", [RECORDS[0]])},
        "lists": {
            "national": {
                "sources": ["hotline"],
                "types": ["url", "host", "domain", "ip"],
                "guards": {"allow_ip": True},
            },
            "foreign": {"sources": ["second"]},
        },
    }


def test_exports_are_served_and_kept_like_other_files(tmp_path: Path) -> None:
    with Daemon(tmp_path, configuration(tmp_path)) as daemon:
        for source in ("hotline", "second"):
            daemon.first_pull(source)
        token = daemon.subscriber("isp", "national")

        def get(name: str, headers: dict[str, str] | None = None, list_id: str = "national") -> Answer:
            return daemon.get(f"/v1/lists/{list_id}/export/{name}", token, **(headers or {}))

        answers = {name: get(name) for name in OUTPUTS}
        assert {name: answer.status for name, answer in answers.items()} == dict.fromkeys(OUTPUTS, 200)
        assert {name: int(answer.headers[OMITTED]) for name, answer in answers.items()} == LEFT_OUT
        assert answers["squid"].body == b".d.example\nh.example\n"
        assert answers["squid"].headers["cache-control"] == "no-cache"
        assert len({answer.headers["etag"] for answer in answers.values()}) == len(OUTPUTS)

        etag = answers["squid"].headers["etag"]
        unchanged = get("squid", {"If-None-Match": etag})
        assert (unchanged.status, unchanged.headers[OMITTED]) == (304, "2")
        for coding, decode in (("zstd", zstandard.ZstdDecompressor().decompress), ("gzip", gzip.decompress)):
            coded = get("squid", {"Accept-Encoding": coding})
            assert coded.headers["content-encoding"] == coding
            assert decode(coded.body) == answers["squid"].body
            assert coded.headers["etag"] != etag
        assert get("squid", {"Range": "bytes=1-9", "If-Range": etag}).body == b"d.example"

        assert get("squid", list_id="foreign").body == get("squid", list_id="absent").body, "not theirs is not there"
        assert get("squid", list_id="foreign").status == 404
        unknown = get("ndjson")
        assert unknown.status == 404
        assert unknown.json["detail"] == f"no such format: expected one of {', '.join(OUTPUTS)}"
        assert get("ndjson", list_id="foreign").body == get("squid", list_id="absent").body
        assert daemon.get("/v1/lists/national/export/squid").status == 401

        (tmp_path / "a.ndjson").write_text("".join(json.dumps(record) + "\n" for record in RECORDS[:3]))
        assert daemon.pull("hotline")["outcome"] == "published"
        changed = get("squid", {"If-None-Match": etag})
        assert (changed.status, changed.headers[OMITTED]) == (200, "0")

        (tmp_path / "a.ndjson").write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
        assert daemon.pull("hotline")["outcome"] == "published"
        many: list[Answer] = []
        threads = [threading.Thread(target=lambda: many.append(get("unbound"))) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {answer.body for answer in many} == {answers["unbound"].body}
        assert "Traceback" not in daemon.log


def test_sync_writes_each_format_and_says_what_it_omits(tmp_path: Path) -> None:
    with Daemon(tmp_path, configuration(tmp_path)) as daemon:
        daemon.first_pull("hotline")
        token = daemon.subscriber("isp", "national")
        (tmp_path / "token").write_text(token)
        for name in OUTPUTS:
            done = daemon.cli(
                *("sync", f"http://127.0.0.1:{daemon.feed_port}", "national", "--root", str(daemon.root)),
                *("--token-file", str(tmp_path / "token"), "--dir", str(tmp_path / name), "--format", name),
            )
            exported = daemon.get(f"/v1/lists/national/export/{name}", token)
            assert (tmp_path / name / f"national.{name}").read_bytes() == exported.body
            said = f"{LEFT_OUT[name]} of 5 entries" in done.stderr.decode()
            assert said == bool(LEFT_OUT[name]), done.stderr.decode()
