"""The audit: every change has a line, with ids only; and `audit verify` finds every change of the lines."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from blocklistd.daemon.commands import COMMANDS
from blocklistd.limits import MIB
from tests.damage import fill, small_disk
from tests.system.daemon import USER, Daemon
from tests.system.test_operations import NAMES, source, write


@pytest.fixture
def daemon(tmp_path: Path) -> Daemon:
    write(tmp_path, "hotline", NAMES)
    guards = {"min_change": 0, "max_removed": "10%", "max_added": "100%"}
    lists = {"national": {"sources": ["hotline"], "guards": guards}}
    return Daemon(tmp_path, {"sources": {"hotline": source(tmp_path, "hotline")}, "lists": lists})


def audit(daemon: Daemon, **arguments: int) -> list[dict[str, Any]]:
    answer = daemon.ask("audit", **arguments)
    assert answer.status == 200, answer.body
    lines: list[dict[str, Any]] = answer.json
    return lines


def hash_of(before: str, line: dict[str, Any]) -> str:
    """The hash of a line, as docs/adr/0011-commands-and-audit.md defines it."""
    detail = json.dumps(line["detail"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    fields = [before, *(line[name] for name in ("number", "time", "actor", "uid", "action", "object")), detail]
    return hashlib.sha256(json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


def held(daemon: Daemon, names: list[str]) -> str:
    write(daemon.folder, "hotline", names)
    return str(daemon.pull("hotline")["candidate"])


UNIT = {"until": "1d", "owner": "unit 4"}


def corrected(daemon: Daemon, begins: str, ends: str, **more: str) -> str:
    """Takes an entry out and brings it back. Returns its ids: an embargo is of the host and of the domain."""
    entry = {"list": "national", "entry": NAMES[0], "why": "a mistake"}
    placed = daemon.ask(f"entry {begins}", **entry, **more).json["entries"]
    assert daemon.ask(f"entry {ends}", **entry).json["outcome"] == "published"
    return " ".join(one["id"] for one in placed)


def signed_by(daemon: Daemon) -> str:
    """The fingerprint of a key, as if it had signed the source's newest body."""
    key = "0123456789abcdef" * 4
    with contextlib.closing(sqlite3.connect(daemon.folder / "state" / "blocklistd.sqlite")) as database, database:
        report = json.loads(database.execute("SELECT report FROM sources").fetchone()[0])
        database.execute("UPDATE sources SET report = ?", [json.dumps(report | {"key": key})])
    return key


def test_every_command_that_changes_something_has_its_line(daemon: Daemon) -> None:
    with daemon:
        daemon.first_pull("hotline")
        refused, approved = held(daemon, NAMES[:50]), held(daemon, NAMES[:60])
        assert daemon.ask("candidate reject", candidate=approved, why="a mistake of theirs").status == 200
        refused, approved = approved, held(daemon, NAMES[:70])
        assert daemon.approve(approved)["version"] == 2
        daemon.subscriber("isp", "national")
        assert daemon.ask("subscriber set", id="isp", software="knot-resolver").status == 200
        assert daemon.ask("subscriber rotate", id="isp").status == 200
        assert daemon.ask("subscriber revoke", id="isp").status == 200
        distrusted = {"source": "hotline", "key": signed_by(daemon), "since": "1h", "why": "a stolen key"}
        assert daemon.ask("source distrust", **distrusted).status == 200
        delisted, embargoed = corrected(daemon, "delist", "restore"), corrected(daemon, "embargo", "release", **UNIT)
        for name, more in (("freeze", {"why": "a case"}), ("resume", {}), ("rollback", {"version": 5}), ("resume", {})):
            assert daemon.ask(f"list {name}", list="national", **more).status == 200
        root_key = str(daemon.root.parent / "root-1.pem")
        daemon.cli("keys", "renew", "root", "--root-key", root_key, "-c", str(daemon.path))
        assert daemon.ask("reload").status == 200
        assert daemon.ask("start-above", number=1000).status == 200
        lines = audit(daemon)
        found = [(line["action"], line["object"], line["actor"], line["uid"]) for line in lines]
        me = (USER, os.getuid())
        assert found == [
            ("release", "national 1", "auto", None),
            ("source pull", "hotline", *me),
            ("source pull", "hotline", *me),
            ("candidate reject", refused, *me),
            ("source pull", "hotline", *me),
            ("candidate approve", approved, *me),
            ("subscriber add", "isp", *me),
            ("subscriber set", "isp", *me),
            ("subscriber rotate", "isp", *me),
            ("subscriber revoke", "isp", *me),
            ("source distrust", "hotline", *me),
            ("entry delist", delisted, *me),
            ("entry restore", delisted, *me),
            ("release", "national 4", "auto", None),
            ("entry embargo", embargoed, *me),
            ("entry release", embargoed, *me),
            ("release", "national 6", "auto", None),
            ("list freeze", "national", *me),
            ("list resume", "national", *me),
            ("list rollback", "national", *me),
            ("list resume", "national", *me),
            ("release", "national 8", "auto", None),
            ("keys draft", "root 2", *me),
            ("keys adopt", "root 2", *me),
            ("reload", "configuration", *me),
            ("start-above", "1000", *me),
        ]
        changing = {name for name, command in COMMANDS.items() if command.changes}
        changing.remove("entry keep")  # it needs an entry that is due: test_lifetimes.py has its line
        assert {line["action"] for line in lines} == changing | {"release"}
        by_action = {line["action"]: line["detail"] for line in lines}
        assert by_action["candidate approve"] == {
            **{"released": True, "list": "national", "version": 2},
            **{"added": 0, "removed": 30, "changed": 0},
        }
        assert by_action["candidate reject"] == {"list": "national", "why": "a mistake of theirs"}
        assert by_action["source pull"] == {"outcome": "held", "candidate": approved}
        assert by_action["subscriber add"]["lists"] == ["national"]
        # commands that change nothing, and refused ones, have no line
        for name in (
            "status",
            "source list",
            "candidate list",
            "subscriber list",
            "keys show",
            "audit",
            "audit verify",
        ):
            assert daemon.ask(name).status == 200
        assert daemon.ask("candidate approve", candidate=approved).status == 409
        assert daemon.ask("subscriber add", id="isp", lists=["nowhere"]).status == 409
        assert audit(daemon) == lines
        assert audit(daemon, last=2) == lines[-2:]
        before = "0" * 64
        for line in lines:  # the chain can be checked without blocklistd
            assert line["hash"] == hash_of(before, line)
            before = line["hash"]
        assert audit(daemon, last=2, before=3) == lines[:2]
    shown = daemon.log
    assert "Traceback" not in shown


TAMPERED = [
    ("UPDATE audit SET actor = 'bob' WHERE number = 3", "line 3 was changed: its content does not match its hash"),
    ("DELETE FROM audit WHERE number = 2", "line 2 is missing"),
    (
        "UPDATE audit SET number = -number WHERE number IN (2, 3); "
        "UPDATE audit SET number = 5 + number WHERE number < 0",
        "line 2 was changed: its content does not match its hash",
    ),
    ("DELETE FROM audit WHERE number > 3", "lines 4 to 5 are missing at the end: the head file has line 5"),
]
"""Altered, dropped, reordered, truncated."""


def test_audit_verify_finds_every_change_of_the_audit(daemon: Daemon) -> None:
    with daemon:
        daemon.first_pull("hotline")
        for number in range(4):
            daemon.subscriber(f"isp-{number}", "national")
        fine = daemon.cli("audit", "verify", "-c", str(daemon.path))
        assert fine.stdout.startswith(b"verified 5 lines: each contains the hash of the line before it")
        daemon.kill()  # kill -9 loses no line, and makes none
        daemon.start()
        assert daemon.cli("audit", "verify", "-c", str(daemon.path)).stdout == fine.stdout
        with contextlib.closing(sqlite3.connect(daemon.folder / "state" / "blocklistd.sqlite")) as database:
            database.executescript(
                "DROP TRIGGER audit_no_update; DROP TRIGGER audit_no_delete; CREATE TABLE saved AS SELECT * FROM audit"
            )
            for done, found in TAMPERED:
                database.executescript(done)
                refused = daemon.cli("audit", "verify", "-c", str(daemon.path), check=False)
                assert (refused.returncode, refused.stderr.decode()) == (
                    1,
                    f"blocklistd: the audit was changed: {found}: compare it with a backup of the state_dir\n",
                )
                assert daemon.ask("status").status == 200, "the daemon still works"
                database.executescript("DELETE FROM audit; INSERT INTO audit SELECT * FROM saved")
        assert daemon.cli("audit", "verify", "-c", str(daemon.path)).stdout == fine.stdout


NAMING = [
    "n7.example is a customer of ours",
    "see N7.EXAMPLE.",
    "what is (n7[.]example) doing there",
    "mail to abuse@n7.example",
    "it is below: www.n7.example",
    "n150.example, which is held",
    "https://tracker.example/ticket/7",
    "hxxps://tracker[.]example/7",
    "tracker.example/ticket/7",
]


def test_a_reason_that_names_an_entry_is_refused(daemon: Daemon) -> None:
    with daemon:
        daemon.first_pull("hotline")
        candidate = held(daemon, [f"n{number}.example" for number in range(100, 200)])
        for why in NAMING:
            refused = daemon.ask("candidate reject", candidate=candidate, why=why)
            assert refused.status == 409, why
            assert "--why: " in refused.json["detail"]
            assert "example" not in refused.json["detail"]
            assert daemon.ask("candidate show", candidate=candidate).json["state"] == "held"
        assert all(line["action"] != "candidate reject" for line in audit(daemon))
        fine = "ticket 7 at tracker.example; e-0123 and 1.2.3 and/or their mistake"
        assert daemon.ask("candidate reject", candidate=candidate, why=fine).status == 200
        assert audit(daemon)[-1]["detail"]["why"] == fine
    assert not [why for why in NAMING if why in daemon.log]


def test_a_revocation_on_a_full_disk_takes_effect_at_once(daemon: Daemon) -> None:
    with small_disk(daemon.folder / "state", 6 * MIB) as state, daemon:
        daemon.first_pull("hotline")
        token, other = daemon.subscriber("leaver", "national"), daemon.subscriber("stays", "national")
        fill(state)
        refused = daemon.ask("subscriber revoke", id="leaver")
        assert refused.status == 500
        assert "leaver is refused from now on" in refused.json["detail"]
        assert daemon.get("/v1/lists/national", token).status == 401
        assert daemon.get("/v1/lists/national", other).status == 200
        (state / "ballast").unlink()
        assert daemon.ask("subscriber revoke", id="leaver").status == 200
        assert audit(daemon)[-1]["action"] == "subscriber revoke"
        assert daemon.ask("subscriber show", id="leaver").json["revoked"] is not None
        daemon.kill()
        daemon.start()
        assert daemon.get("/v1/lists/national", token).status == 401
        assert daemon.cli("audit", "verify", "-c", str(daemon.path)).returncode == 0
