"""`source test`: it says what the next pull does, and changes nothing. `source rejects`: the file for the hotline."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blocklistd.limits import MIB
from tests.damage import fill, small_disk
from tests.signer import Signer
from tests.sim.hotline import Fault, HotlineThread
from tests.system.daemon import USER, Daemon
from tests.system.test_audit import audit
from tests.system.test_bad_input import config as hotline_config
from tests.system.test_operations import reload, source, write

NAMES = [f"n{number}.example" for number in range(200)]
GUARDS = {"min_change": 0, "max_removed": "10%", "max_added": "20%", "daily": None, "max_rejected": "5%"}


def settle(daemon: Daemon) -> None:
    """Waits for what happens after a pull: its body is kept as evidence, and its version is counted."""
    for name in daemon.config["sources"]:
        if daemon.ask("source show", source=name).json["last_accepted"] is not None:
            daemon.wait_for(lambda name=name: daemon.ask("source evidence", source=name).json != [])  # type: ignore[misc]

    def counted() -> bool:
        with contextlib.closing(database_of(daemon)) as database:
            query = "SELECT max(version), counted FROM versions JOIN lists ON lists.id = versions.list GROUP BY list"
            return all(newest == count for newest, count in database.execute(query))

    daemon.wait_for(counted)


def database_of(daemon: Daemon) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{daemon.folder / 'state' / 'blocklistd.sqlite'}?mode=ro", uri=True)


def state_of(daemon: Daemon) -> dict[str, Any]:
    """Every row of every table; of every other file its digest, and for sealed files their inode and times. The work
    folder is empty. Without the signatures, which the daemon makes again by itself."""
    state = daemon.folder / "state"
    found: dict[str, Any] = {}
    with contextlib.closing(database_of(daemon)) as database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            if table == "tuf_metadata":
                continue
            found[table] = database.execute(f"SELECT rowid, * FROM {table}").fetchall()
    assert tables
    for path in state.rglob("*"):
        if path.is_file() and not path.name.startswith(("blocklistd.sqlite", "high-water")):
            stat = path.stat()
            times = (stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns) if "sealed" in path.parts else ()
            found[str(path)] = (hashlib.sha256(path.read_bytes()).hexdigest(), *times)
    assert not list((state / "work").iterdir())
    return found


COUNTED = (
    *("blocklistd_pulls", "blocklistd_guard_trips", "blocklistd_source_records", "blocklistd_source_fetched"),
    *("blocklistd_source_rejected", "blocklistd_list_entries", "blocklistd_pull_seconds_count"),
)


def counted(daemon: Daemon) -> list[str]:
    """The metrics of pulls, sources and lists."""
    stages = [f'blocklistd_stage_seconds_count{{stage="{stage}"' for stage in ("fetch", "intake", "commit")]
    return [line for line in daemon.ops("/metrics").body.decode().splitlines() if line.startswith((*COUNTED, *stages))]


def predicted(daemon: Daemon, source: str) -> dict[str, Any]:
    """What `source test` says, after a check that it has changed nothing."""
    settle(daemon)
    before = state_of(daemon), counted(daemon)
    answer = daemon.ask("source test", source=source)
    assert answer.status == 200, answer.body
    assert (state_of(daemon), counted(daemon)) == before
    found: dict[str, Any] = answer.json
    return found


def agrees(daemon: Daemon, said: dict[str, Any], pulled: dict[str, Any]) -> None:
    """Whether a pull did what was said."""
    assert (pulled["outcome"], pulled["records"], pulled["entries"], pulled["rejected"]) == (
        *(said["outcome"], said["records"], said["entries"]),
        said["rejected"],
    )
    held = {one["list"]: one for one in daemon.ask("candidate list").json}
    for name, one in said["lists"].items():
        version = one["version"] if one["outcome"] == "published" else one["base"]
        assert pulled["versions"][name] == version, name
        made = daemon.ask("list versions", list=name).json[:1]
        if one["outcome"] == "published":
            assert [(v["added"], v["removed"], v["entries"]) for v in made] == [
                (one["added"], one["removed"], one["entries"])
            ]
            assert pulled["withheld"][name] == one["withheld"]
        if one["outcome"] == "held":
            found = daemon.ask("candidate show", candidate=held[name]["id"]).json
            for figure in ("added", "removed", "changed", "entries", "reasons", "suffixes", "withheld"):
                assert found[figure] == one[figure], figure


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Two lists of two sources each; neither source has a file when the daemon pulls it first."""
    lists = {
        "national": {"sources": ["first", "second"], "guards": GUARDS},
        "strict": {"sources": ["second", "first"], "guards": GUARDS, "release": "review"},
    }
    made = Daemon(tmp_path, {"sources": {n: source(tmp_path, n) for n in ("first", "second")}, "lists": lists})
    with made:
        for name in ("first", "second"):
            made.first_pull(name)
        yield made


STEPS: list[tuple[str, list[str]]] = [
    ("first", NAMES),  # a first version
    ("first", NAMES),  # the same again
    ("second", [*NAMES[:100], "only.test"]),
    ("first", [*NAMES[5:], "new.example"]),  # a small change, read as a patch
    ("first", NAMES[100:]),  # held
    ("first", NAMES[100:]),  # and again
    ("first", [*NAMES[:195], "co.uk", "192.0.2.1"]),  # withheld by a rule, and a reject
    ("second", [*NAMES[:100], *["not a name"] * 40]),  # held by its rejects
    ("second", ["<html>"]),  # failed
    ("second", [*NAMES[:100]]),
    ("first", [*NAMES, *(f"m{number}.test" for number in range(60))]),
]


def test_what_is_said_is_what_the_next_pull_does(daemon: Daemon) -> None:
    outcomes = set()
    for number, (name, lines) in enumerate(STEPS):
        write(daemon.folder, name, lines)
        said = predicted(daemon, name)
        pulled = daemon.pull(name)
        if said["records"] is None:
            assert (said["outcome"], said["reason"]) == (pulled["outcome"], pulled["reason"])
        else:
            agrees(daemon, said, pulled)
        outcomes.add(said["outcome"])
        if number == 2:  # strict has its first version from here on
            (one,) = daemon.ask("candidate list").json
            assert daemon.approve(one["id"])["released"]
    assert outcomes == {"published", "unchanged", "held", "failed"}


def test_published_and_rejected_before(tmp_path: Path) -> None:
    write(tmp_path, "hotline", NAMES)
    lists = {"national": {"sources": ["hotline"], "guards": GUARDS}}
    with Daemon(tmp_path, {"sources": {"hotline": source(tmp_path, "hotline")}, "lists": lists}) as daemon:
        daemon.first_pull("hotline")
        write(tmp_path, "hotline", NAMES[10:])
        said = predicted(daemon, "hotline")
        assert (said["outcome"], said["lists"]["national"]["version"]) == ("published", 2)
        assert said["lists"]["national"]["suffixes"] == {"example": {"added": 0, "removed": 10, "changed": 0}}
        agrees(daemon, said, daemon.pull("hotline"))
        write(tmp_path, "hotline", NAMES[:50])
        agrees(daemon, predicted(daemon, "hotline"), held := daemon.pull("hotline"))
        again = predicted(daemon, "hotline")
        assert again["lists"]["national"]["candidate"] == held["candidate"]
        assert daemon.ask("candidate reject", candidate=held["candidate"], why="a mistake").status == 200
        said = predicted(daemon, "hotline")
        pulled = daemon.pull("hotline")
        assert (said["outcome"], said["reason"]) == (pulled["outcome"], pulled["reason"]) == ("failed", said["reason"])
        assert "was rejected" in said["reason"]
        shown = daemon.cli("source", "test", "hotline", "-c", str(daemon.path), check=False)
        assert (shown.returncode, shown.stderr.count(b"\n")) == (1, 1)


def test_a_source_in_quarantine_is_tried_as_if_it_were_not(tmp_path: Path) -> None:
    write(tmp_path, "hotline", NAMES)
    write(tmp_path, "new", [*NAMES[:50], "new.example", "two words"])
    tried = source(tmp_path, "new") | {"quarantine": True}
    lists = {"national": {"sources": ["hotline", "new"], "guards": GUARDS}}
    with Daemon(
        tmp_path, {"sources": {"hotline": source(tmp_path, "hotline"), "new": tried}, "lists": lists}
    ) as daemon:
        for name in ("hotline", "new"):
            daemon.first_pull(name)
        said = predicted(daemon, "new")
        one = said["lists"]["national"]
        assert (said["outcome"], said["quarantine"], one["version"], one["added"]) == ("published", True, 2, 1)
        assert said["lines"] == {"character": [52]}
        text = daemon.cli("source", "test", "new", "-c", str(daemon.path)).stdout.decode()
        assert "in quarantine: the lists are tried as if it were not" in text
        assert max(map(len, text.splitlines())) <= 80
        assert daemon.pull("new")["outcome"] == "unchanged"
        del tried["quarantine"]
        daemon.write_config()
        reload(daemon)
        daemon.wait_for(lambda: daemon.ask("status").json["lists"]["national"]["version"] == 2)
        made = daemon.ask("list versions", list="national").json[0]
        assert (made["added"], made["removed"], made["entries"]) == (1, 0, one["entries"])


def test_a_test_does_not_wait_for_a_pull_of_its_source(tmp_path: Path) -> None:
    with HotlineThread() as hotline:
        hotline.publish(NAMES)
        with Daemon(tmp_path, hotline_config(hotline, tmp_path, timeout="60s")) as daemon:
            daemon.first_pull("hotline")
            hotline.publish([*NAMES, "new.example"])
            hotline.fault = Fault.SLOW

            def pull_slowly() -> None:
                with contextlib.suppress(ConnectionError):  # the daemon is killed in the middle
                    daemon.ask("source pull", source="hotline")

            pull = threading.Thread(target=pull_slowly)
            pull.start()
            daemon.wait_for(lambda: len(list((tmp_path / "state" / "work").iterdir())) == 1)
            body = tmp_path / "body"
            body.write_text("\n".join(NAMES[1:]))
            said = json.loads(
                daemon.cli("source", "test", "hotline", "--json", "--body", str(body), "-c", str(daemon.path)).stdout
            )
            assert pull.is_alive()
            assert (said["outcome"], said["verified"]) == ("published", False)
            daemon.kill()
            pull.join()


@pytest.mark.parametrize("fault", [Fault.STALE, Fault.WRONG_SIGNATURE, Fault.HTML, Fault.EMPTY, Fault.UNAVAILABLE])
def test_a_refused_body_is_refused_alike_and_leaves_nothing(tmp_path: Path, fault: Fault) -> None:
    """Neither evidence nor a superseded signature nor validators: the pull after it says the same."""
    with HotlineThread() as hotline:
        hotline.publish(NAMES)
        with Daemon(tmp_path, hotline_config(hotline, tmp_path)) as daemon:
            daemon.first_pull("hotline")
            hotline.publish([*NAMES, "new.example"])
            said = predicted(daemon, "hotline")
            assert (said["outcome"], said["verified"], said["signed"] is not None) == ("published", True, True)
            agrees(daemon, said, daemon.pull("hotline"))
            hotline.publish([*NAMES, "next.example"])
            daemon.pull("hotline")
            if fault is not Fault.STALE:  # a pull whose request has validators must not be answered with 304
                hotline.publish([*NAMES, "last.example"])
            hotline.fault = fault
            said = predicted(daemon, "hotline")
            assert not list((tmp_path / "state" / "evidence").rglob("*.body"))
            pulled = daemon.pull("hotline")
            assert (said["outcome"], said["reason"]) == (pulled["outcome"], pulled["reason"])
            assert pulled["outcome"] == "failed"


class TestGivenBody:
    @pytest.fixture
    def daemon(self, tmp_path: Path) -> Iterator[Daemon]:
        self.signer = Signer(tmp_path / "keys-of-hotline")
        write(tmp_path, "hotline", NAMES)
        self.signer.sign(tmp_path / "hotline.txt")
        described = source(tmp_path, "hotline") | {
            "max_bytes": "1MiB",
            "verify": {
                "method": "minisign",
                "key": str(self.signer.public_key),
                "signature": "{url}.minisig",
            },
        }
        lists = {"national": {"sources": ["hotline"], "guards": GUARDS}}
        with Daemon(tmp_path, {"sources": {"hotline": described}, "lists": lists}) as made:
            made.first_pull("hotline")
            yield made

    def run(self, daemon: Daemon, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        settle(daemon)
        before = state_of(daemon)
        done = daemon.cli("source", "test", "hotline", "-c", str(daemon.path), *arguments, stdin=stdin, check=False)
        assert state_of(daemon) == before
        return done

    def test_it_is_read_in_place_of_the_fetched_one(self, daemon: Daemon) -> None:
        body = daemon.folder / "given.txt"
        body.write_text("\n".join(NAMES[1:]))
        done = self.run(daemon, "--body", str(body))
        assert done.returncode == 0, done.stderr
        assert b"the origin of the given body is NOT verified" in done.stdout
        assert b"+0 -1" in done.stdout
        piped = self.run(daemon, "--body", "-", "--json", stdin=body.read_bytes())
        assert json.loads(piped.stdout)["lists"]["national"]["removed"] == 1, "stdin is a pipe"

    def test_its_signature_is_verified(self, daemon: Daemon) -> None:
        body = daemon.folder / "given.txt"
        body.write_text("\n".join(NAMES[1:]))
        signature = self.signer.sign(body)
        done = self.run(daemon, "--body", str(body), "--signature", str(signature), "--json")
        assert json.loads(done.stdout)["verified"] is True
        body.write_text("\n".join(NAMES[2:]))
        done = self.run(daemon, "--body", str(body), "--signature", str(signature))
        assert (done.returncode, b"the signature does not fit the body" in done.stderr) == (1, True)
        assert not list((daemon.folder / "state" / "evidence").rglob("*.body"))

    def test_a_large_body_arrives_completely(self, daemon: Daemon) -> None:
        names = [f"{'n' * 50}{number:06}.example" for number in range(15_000)]
        done = self.run(daemon, "--body", "-", "--json", stdin="\n".join(names).encode())
        assert json.loads(done.stdout)["lists"]["national"]["added"] == 15_000

    def test_a_held_change_is_exit_4(self, daemon: Daemon) -> None:
        done = self.run(daemon, "--body", "-", stdin="\n".join(NAMES[:50]).encode())
        assert (done.returncode, b"max_removed" in done.stdout) == (4, True)

    @pytest.mark.parametrize(
        ("arguments", "code", "says"),
        [
            (("--body", "/nowhere/body"), 1, "--body: /nowhere/body: No such file or directory"),
            (("--body", "/"), 1, "--body: /: Is a directory"),
            (("--body", "/dev/zero"), 1, "--body: /dev/zero: not a file or a pipe"),
            (("--signature", "/dev/null"), 2, "--signature: expected --body too"),
            (("--body", "{big}"), 1, f"--body: more than {MIB} bytes: expected at most the `max_bytes`"),
            (("--body", "{empty}"), 1, "an empty body"),
            (("--body", "{big}", "--signature", "{big}"), 1, "--signature: more than"),
        ],
    )
    def test_a_file_that_can_t_be_read_is_refused(
        self, daemon: Daemon, arguments: tuple[str, ...], code: int, says: str
    ) -> None:
        big, empty = daemon.folder / "big", daemon.folder / "empty"
        big.write_bytes(b"a" * (9 * MIB))
        empty.touch()
        done = self.run(daemon, *(text.format(big=big, empty=empty) for text in arguments))
        assert done.returncode == code, done
        assert done.stderr.count(b"\n") == 1
        assert says in done.stderr.decode()

    def test_an_unknown_source(self, daemon: Daemon) -> None:
        done = daemon.cli("source", "test", "nobody", "--body", "/dev/stdin", "-c", str(daemon.path), check=False)
        assert (done.returncode, done.stderr) == (
            1,
            b"blocklistd: there is no such source: expected one of: hotline\n",
        )

    @pytest.mark.parametrize("end", [Daemon.stop, Daemon.kill])
    def test_the_daemon_ends_while_the_body_is_sent(self, daemon: Daemon, end: Any) -> None:
        reading, writing = os.pipe()
        done: list[subprocess.CompletedProcess[bytes]] = []

        def send() -> None:
            name = f"/proc/{os.getpid()}/fd/{reading}"
            done.append(daemon.cli("source", "test", "hotline", "--body", name, "-c", str(daemon.path), check=False))

        sender = threading.Thread(target=send)
        sender.start()
        os.write(writing, b"a.example\n" * 1000)
        work = daemon.folder / "state" / "work"
        daemon.wait_for(lambda: any(path.stat().st_size for path in work.rglob("given")))
        end(daemon)
        with contextlib.suppress(BrokenPipeError):
            os.close(reading)
            for _ in range(100):
                os.write(writing, b"b.example\n" * 1000)
        os.close(writing)
        sender.join()
        assert done[0].returncode in (1, 3)
        assert done[0].stderr.count(b"\n") == 1

    def test_a_client_that_leaves_ends_the_test(self, daemon: Daemon) -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(daemon.folder / "c.sock"))
            head = (
                b"POST /source/test HTTP/1.1\r\nHost: x\r\nBlocklistd-Upload: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            line = b'{"source": "hotline"}\n'
            client.sendall(head + b"%x\r\n%b\r\n" % (len(line), line))
            assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.sendall(b"5\r\na.exa\r\n")
        daemon.wait_for(lambda: not list((daemon.folder / "state" / "work").iterdir()))
        assert daemon.ask("source test", source="hotline").status == 200
        assert "Traceback" not in daemon.log


def test_a_full_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "state", 32 * MIB) as state:
        write(tmp_path, "hotline", NAMES)
        lists = {"national": {"sources": ["hotline"], "guards": GUARDS}}
        with Daemon(tmp_path, {"sources": {"hotline": source(tmp_path, "hotline")}, "lists": lists}) as daemon:
            daemon.first_pull("hotline")
            fill(state)
            said = daemon.ask("source test", source="hotline").json
            assert said["outcome"] == "failed"
            assert "space" in said["reason"]
            (state / "ballast").unlink()
            assert daemon.ask("source test", source="hotline").json["outcome"] == "unchanged"


# -- source rejects ----------------------------------------------------------------------------------------------------

ROWS = (
    b'url,note\r\nhttps://a.example/x,"fine, really"\r\nftp://b.example/,"two\r\nlines"\r\n'
    b"\xff.example,\x1b[31mred\r\nhttps://c.example/y,=1+1\r\n"
)


def rejects_daemon(folder: Path, body: bytes = ROWS, **more: Any) -> Daemon:
    (folder / "hotline.txt").write_bytes(body)
    described = source(folder, "hotline") | {"format": "csv", "fields": {"value": "url"}, "defaults": {"type": "url"}}
    lists = {"national": {"sources": ["hotline"], "guards": GUARDS | {"max_rejected": "100%"}}}
    return Daemon(folder, {"sources": {"hotline": described | more}, "lists": lists})


def test_rejects_are_written_for_the_hotline_and_audited(tmp_path: Path) -> None:
    with rejects_daemon(tmp_path) as daemon:
        daemon.first_pull("hotline")
        settle(daemon)
        before = state_of(daemon)
        done = daemon.cli("source", "rejects", "hotline", "-c", str(daemon.path))
        rows = list(csv.DictReader(io.StringIO(done.stdout.decode(), newline="")))
        assert [(row["line"], row["reason"], row["record"]) for row in rows] == [
            ("3", "scheme", 'ftp://b.example/,"two\r\nlines"'),
            ("5", "not-utf8", "\\xff.example,\x1b[31mred"),
        ]
        assert rows[0]["explanation"] == "The URL does not begin with http: or https:."
        machine = json.loads(daemon.cli("source", "rejects", "hotline", "--json", "-c", str(daemon.path)).stdout)
        assert [{**row, "line": str(row["line"])} for row in machine] == rows
        lines = audit(daemon)[-2:]
        assert [(line["action"], line["object"], line["actor"], line["detail"]) for line in lines] == [
            ("source rejects", "hotline", USER, {"rejects": 2})
        ] * 2
        after = state_of(daemon)
        changed = {name for name in after if after[name] != before.get(name)}
        assert changed <= {"audit", "meta", str(daemon.folder / "state" / "audit-head")}


def test_only_an_examiner_sees_rejects(tmp_path: Path) -> None:
    daemon = rejects_daemon(tmp_path)
    daemon.config["control"]["operators"] = {USER: ["reviewer", "editor"]}
    daemon.write_config()
    with daemon:
        daemon.first_pull("hotline")
        done = daemon.cli("source", "rejects", "hotline", "-c", str(daemon.path), check=False)
        assert (done.returncode, b"one of the roles admin, examiner" in done.stderr) == (1, True)
        assert daemon.ask("source test", source="hotline").status == 200
        assert "source rejects" not in {line["action"] for line in audit(daemon)}


def test_there_is_a_next_step_where_no_body_is_stored(tmp_path: Path) -> None:
    with rejects_daemon(tmp_path, b"<html>") as daemon:
        daemon.first_pull("hotline")
        done = daemon.cli("source", "rejects", "hotline", "-c", str(daemon.path), check=False)
        assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
        assert b"run `blocklistd source test hotline` to see why" in done.stderr
        (tmp_path / "hotline.txt").write_bytes(ROWS)
        daemon.pull("hotline")
        with contextlib.closing(sqlite3.connect(tmp_path / "state" / "blocklistd.sqlite")) as database:
            (body,) = database.execute("SELECT body FROM sources").fetchone()
        path = tmp_path / "state" / "sealed" / body[:2] / body
        path.write_bytes(path.read_bytes()[:-1] + b"!")
        done = daemon.cli("source", "rejects", "hotline", "-c", str(daemon.path), check=False)
        assert b"damaged on the disk: run `blocklistd source pull hotline`" in done.stderr
        path.unlink()
        done = daemon.cli("source", "rejects", "hotline", "-c", str(daemon.path), check=False)
        assert b"damaged on the disk" in done.stderr
