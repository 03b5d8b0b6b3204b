"""`doctor` on an installation that is broken in many ways at once: each fault is named, with its cure."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from blocklistd import cli
from blocklistd.daemon.doctor import host
from blocklistd.daemon.doctor.facts import FileSystem
from tests.certificates import make_certificate
from tests.system.daemon import KEYS, USER, Daemon, free_port
from tests.system.test_zones import ZONE

SOURCE = {"format": "text", "defaults": {"type": "host"}, "schedule": "every 1d", "verify": {"method": "none"}}
ENTRY = "criminal-page"


class Installation:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lists = {name: folder / f"{name}.txt" for name in ("hotline", "police")}
        for path in self.lists.values():
            path.write_text("".join(f"{ENTRY}-{number}.example\n" for number in range(100)))
        (folder / "names.txt").write_text("search.example\n")
        cert, key = make_certificate(folder, "feed", timedelta(days=5))
        self.daemon = Daemon(
            folder,
            {
                "keys": KEYS | {"root_expires": "30d"},
                "control": {"socket": "c.sock", "operators": {USER: ["admin"]}},
                "sources": {name: SOURCE | {"url": f"file:{path}"} for name, path in self.lists.items()},
                "lists": {
                    "national": {"sources": ["hotline"], "guards": {"never_block": ["names.txt"]}},
                    "regional": {"sources": ["police"]},
                },
                "zones": {ZONE: {"list": "national"}},
                "dns": {"listen": [f"127.0.0.1:{free_port()}"], "notify": {"retry": "1s"}},
                "alarms": {"review_within": "1s"},
            },
        )
        feed = self.daemon.config["feed"]
        feed |= {"tls": {"cert": str(cert), "key": {"file": str(key)}}, "public_url": "https://other.example"}
        self.daemon.write_config()

    def doctor(self, capsys: pytest.CaptureFixture[str], code: int) -> list[dict[str, str]]:
        """The findings; `code` is the exit code."""
        capsys.readouterr()
        assert cli.run(["doctor", "-c", str(self.daemon.path), "--json"]) == code
        said = capsys.readouterr().out
        assert ENTRY not in said
        document: dict[str, Any] = json.loads(said)
        assert document["running"] is (code != 3)
        found: list[dict[str, str]] = document["findings"]
        return found

    def change_database(self, statement: str) -> None:
        with closing(sqlite3.connect(self.folder / "state" / "blocklistd.sqlite")) as database, database:
            database.execute(statement)


@pytest.fixture
def healthy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of this machine only the disk is known to be full: the tests run on many."""
    disk_of = host.disk_of

    def nearly_full(path: Path, used_for: Any) -> FileSystem:
        found = disk_of(path, used_for)
        return replace(found, free=found.total // 100, free_inodes=found.inodes)

    monkeypatch.setattr(host, "disk_of", nearly_full)
    monkeypatch.setattr(host, "is_synchronised", lambda: False)
    monkeypatch.setattr(host, "unit_properties", lambda: {"ActiveState": "active", "UnitFileState": "disabled"})


def says(found: list[dict[str, str]], check: str, level: str, *texts: str) -> None:
    """One finding of this check and level has all the texts."""
    fitting = [one["text"] for one in found if (one["check"], one["level"]) == (check, level)]
    assert any(all(text in one for text in texts) for one in fitting), (check, texts, fitting)


@pytest.mark.usefixtures("healthy_machine")
def test_a_broken_installation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = Installation(tmp_path)
    daemon = made.daemon
    with daemon:
        daemon.first_pull("hotline")
        daemon.first_pull("police")
        added = daemon.ask("subscriber add", id="isp", zones=[ZONE], notify=[f"127.0.0.1:{free_port()}"])
        assert added.status == 200
        before = {(one["check"], one["text"]) for one in made.doctor(capsys, 2)}
        assert not {"pulls", "notify", "access", "reload"} & {check for check, _ in before}

        with open(made.lists["hotline"], "a") as more:
            more.write("new.example\n")
        assert daemon.pull("hotline")["outcome"] == "published"  # a new serial is announced
        (tmp_path / "keys" / "online.pem").chmod(0o644)
        (tmp_path / "state" / "sealed").chmod(0o755)
        (tmp_path / "names.txt").unlink()
        made.lists["police"].unlink()
        assert daemon.ask("source pull", source="police").json["outcome"] == "failed"
        made.lists["hotline"].write_text("one.example\n")
        assert daemon.pull("hotline")["outcome"] == "held"
        daemon.config["sources"]["hotline"]["max_age"] = "1s"
        daemon.write_config()
        os.utime(tmp_path / "feed.pem")
        daemon.wait_for(lambda: any(one["check"] == "notify" for one in made.doctor(capsys, 2)))
        found = made.doctor(capsys, 2)
        says(found, "configuration", "warning", "keys.online", "chmod go=", "online.pem")
        says(found, "access", "warning", "sealed can be read by other users", "run `chmod go=")
        says(found, "configuration", "critical", "lists.national.guards.never_block", "names.txt")
        says(found, "pulls", "warning", "source police failed", "run `blocklistd source pull police`")
        says(
            found,
            "held",
            "note",
            "list national: candidates that wait for a decision",
            "run `blocklistd candidate list`",
        )
        says(found, "notify", "warning", "of isp does not acknowledge NOTIFY", ZONE, "allow UDP")
        says(found, "reload", "warning", "sources.hotline.max_age", "`blocklistd reload`")
        says(found, "space", "critical", "state_dir", "1.0 %", "free space there")
        says(found, "synchronisation", "warning", "run chrony")
        says(found, "unit", "warning", "run `systemctl enable blocklistd`")
        says(
            found,
            "certificates",
            "warning",
            "is for feed.example",
            "names other.example",
            "order one for other.example",
        )
        says(found, "alarms", "warning", "feed.tls.cert expires on", "renew the certificate")
        says(found, "alarms", "warning", "root.json expires in", "`blocklistd keys renew root`")
        says(found, "never_block", "note", "list regional has no `never_block`")
        assert found[0]["level"] == "critical", "the worst is first"

        (tmp_path / "names.txt").write_text("search.example\n")
        assert daemon.ask("reload").status == 200
        daemon.wait_for(lambda: any("is overdue" in one["text"] for one in made.doctor(capsys, 2)))
        found = made.doctor(capsys, 2)
        says(found, "alarms", "warning", "source hotline is overdue", "run `blocklistd source show hotline`")
        daemon.wait_for(lambda: any("has waited for a decision" in one["text"] for one in made.doctor(capsys, 2)))

    made.change_database("DROP TRIGGER audit_no_delete")
    made.change_database("DELETE FROM audit WHERE number = 1")
    found = made.doctor(capsys, 3)
    says(found, "daemon", "critical", "does not answer", "systemctl start blocklistd")
    says(found, "alarms", "warning", "source hotline is overdue", "run `blocklistd source show hotline`")
    says(found, "alarms", "warning", "has waited for a decision", "run `blocklistd candidate show")
    says(found, "audit", "critical", "its first line is 2", "run `blocklistd audit verify`")
    made.change_database("UPDATE alembic_version SET version_num = '9999'")
    says(made.doctor(capsys, 3), "schema", "critical", "9999", "install the newer blocklistd again")
    daemon.path.write_text("stat_dir: here\n")
    assert cli.run(["doctor", "-c", str(daemon.path)]) == 3
    said = capsys.readouterr().out
    assert "stat_dir" in said
    assert "not checked: files, disks and the stored state" in said
