"""Bodies are kept as evidence, so that their origin can be proven again later; a pull does not depend on it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

from blocklistd.limits import MIB
from tests.damage import fill, small_disk
from tests.peers import peer
from tests.sim.hotline import Fault, HotlineThread
from tests.system.daemon import USER, Daemon
from tests.system.test_operations import NAMES, reload


def daemon_of(folder: Path, hotline: HotlineThread, **more: Any) -> Daemon:
    hotline.publish(NAMES)
    (folder / "hotline.pub").write_text(hotline.public_key_text)
    source = {
        "url": f"{hotline.url}?token=secret-of-the-url",
        "format": "text",
        "defaults": {"type": "domain"},
        "schedule": "every 1d",
        "verify": {"method": "minisign", "key": "hotline.pub", "signature": f"{hotline.url}.minisig"},
        **more,
    }
    return Daemon(folder, {"sources": {"hotline": source}, "lists": {"national": {"sources": ["hotline"]}}})


def evidence(daemon: Daemon, count: int) -> list[dict[str, Any]]:
    """The kept bodies, newest first, once there are `count`: the end of a pull is shown before its body is kept."""

    def listed() -> list[dict[str, Any]]:
        answer = daemon.ask("source evidence", source="hotline")
        assert answer.status == 200, answer.body
        found: list[dict[str, Any]] = answer.json
        return found

    daemon.wait_for(lambda: len(listed()) >= count)
    assert len(listed()) == count
    return listed()


def stored(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "state" / "evidence" / "hotline").iterdir()}


def test_the_origin_of_kept_bodies_can_be_proven_again(tmp_path: Path, hotline: HotlineThread) -> None:
    tool = peer("minisign", "minisign")
    hotline.coding = "gzip"
    with daemon_of(tmp_path, hotline) as daemon:
        daemon.first_pull("hotline")
        published = [hotline.current]
        for names, outcome in (([*NAMES, "a.example"], "published"), (NAMES[:50], "held")):
            published.append(hotline.publish(names))
            assert daemon.pull("hotline")["outcome"] == outcome
        hotline.fault = Fault.WRONG_SIGNATURE
        published.append(hotline.publish([*NAMES, "b.example"]))
        assert daemon.pull("hotline")["outcome"] == "failed"
        found = evidence(daemon, 4)[::-1]
        assert [(one["verdict"], one["outcome"]) for one in found] == [
            ("accepted", "published"),
            ("accepted", "published"),
            ("held", "held"),
            ("refused", "failed"),
        ]
        shown = daemon.ask("source show", source="hotline").json
        assert found[2]["candidate"] == shown["candidate"] or shown["candidate"] is None
        assert found[1]["versions"] == {"national": 2}
        assert "the signature does not fit" in found[3]["reason"] or "signed by key" in found[3]["reason"]
        for one, made in zip(found, published, strict=True):
            body = daemon.ask("source evidence", source="hotline", body=one["name"]).body
            assert hashlib.sha256(body).hexdigest() == one["sha256"]
            assert (one["encoding"], len(body)) == ("gzip", one["length"])
            (tmp_path / "body").write_bytes(gzip.decompress(body))
            assert (tmp_path / "body").read_bytes() == made.body
            (tmp_path / "body.minisig").write_bytes(base64.b64decode(one["signature"]))
            check = subprocess.run([tool, "-V", "-p", "hotline.pub", "-m", "body"], cwd=tmp_path, capture_output=True)
            assert (check.returncode == 0) == (one["verdict"] != "refused")
            assert (one["url"], one["proof"], one["peer"]) == (hotline.url, "minisign", None)
        assert [one["key"] for one in found[:3]] == [shown["key"]] * 3
        assert found[0]["signed"] is not None
        path = str(daemon.path)
        table = daemon.cli("source", "evidence", "hotline", "-c", path).stdout.decode().splitlines()
        assert table[0].split("\t")[:4] == ["TIME", "OUTCOME", "BYTES", "SHA256"]
        assert [line.split("\t")[1] for line in table[1:]] == ["refused", "held", "published", "published"]
        copied = daemon.cli("source", "evidence", "hotline", "--body", found[0]["name"], "-c", path).stdout
        assert gzip.decompress(copied) == published[0].body
        audited = [line for line in daemon.ask("audit").json if line["action"] == "source evidence"]
        assert [line["detail"]["body"] for line in audited] == [*(one["name"] for one in found), found[0]["name"]]
        assert "secret-of-the-url" not in "".join(map(str, stored(tmp_path).values()))


def test_a_body_needs_the_role_examiner(tmp_path: Path, hotline: HotlineThread) -> None:
    daemon = daemon_of(tmp_path, hotline)
    daemon.config["control"]["operators"] = {USER: ["editor", "reviewer"]}
    daemon.write_config()
    with daemon:
        daemon.first_pull("hotline")
        (one,) = evidence(daemon, 1)
        answer = daemon.ask("source evidence", source="hotline", body=one["name"])
        assert answer.status == 409
        assert "--body needs the role examiner" in answer.json["detail"]
        daemon.config["control"]["operators"] = {USER: ["examiner", "editor"]}
        daemon.write_config()
        reload(daemon)
        daemon.wait_for(lambda: daemon.ask("source evidence", source="hotline", body=one["name"]).status == 200)
        answer = daemon.ask("source evidence", source="hotline", body="20261128T000000000000-accepted-00000000")
        assert (answer.status, "there is no such evidence" in answer.json["detail"]) == (409, True)
        answer = daemon.ask("source evidence", source="hotline", body="../../blocklistd.sqlite")
        assert (answer.status, "there is no such evidence" in answer.json["detail"]) == (409, True)


def test_encrypted_evidence_contains_no_plaintext(tmp_path: Path, hotline: HotlineThread) -> None:
    (tmp_path / "key").write_text(os.urandom(32).hex() + "\n")
    (tmp_path / "key").chmod(0o600)
    with daemon_of(tmp_path, hotline, evidence={"key": {"file": "key"}}) as daemon:
        daemon.first_pull("hotline")
        (one,) = evidence(daemon, 1)
        for name, content in stored(tmp_path).items():
            assert name.startswith(one["name"])
            assert content.startswith(b"BLKDENC1")
            for word in (b"n1.example", b"127.0.0.1", b"hotline", b"list.txt", one["sha256"].encode(), b"minisign"):
                assert word not in content
                assert word.decode() not in name
        assert daemon.ask("source evidence", source="hotline", body=one["name"]).body == hotline.current.body
        # rotation
        (tmp_path / "key").write_text(base64.b64encode(os.urandom(32)).decode())
        assert daemon.ask("reload").json["errors"] == []
        hotline.publish([*NAMES, "a.example"])
        assert daemon.pull("hotline")["outcome"] == "published"
        newest, oldest = evidence(daemon, 2)
        assert newest["sha256"] is not None
        assert (oldest["sha256"], oldest["verdict"]) == (None, "accepted")
        assert oldest["problem"].startswith("encrypted with the key ")
        answer = daemon.ask("source evidence", source="hotline", body=oldest["name"])
        assert (answer.status, "put that secret into `evidence.key`" in answer.json["detail"]) == (500, True)
        # a wrong one
        (tmp_path / "key").write_text("a passphrase")
        (error,) = daemon.ask("reload").json["errors"]
        assert error["key"] == "sources.hotline.evidence.key.file" or error["key"] == "sources.hotline.evidence.key"
        assert "32 random bytes in hex (64 digits) or base64" in error["expected"]
        assert "passphrase" not in str(error)
        checked = daemon.cli("check-config", "-c", str(daemon.path), check=False)
        assert checked.returncode == 2
        assert "openssl rand -hex 32" in (checked.stdout + checked.stderr).decode()


def test_damaged_evidence_is_reported_and_not_fatal(tmp_path: Path, hotline: HotlineThread) -> None:
    with daemon_of(tmp_path, hotline) as daemon:
        daemon.first_pull("hotline")
        (one,) = evidence(daemon, 1)
        folder = tmp_path / "state" / "evidence" / "hotline"
        (folder / f"{one['name']}.json").write_bytes(b"{")
        (found,) = evidence(daemon, 1)
        assert found["problem"] == "damaged: restore it from a backup, or delete it"
        answer = daemon.ask("source evidence", source="hotline", body=one["name"])
        assert (answer.status, "damaged" in answer.json["detail"]) == (500, True)
        hotline.publish([*NAMES, "a.example"])
        assert daemon.pull("hotline")["outcome"] == "published"
        evidence(daemon, 2)


def test_a_full_disk_of_the_evidence_fails_no_pull(tmp_path: Path, hotline: HotlineThread) -> None:
    (tmp_path / "state").mkdir(mode=0o711)
    with (
        small_disk(tmp_path / "state" / "evidence", MIB) as disk,
        daemon_of(tmp_path, hotline, evidence={"max_bytes": "64KiB"}) as daemon,
    ):
        daemon.first_pull("hotline")
        evidence(daemon, 1)
        fill(disk)
        hotline.publish([*NAMES, "a.example"])
        assert daemon.pull("hotline")["outcome"] == "published"
        evidence(daemon, 1)
        assert daemon.logged("source hotline: a body can't be kept as evidence:") == 1
        assert daemon.logged("the disk is full: free space there") == 1
        (disk / "ballast").unlink()
        hotline.publish([*NAMES, "b.example"])
        assert daemon.pull("hotline")["outcome"] == "published"
        evidence(daemon, 2)
