"""Keys that are replaced and renewed: clients of every earlier root follow by themselves, and no step can be lost."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import textwrap
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root
from tuf.ngclient import Updater

from blocklistd.client.options import Options
from blocklistd.client.sync import sync_once
from blocklistd.signing.pem import private_pem, public_pem, read_private_key
from tests.system.daemon import Daemon
from tests.system.test_signing import Fetcher


class Publisher(Daemon):
    """A daemon with one list, and root keys of its own: two of three must sign."""

    def __init__(self, folder: Path, **keys: object) -> None:
        (folder / "list").write_text("one.example\n")
        source = {"format": "text", "defaults": {"type": "domain"}, "schedule": "every 1d"}
        super().__init__(
            folder,
            {
                "sources": {"hotline": {"url": f"file:{folder}/list", "verify": {"method": "none"}, **source}},
                "lists": {"national": {"sources": ["hotline"]}},
                "keys": {"online": {"file": "keys/online.pem"}, **keys},
            },
        )
        self.holders = [folder / "root" / f"root-{number}.pem" for number in (1, 2, 3)]
        self.token = ""

    def _copy_keys(self) -> None:
        pass  # those that the tests share have one root key

    def init_keys(self) -> None:
        if not self.root.exists():
            self.keys("init", "--root-out", str(self.root.parent), "--root-keys", "3", "--threshold", "2")

    def start(self) -> Self:
        super().start()
        self.token = self.token or self.subscriber("isp", "national")
        return self

    def keys(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        return self.cli("keys", *words, "-c", str(self.path), check=check)

    def signed_by(self, *numbers: int) -> list[str]:
        return [word for number in numbers for word in ("--root-key", str(self.holders[number]))]

    def refusal(self, *words: str) -> str:
        """Runs a command that must be refused, and returns the reason. Nothing has changed then."""
        before = self.state()
        done = self.keys(*words, check=False)
        assert done.returncode == 1, done.stdout
        assert self.state() == before
        return done.stderr.decode()

    def state(self) -> list[object]:
        """All that a rotation changes: the files of keys and roots, what is served, and the audit of adoptions."""
        files = {path: path.read_bytes() for where in ("state/root", "keys") for path in self.folder.glob(f"{where}/*")}
        files.pop(self.folder / "keys/online.pem.next", None)  # it is the next one until a root names it
        lines = [line for line in self.ask("audit").json if line["action"] == "keys adopt"]
        return [files, self.metadata("timestamp.json"), lines]

    def metadata(self, name: str) -> Any:
        answer = self.get(f"/v1/lists/national/metadata/{name}", self.token)
        assert answer.status == 200, name
        return answer.json

    def newest_root(self) -> bytes:
        return self.keys("show", "--root").stdout

    def tuf_client(self, folder: Path, root: bytes) -> Updater:
        """A generic TUF client, with the metadata that an earlier one left in the folder."""
        folder.mkdir(exist_ok=True)
        base = f"http://127.0.0.1:{self.feed_port}/v1/lists/national"
        return Updater(
            str(folder), f"{base}/metadata/", str(folder), f"{base}/targets/", Fetcher(self.token), bootstrap=root
        )

    def sync(self, folder: Path, root: bytes) -> bytes:
        """The list as `sync` has it in the folder."""
        folder.mkdir(exist_ok=True)
        (folder / "token").write_text(self.token)
        (folder / "root.json").write_bytes(root)
        url = f"http://127.0.0.1:{self.feed_port}"
        sync_once(Options(url, "national", folder / "root.json", folder, folder / "token"), lambda text: None)
        return (folder / "national.ndjson").read_bytes()

    def followed(self, folder: Path, root: bytes) -> None:
        """Both clients take the newest version under the newest root."""
        client = self.tuf_client(folder / "tuf", root)
        target = client.get_targetinfo("national.ndjson")
        assert target is not None
        live = self.snapshot("national", self.token)
        assert Path(client.download_target(target)).read_bytes() == live
        assert self.sync(folder / "sync", root) == live
        newest = json.loads(self.newest_root())
        assert json.loads((folder / "tuf" / "root.json").read_bytes()) == newest
        online = newest["signed"]["roles"]["timestamp"]["keyids"]
        assert [one["keyid"] for one in self.metadata("timestamp.json")["signatures"]] == online


def test_clients_of_every_earlier_root_follow(tmp_path: Path) -> None:
    """Ten rotations of both kinds, and renewals: clients that were there all the time, and those that begin late with
    an old root.json."""
    with Publisher(tmp_path) as publisher:
        publisher.first_pull("hotline")
        roots: list[bytes] = []
        for turn in range(10):
            roots.append(publisher.newest_root())
            (client := tmp_path / f"client-{turn}").mkdir()
            publisher.followed(client, roots[-1])
            old = (tmp_path / "keys/online.pem").read_bytes()
            if turn % 2 == 0:
                publisher.keys("rotate", "online", *publisher.signed_by(0, 2))
                assert (tmp_path / "keys/online.pem").read_bytes() != old
            else:
                made = tmp_path / f"root-{turn}"
                more = ("--root-out", str(made), "--root-keys", "3", "--threshold", "2")
                said = publisher.keys("rotate", "root", *more, *publisher.signed_by(1, 2)).stdout.decode()
                publisher.holders = [made / f"root-{number}.pem" for number in (1, 2, 3)]
                end = "\n".join(f"  {path}" for path in publisher.holders)
                assert said.endswith(f"new root keys, take them off this host now:\n{end}\n")
                assert (tmp_path / "keys/online.pem").read_bytes() == old
            if turn % 4 == 3:
                publisher.keys("renew", "root", *publisher.signed_by(0, 1))
            if turn == 5:
                (tmp_path / "list").write_text("one.example\ntwo.example\n")
                assert publisher.pull("hotline")["outcome"] == "published"
                publisher.stop()
                publisher.start()
        assert list((tmp_path / "keys").iterdir()) == [tmp_path / "keys/online.pem"], "the old online keys are gone"
        shown = json.loads(publisher.keys("show", "--json").stdout)
        assert (shown["root"]["version"], shown["root"]["threshold"], shown["todo"]) == (13, 2, None)
        for turn, root in enumerate(roots):
            publisher.followed(tmp_path / f"client-{turn}", root)
            (late := tmp_path / f"late-{turn}").mkdir()
            publisher.followed(late, root)
        for version in range(1, 14):
            assert publisher.metadata(f"{version}.root.json")["signed"]["version"] == version
        lines = [line for line in publisher.ask("audit").json if line["action"] == "keys adopt"]
        assert [line["object"] for line in lines] == [f"root {version}" for version in range(2, 14)]
        assert all(len(line["detail"]["signed_by"]) >= 2 for line in lines)
        publisher.cli("audit", "verify", "-c", str(publisher.path))
    assert "Traceback" not in publisher.log


def test_refusals_change_nothing(tmp_path: Path) -> None:
    with Publisher(tmp_path) as publisher:
        publisher.first_pull("hotline")
        stranger = tmp_path / "stranger.pem"
        stranger.write_bytes(private_pem(CryptoSigner.generate_ed25519()))
        said = publisher.refusal("rotate", "online", "--root-key", str(stranger))
        assert "stranger.pem: its key id is" in said
        assert "which is no root key; expected one of" in said
        said = publisher.refusal("rotate", "online", *publisher.signed_by(0))
        assert "version 2 of root.json has 1 of the 2 signatures that the root keys of version 1 must give" in said
        assert "--out FILE" in said
        more = ("--root-out", str(tmp_path / "new"), "--root-keys", "2", "--threshold", "2")
        assert "1 of the 2" in publisher.refusal("rotate", "root", *more, *publisher.signed_by(0))
        assert not (tmp_path / "new").exists(), "no key is left of a refused rotation"
        assert "a threshold of 3 of 1 root keys" in publisher.refusal(
            "rotate", "root", "--root-out", str(tmp_path / "new"), "--threshold", "3", *publisher.signed_by(0, 1)
        )
        assert "the root keys stay the same: name root keys with" in publisher.refusal(
            "rotate", "root", *publisher.signed_by(0, 1)
        )
        assert "expected the id of one of the root keys" in publisher.refusal(
            "rotate", "root", "--remove-key", "0123456789", *publisher.signed_by(0, 1)
        )

        first = publisher.newest_root()
        publisher.keys("rotate", "online", *publisher.signed_by(0, 1))
        (tmp_path / "old.json").write_bytes(first)
        assert "version 1 of root.json, and version 2 is the newest here" in publisher.refusal(
            "adopt", str(tmp_path / "old.json")
        )
        (tmp_path / "same.json").write_bytes(publisher.newest_root())
        assert "version 2 of root.json, and version 2 is the newest here" in publisher.refusal(
            "adopt", str(tmp_path / "same.json")
        )
        (tmp_path / "text.json").write_text("no root")
        assert "no JSON object" in publisher.refusal("adopt", str(tmp_path / "text.json"))
        (tmp_path / "text.json").write_text("{}")
        assert "no root.json" in publisher.refusal("adopt", str(tmp_path / "text.json"))
        for what, found in FORGED.items():
            (tmp_path / "forged.json").write_bytes(forged(publisher, what))
            said = publisher.refusal("adopt", str(tmp_path / "forged.json"))
            assert found in said, what
            assert said.startswith("blocklistd: nothing was changed: ")
        (client := tmp_path / "client").mkdir()
        publisher.followed(client, first)


FORGED = {
    "strangers": "0 of the 2 signatures that the root keys of version 2 must give",
    "one holder twice": "1 of the 2 signatures that the root keys of version 2 must give",
    "new keys alone": "0 of the 2 signatures that the root keys of version 2 must give",
    "old keys alone": "0 of the 2 signatures that the root keys of version 3 must give",
    "changed after signing": "0 of the 2 signatures",
    "gap": "version 4 of root.json, and version 2 is the newest here: expected version 3",
    "expired": "it expired on",
    "no online key": "one online key for targets, snapshot and timestamp",
    "online key of a stranger": "it is another key",
}


def forged(publisher: Publisher, what: str) -> bytes:
    """A next root that must not be adopted."""
    new: Metadata[Root] = Metadata.from_bytes(publisher.newest_root())
    new.signatures.clear()
    root = new.signed
    root.version = 4 if what == "gap" else 3
    holders = [read_private_key(path) for path in publisher.holders]
    strangers = [CryptoSigner.generate_ed25519() for _ in range(3)]
    if what in ("new keys alone", "old keys alone"):
        for old in list(root.roles["root"].keyids):
            root.revoke_key(old, "root")
        for stranger in strangers:
            root.add_key(stranger.public_key, "root")
    if what == "expired":
        root.expires = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    if what == "no online key":
        root.roles["targets"].threshold = 2
        root.add_key(strangers[0].public_key, "targets")
    if what == "online key of a stranger":
        for role in ("targets", "snapshot", "timestamp"):
            root.revoke_key(root.roles[role].keyids[0], role)
            root.add_key(strangers[0].public_key, role)
    signers = {"strangers": strangers, "new keys alone": strangers, "one holder twice": [holders[0], holders[0]]}
    for signer in signers.get(what, holders):
        new.sign(signer, append=True)
    if what == "changed after signing":
        root.expires += timedelta(days=1)
    return new.to_bytes()


def test_holders_sign_one_after_another(tmp_path: Path) -> None:
    """No two root keys are ever on one machine; one of them is encrypted; a holder is replaced on the way."""
    with Publisher(tmp_path) as publisher:
        publisher.first_pull("hotline")
        first = publisher.newest_root()
        carried, newest, fresh = tmp_path / "next.json", tmp_path / "newest.json", tmp_path / "fresh.pem"
        newest.write_bytes(first)
        holder = CryptoSigner.generate_ed25519()
        fresh.write_bytes(private_pem(holder, "of the holder"))
        (tmp_path / "fresh.pub").write_text(public_pem(holder.public_key))
        leaver = read_private_key(publisher.holders[0]).public_key.keyid
        change = ("--add-key", str(tmp_path / "fresh.pub"), "--remove-key", leaver[:12])
        done = publisher.keys("rotate", "root", *change, "--out", str(carried))
        assert "0 of the 2 signatures that the root keys of version 1 must give" in done.stdout.decode()
        assert "exists" in publisher.refusal("rotate", "root", *change, "--out", str(carried))
        assert "0 of the 2" in publisher.refusal("adopt", str(carried))

        sign = ("sign", str(carried), "--root", str(newest), "--root-key")
        elsewhere = tmp_path / "elsewhere"  # a machine without a configuration
        elsewhere.mkdir()
        offline = subprocess.run(
            [sys.executable, "-m", "blocklistd", "keys", *sign, str(publisher.holders[1])],
            cwd=elsewhere,
            env={**os.environ, "BLOCKLISTD_CONFIG": "/nonexistent"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert "2 of 3 root keys" in offline.stdout
        assert f"removed root key\t{leaver[:16]}…" in offline.stdout
        assert "1 of the 2 signatures" in offline.stdout
        assert "is asked for on a terminal" in publisher.keys(*sign, str(fresh), check=False).stderr.decode()
        output, code = on_a_terminal(["keys", *sign, str(fresh)], ["y\n", "wrong\n"])
        assert (code, "the passphrase is wrong" in output) == (1, True), output
        output, code = on_a_terminal(["keys", *sign, str(fresh)], ["y\n", "of the holder\n"])
        assert code == 0, output
        assert "of the holder" not in output
        assert "1 of the 2 signatures that the root keys of version 1 must give" in output, "it is no key of version 1"
        assert "1 of the 2" in publisher.refusal("adopt", str(carried))
        done = publisher.keys(*sign, str(publisher.holders[2]))
        assert f"at the publisher: blocklistd keys adopt {carried}" in done.stdout.decode()
        adopted = json.loads(publisher.keys("adopt", str(carried), "--json").stdout)
        assert adopted["root"]["version"] == 2
        assert holder.public_key.keyid in adopted["root"]["keys"]
        assert leaver not in adopted["root"]["keys"]
        (client := tmp_path / "client").mkdir()
        publisher.followed(client, first)

        # the leaver's key signs nothing any more; the one that came does
        newest.write_bytes(publisher.newest_root())
        assert "which is no root key" in publisher.refusal("renew", "root", *publisher.signed_by(0, 1))
        publisher.keys("renew", "root", *publisher.signed_by(2, 1))
        said = publisher.keys(*sign, str(publisher.holders[1]), check=False).stderr.decode()
        assert "version 2 of root.json, and version 2 is the newest here" in said
    assert "of the holder" not in publisher.log


def test_root_keys_are_encrypted_with_a_passphrase_of_the_terminal(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path)
    words = ["keys", "init", "-c", str(publisher.path), "--root-out", str(tmp_path / "root"), "--encrypt"]
    output, code = on_a_terminal(words, ["a passphrase\n", "another\n"])
    assert (code, "not the same twice" in output) == (1, True), output
    output, code = on_a_terminal(words, ["a passphrase\n", "a passphrase\n"])
    assert (code, "a passphrase" in output) == (0, False), output
    with publisher:
        assert "is asked for on a terminal" in publisher.refusal("renew", "root", *publisher.signed_by(0))
        renew = ["keys", "renew", "root", "-c", str(publisher.path), *publisher.signed_by(0)]
        output, code = on_a_terminal(renew, ["a passphrase\n"])
        assert (code, "root version 2" in output) == (0, True), output


def on_a_terminal(words: list[str], answers: list[str]) -> tuple[str, int]:
    """Runs a command on a terminal of its own, and types an answer at each prompt. Returns its output and exit code."""
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-m", "blocklistd", *words])
    output = b""
    for answer in answers:
        while not output.rstrip(b" ").endswith(b":"):
            output += os.read(terminal, 4096)
        os.write(terminal, answer.encode())
        output += b"\n"
    try:
        while chunk := os.read(terminal, 4096):
            output += chunk
    except OSError:  # the end of a terminal
        pass
    os.close(terminal)
    return " ".join(output.decode().split()), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_an_expired_root_is_renewed(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path)
    publisher.init_keys()
    expired: Metadata[Root] = Metadata.from_bytes(publisher.root.read_bytes())
    expired.signed.expires = datetime.now(UTC).replace(microsecond=0) - timedelta(days=400)
    expired.signatures.clear()
    for path in publisher.holders:
        expired.sign(read_private_key(path), append=True)
    for path in (publisher.root, tmp_path / "state/root/1.root.json"):
        path.write_bytes(expired.to_bytes())
    with publisher:
        publisher.first_pull("hotline")
        shown = json.loads(publisher.keys("show", "--json").stdout)
        assert "keys renew root" in shown["todo"]
        publisher.wait_for(lambda: "root.json has expired" in "".join(publisher.ask("status").json["alarms"]))
        publisher.keys("renew", "root", *publisher.signed_by(1, 2))
        assert not any("root.json" in alarm for alarm in publisher.ask("status").json["alarms"])
        (client := tmp_path / "client").mkdir()
        publisher.followed(client, expired.to_bytes())


def test_a_killed_daemon_has_both_or_neither(tmp_path: Path) -> None:
    """kill -9 at any moment of an adoption: what is served fits together, and so do the root and its line."""
    with Publisher(tmp_path) as publisher:
        publisher.first_pull("hotline")
        first = publisher.newest_root()
        (client := tmp_path / "client").mkdir()
        publisher.followed(client, first)
        carried = tmp_path / "next.json"
        for turn, wait in enumerate((0, 0.002, 0.004, 0.006, 0.01, 0.02, 0.05)):
            carried.unlink(missing_ok=True)
            publisher.keys("rotate", "online", *publisher.signed_by(0, 1), "--out", str(carried))
            publisher.kill_during("keys adopt", wait, root=json.loads(carried.read_bytes()))
            publisher.followed(client, first)
            (late := tmp_path / f"late-{turn}").mkdir()
            publisher.followed(late, first)
            lines = [line for line in publisher.ask("audit").json if line["action"] == "keys adopt"]
            version = json.loads(publisher.newest_root())["signed"]["version"]
            assert version == len(lines) + 1
            assert not list((tmp_path / "state/root").glob("*.new"))


@pytest.mark.parametrize("renamed", [False, True])
def test_a_start_finishes_what_the_audit_has(tmp_path: Path, renamed: bool) -> None:
    """The two moments that a kill hits by luck only: before the root has its name, and before the key has."""
    with Publisher(tmp_path) as publisher:
        publisher.first_pull("hotline")
        first, key = publisher.newest_root(), tmp_path / "keys/online.pem"
        old = key.read_bytes()
        publisher.keys("rotate", "online", *publisher.signed_by(0, 1))
        second = publisher.newest_root()
        publisher.kill()
        shutil.move(key, tmp_path / "keys/online.pem.next")
        key.write_bytes(old)
        if not renamed:
            (tmp_path / "state/root/2.root.json").rename(tmp_path / "state/root/2.root.json.new")
        (tmp_path / "state/root/3.root.json.new").write_bytes(second)  # without a line
        publisher.start()
        assert publisher.newest_root() == second
        assert sorted(path.name for path in (tmp_path / "state/root").iterdir()) == ["1.root.json", "2.root.json"]
        assert key.read_bytes() != old
        assert not (tmp_path / "keys/online.pem.next").exists()
        (client := tmp_path / "client").mkdir()
        publisher.followed(client, first)


def test_the_next_key_may_be_in_another_place(tmp_path: Path) -> None:
    """Named by keys.next, as an HSM or a credential is: the configuration is changed before and after."""
    with Publisher(tmp_path) as publisher:
        publisher.first_pull("hotline")
        first = publisher.newest_root()
        publisher.config["keys"]["next"] = {"file": "keys/second.pem"}
        publisher.write_config()
        publisher.cli("reload", "-c", str(publisher.path))
        publisher.keys("rotate", "online", *publisher.signed_by(0, 1))
        shown = json.loads(publisher.keys("show", "--json").stdout)
        assert shown["online"]["place"] == "keys.next"
        assert "write its value under keys.online" in shown["todo"]
        assert "name the key after it in keys.next" in publisher.refusal("rotate", "online", *publisher.signed_by(0, 1))
        (client := tmp_path / "client").mkdir()
        publisher.followed(client, first)
        publisher.kill()
        publisher.start()
        publisher.followed(client, first)

        del publisher.config["keys"]["next"]
        publisher.write_config()
        refused = publisher.cli("reload", "-c", str(publisher.path), check=False)
        assert "it is another key" in refused.stderr.decode()
        publisher.config["keys"]["online"] = {"file": "keys/second.pem"}
        publisher.write_config()
        publisher.cli("reload", "-c", str(publisher.path))
        shown = json.loads(publisher.keys("show", "--json").stdout)
        assert (shown["online"]["place"], shown["todo"]) == ("keys.online", None)
        publisher.keys("rotate", "online", *publisher.signed_by(0, 1))
        publisher.followed(client, first)


def test_the_guides_commands_work(tmp_path: Path) -> None:
    """Those of `Replace and renew keys` in the guide, pasted in their order."""
    guide = (Path(__file__).parents[2] / "docs" / "operator.md").read_text()
    section = guide[guide.index("\n## Replace and renew keys") : guide.index("\n## Alarms\n")]
    blocks = [textwrap.dedent(block) for block in re.findall(r"^(?: {4}.*\n)+", section, re.M)]
    together, ask, sign, adopt, new_key, change = blocks
    (programs := tmp_path / "bin").mkdir()
    (programs / "blocklistd").write_text(f'#!/bin/sh\nexec {sys.executable} -m blocklistd "$@"\n')
    (programs / "blocklistd").chmod(0o755)
    with Publisher(tmp_path) as publisher:
        publisher.first_pull("hotline")
        first = publisher.newest_root()
        (here := tmp_path / "here").mkdir()
        for name, number in (("a", 1), ("b", 2)):
            (tmp_path / "media" / name).mkdir(parents=True)
            shutil.copy(tmp_path / "root" / f"root-{number}.pem", tmp_path / "media" / name)

        def paste(block: str) -> str:
            environment = {"PATH": f"{programs}:{os.environ['PATH']}", "BLOCKLISTD_CONFIG": str(publisher.path)}
            done = subprocess.run(
                ["sh", "-e", "-c", block.replace("/media/", f"{tmp_path}/media/")],
                cwd=here,
                env=os.environ | environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, (block, done.stderr)
            return done.stdout

        paste(together)
        for number in (1, 2, 3):
            shutil.copy(tmp_path / "media" / "new" / f"root-{number}.pem", here)
        paste(ask)
        assert "1 of the 2" in paste(sign)
        assert "complete" in paste(sign.replace("root-1", "root-3"))
        assert "root version" in paste(adopt)
        paste(new_key.replace(" -aes256", ""))  # which asks for a passphrase on a terminal
        leaver = read_private_key(here / "root-3.pem").public_key.keyid
        paste(change.replace("0123456789abcdef", leaver[:16]))
        paste("blocklistd keys show --root > newest.json")
        for key in ("root-1", "root-4", "root-2"):
            said = paste(sign.replace("next.json", "change.json").replace("root-1", key))
        assert "complete" in said
        paste(adopt.replace("next.json", "change.json"))
        (client := tmp_path / "client").mkdir()
        publisher.followed(client, first)
        assert json.loads(publisher.newest_root())["signed"]["version"] == 6
