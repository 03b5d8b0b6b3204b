"""Months of churn, pull by pull: what is live is exactly what the hotline said, and the jumps wait for a person."""

from __future__ import annotations

import hashlib
from pathlib import Path

import orjson
import pytest

from blocklistd.client.options import Options
from blocklistd.client.sync import sync_once
from blocklistd.lines.delta import ENTRIES, apply
from tests import churn
from tests.signer import Signer
from tests.system.daemon import Daemon


def config(folder: Path, signer: Signer) -> dict[str, object]:
    return {
        "sources": {
            "hotline": {
                "url": f"file:{folder}/list.txt",
                "format": "text",
                "defaults": {"type": "domain"},
                "schedule": "every 1d",
                "verify": {"method": "minisign", "key": str(signer.public_key)},
            }
        },
        "lists": {"national": {"sources": ["hotline"], "guards": {"daily": "off"}}},  # 45 days come within minutes
    }


def values(snapshot: bytes) -> set[str]:
    return {orjson.loads(line)["value"] for line in snapshot.splitlines()}


@pytest.mark.slow  # each of 88 versions of 20,000 names builds on the one before
def test_every_live_snapshot_is_the_hotlines_set(tmp_path: Path) -> None:
    signer = Signer(tmp_path / "minisign")
    body = tmp_path / "list.txt"
    held, snapshots = set(), {}
    clients = {name: tmp_path / name for name in ("always", "away-for-50", "new")}

    def publish(names: set[str]) -> None:
        body.write_text("".join(f"{name}\n" for name in sorted(names)))
        signer.sign(body)

    def sync(name: str) -> str:
        return sync_once(options(name), lambda text: None).how

    def options(name: str) -> Options:
        return Options(
            url=f"http://127.0.0.1:{daemon.feed_port}",
            list="national",
            root=daemon.root,
            dir=clients[name],
            token_file=token_file,
        )

    steps = churn.versions()
    publish(next(steps)[1])
    with Daemon(tmp_path, config(tmp_path, signer)) as daemon:
        daemon.first_pull("hotline")
        token = daemon.subscriber("isp", "national")
        token_file = tmp_path / "token"
        token_file.write_text(token)
        assert sync("always") == sync("away-for-50") == "snapshot"
        live = daemon.snapshot("national", token)
        for number, names in steps:
            before = live
            publish(names)
            pulled = daemon.pull("hotline")
            if pulled["outcome"] == "held":
                held.add(number)
                assert daemon.snapshot("national", token) == before  # the last good version stays live
                assert daemon.pull("hotline")["outcome"] == "held"  # the body is the same, and so is the answer
                assert daemon.approve(pulled["candidate"]) == {
                    "id": pulled["candidate"],
                    "released": True,
                    "version": number + 1,
                    "candidate": None,
                    "missing": 0,
                    "excepted": [],
                }
            else:
                assert pulled["outcome"] == "published", pulled
                assert pulled["versions"] == {"national": number + 1}
            status = daemon.get("/v1/lists/national", token).json
            assert (status["version"], status["entries"]) == (number + 1, len(names))
            live = daemon.snapshot("national", token)
            assert values(live) == names
            lines = live.splitlines()
            assert lines == sorted(lines)
            assert live.endswith(b"\n")
            assert hashlib.sha256(live).hexdigest() == status["sha256"]
            assert len(live) == status["length"]
            difference = daemon.get(f"/v1/lists/national/diffs/{number}-{number + 1}", token).body
            assert b"".join(apply(ENTRIES, before, difference)) == live
            if number % 20 == 0:
                snapshots[number + 1] = live
                assert sync("always") == "diff"
            if number == churn.STEPS - 50:
                assert sync("away-for-50") == "diff"
        assert held == churn.HELD
        assert (sync("always"), sync("away-for-50"), sync("new")) == ("diff", "diff", "snapshot")
        for folder in clients.values():
            assert (folder / "national.ndjson").read_bytes() == live
        snapshots[churn.STEPS + 1] = live
        for start in snapshots:
            for end in snapshots:
                difference = daemon.get(f"/v1/lists/national/diffs/{start}-{end}", token).body
                assert b"".join(apply(ENTRIES, snapshots[start], difference)) == snapshots[end]
        assert daemon.get("/v1/lists/national/diffs/0-5", token).status == 404
        assert daemon.get(f"/v1/lists/national/diffs/1-{churn.STEPS + 2}", token).status == 404
