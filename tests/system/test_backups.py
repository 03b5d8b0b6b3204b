"""`backup` of a running daemon and `restore`, by the command line: what is refused, and what goes on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blocklistd.store.restores import STEP
from tests.damage import fill, flip_a_bit, small_disk
from tests.system.daemon import USER
from tests.system.test_operations import reload, values
from tests.system.test_zones import ZONE, Scene
from tests.unprivileged import UNPRIVILEGED, open_to_all


class Kept(Scene):
    """A publisher with two versions, a subscriber and a secondary; `backup` and `restore` by the command line."""

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        return self.daemon.cli(*arguments, "-c", str(self.daemon.path), check=check)

    def back_up(self, name: str, *options: str) -> Any:
        return json.loads(self.run("backup", str(self.folder / name), "--json", *options).stdout)

    def refused(self, *arguments: str) -> str:
        """The one line of an error; the folder and the state are then as before."""
        before = self.files()
        done = self.run(*arguments, check=False)
        assert done.returncode == 1, done
        text = done.stderr.decode()
        assert len(text.splitlines()) == 1, text
        assert self.files() == before
        return text

    def files(self) -> dict[str, str]:
        """The files that no refused command may change, by name, with their digests: those of the state while no
        daemon writes them, else the names that a restore makes there."""
        assert self.daemon.process is not None
        state = self.folder / "state"
        found = [*self.folder.glob("*.tar*"), *self.folder.glob(".*")]
        found += (
            state.rglob("*")
            if self.daemon.process.poll() is not None
            else [*state.glob("*restoring"), *state.glob("replaced*")]
        )
        return {
            str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            for path in found
            if path.name != "lock"
        }


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    made = Kept(tmp_path)
    with made.daemon:
        made.daemon.first_pull("hotline")
        made.publish("a.example", "b.example")
        yield made


def test_a_backup_is_made_verified_and_audited_and_refused_where_it_can_not_be(kept: Kept) -> None:
    daemon, folder = kept.daemon, kept.folder
    first = kept.back_up("1.tar")
    assert (first["versions"], first["serials"], first["bases"]) == ({"national": 2}, {ZONE: 2}, [])
    assert (folder / "1.tar").stat().st_mode & 0o777 == 0o600
    assert first["bytes"] == (folder / "1.tar").stat().st_size
    line = daemon.ask("audit", last=1).json[0]
    assert (line["action"], line["object"], line["actor"]) == ("backup", first["id"][:16], USER)
    with tarfile.open(folder / "1.tar") as archive:
        names = archive.getnames()
        bodies = [archive.extractfile(name).read() for name in names]  # type: ignore[union-attr]
    assert not any("pem" in name or name.startswith("evidence") for name in names)
    assert not any(b"PRIVATE KEY" in body for body in bodies)
    with socket.socket(socket.AF_UNIX) as gone:  # a caller who does not wait for the backup
        gone.connect(str(folder / "c.sock"))
        gone.send(b"POST /backup HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}")
        daemon.wait_for(lambda: daemon.ask("audit", last=1).json[0]["object"] != first["id"][:16])
    daemon.wait_for(lambda: not list((folder / "state" / "work").iterdir()))

    kept.publish("a.example", "b.example", "c.example")
    second = kept.back_up("2.tar", "--base", str(folder / "1.tar"), "--evidence")
    assert second["bases"] == [str(folder / "1.tar")]
    assert second["evidence"]
    text = kept.run("backup", str(folder / "3.tar"), "--base", str(folder / "2.tar")).stdout.decode()
    assert "read back without a fault" in text
    assert text.count("needs ") == 2
    for body in (text, daemon.log):
        assert "b.example" not in body

    assert "exists, and is not overwritten" in kept.refused("backup", str(folder / "1.tar"))
    (folder / "other").mkdir()
    base = ("--base", str(folder / "1.tar"))
    assert "in the folder of its base" in kept.refused("backup", str(folder / "other" / "x.tar"), *base)
    assert "does not begin as a backup" in kept.refused(
        "backup", str(folder / "x.tar"), "--base", str(folder / "list.ndjson")
    )
    assert "name a file in a folder that you can write" in kept.refused("backup", str(folder / "missing" / "x.tar"))
    assert "in use by another daemon" in kept.refused("restore", str(folder / "1.tar"))
    daemon.config["control"]["operators"] = {USER: ["editor", "reviewer", "examiner"]}
    daemon.write_config()
    reload(daemon)
    assert "may not run this command" in kept.refused("backup", str(folder / "x.tar"))


def test_a_disk_that_fills_leaves_no_file(kept: Kept, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 1 << 20) as disk:
        fill(disk, but=8192)
        text = kept.refused("backup", str(disk / "b.tar"))
        assert f"{disk / 'b.tar'}: the disk is full" in text
        assert [path.name for path in disk.iterdir()] == ["ballast"]


def test_a_damaged_file_is_repaired_and_the_next_backup_has_it(kept: Kept) -> None:
    live = kept.daemon.ask("status").json["lists"]["national"]["sha256"]
    path = kept.folder / "state" / "sealed" / live[:2] / live
    right = path.read_bytes()
    flip_a_bit(path)
    done = kept.run("backup", str(kept.folder / "b.tar"), check=False)
    assert done.returncode == 1
    assert not (kept.folder / "b.tar").exists()
    assert kept.daemon.logged("could not be sent") == 1
    kept.daemon.wait_for(lambda: path.read_bytes() == right)
    kept.back_up("b.tar")


def test_a_lost_state_is_restored_and_goes_on(kept: Kept) -> None:
    daemon, folder, state = kept.daemon, kept.folder, kept.folder / "state"
    token, secondary = daemon.subscriber("isp", "national"), kept.secondary("resolver")
    kept.back_up("1.tar")
    kept.publish("a.example", "b.example", "c.example")
    assert secondary.refresh("AXFR") == 3
    session = daemon.get("/v1/lists/national", token).json["session"]
    kept.back_up("2.tar", "--base", str(folder / "1.tar"))
    kept.publish("c.example", "d.example")
    highest = secondary.refresh()
    daemon.stop()
    kept.write("d.example", "e.example")

    (folder / "closed.tar").write_bytes((folder / "1.tar").read_bytes())
    (folder / "closed.tar").chmod(0)
    before = kept.files()
    command = [*UNPRIVILEGED, sys.executable, "-m", "blocklistd", "restore", str(folder / "closed.tar")]
    done = subprocess.run([*command, "-c", str(daemon.path)], capture_output=True, timeout=60, check=False)
    assert (done.returncode, b"closed.tar: permission denied" in done.stderr) == (1, True), done
    assert kept.files() == before

    damaged = bytearray((folder / "1.tar").read_bytes())
    damaged[len(damaged) // 2] ^= 4
    (folder / "altered.tar").write_bytes(damaged)
    (folder / "cut.tar").write_bytes(damaged[: len(damaged) // 3])
    for arguments, text in (
        (["altered.tar"], "was altered: restore another backup"),
        (["cut.tar"], "it is cut short"),
        (["missing.tar"], "there is no such file"),
        (["state"], "it is a folder"),
        (["2.tar", "--above", "1"], "expected N of at least"),
    ):
        assert text in kept.refused("restore", str(folder / arguments[0]), *arguments[1:]), text

    # an older state is replaced, and kept
    restored = json.loads(kept.run("restore", str(folder / "2.tar"), "--json").stdout)
    assert restored["above"] >= STEP + highest
    assert restored["warning"] is None
    aside = Path(restored["replaced"])
    assert (aside / "blocklistd.sqlite").exists()
    assert restored["audit_left"] is not None
    daemon.start()
    daemon.wait_for(lambda: values(daemon.snapshot("national", token)) == {"d.example", "e.example"})
    status = daemon.get("/v1/lists/national", token).json
    assert status["version"] > restored["above"]
    assert status["session"] != session
    assert daemon.ask("audit verify").json["wrong"] is None
    daemon.wait_for(lambda: daemon.ops("/readyz").status == 200)
    daemon.wait_for(lambda: secondary.refresh() > restored["above"])
    daemon.wait_for(lambda: bool(secondary.refresh()) and "e.example" in secondary.rules)
    assert "c.example" not in secondary.rules
    lines = [line["action"] for line in daemon.ask("audit").json]
    assert lines.count("restore") == 1
    numbers = json.loads((state / "high-water").read_bytes())
    assert numbers["lists"]["national"]["version"] > restored["above"]
    assert numbers["zones"][ZONE] > restored["above"]

    # the disk is lost, with the key, and the restored state was backed up again
    kept.back_up("3.tar")
    daemon.stop()
    shutil.rmtree(state)
    (folder / "keys" / "online.pem").rename(folder / "online.pem")
    text = kept.run("restore", str(folder / "3.tar")).stderr.decode()
    assert "before the start: " in text
    assert "online.pem" in text
    (folder / "online.pem").rename(folder / "keys" / "online.pem")
    daemon.start()
    daemon.wait_for(lambda: daemon.get("/v1/lists/national", token).json["version"] > restored["above"] + STEP)


def test_a_restore_that_was_interrupted_is_finished_before_a_start(kept: Kept) -> None:
    kept.back_up("1.tar")
    kept.daemon.stop()
    state = kept.folder / "state"
    (state / "restoring").mkdir()
    (state / "blocklistd.sqlite").rename(state / "restoring" / "blocklistd.sqlite")
    done = kept.run("serve", check=False)
    assert done.returncode == 1
    assert b"a restore was interrupted" in done.stderr
    owner = state.stat().st_uid or (12345 if os.geteuid() == 0 else 0)
    open_to_all(kept.folder)
    for path in (state, *state.rglob("*")):
        os.chown(path, owner, -1)
    kept.run("restore", str(kept.folder / "1.tar"))
    assert {path.stat().st_uid for path in (state, *state.rglob("*"))} == {owner}, "also if root restores it"
    for path in (state, *state.rglob("*")):
        os.chown(path, os.geteuid(), -1)
    kept.daemon.start()
    kept.daemon.wait_for(lambda: kept.daemon.ops("/readyz").status == 200)
