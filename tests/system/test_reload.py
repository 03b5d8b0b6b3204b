"""`blocklistd reload` prints the changes or every error; a start tolerates errors that a reload refuses."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import minisign

from tests.peers import unchecked
from tests.system.daemon import Daemon
from tests.unprivileged import open_to_all


def source(folder: Path, name: str, **more: Any) -> dict[str, Any]:
    (folder / name).write_text(f"{name}.example\n")
    return {
        "url": f"file:{folder}/{name}",
        "format": "text",
        "defaults": {"type": "domain"},
        "verify": {"method": "none"},
        **more,
    }


def daemon_of(folder: Path, **more: Any) -> Daemon:
    return Daemon(
        folder,
        {
            "sources": {"one": source(folder, "one"), "two": source(folder, "two", **more)},
            "lists": {name: {"sources": [name]} for name in ("one", "two")},
        },
    )


def test_a_reload_prints_the_changed_keys(tmp_path: Path) -> None:
    with daemon_of(tmp_path) as daemon:
        arguments = ["reload", "-c", str(daemon.path)]
        assert daemon.cli(*arguments).stdout == b"reloaded: nothing changed\n"
        daemon.config["sources"]["one"]["schedule"] = "every 2h"
        daemon.config["sources"]["three"] = source(tmp_path, "three")
        del daemon.config["lists"]["two"]
        daemon.config["lists"]["one"]["guards"] = {"max_added": "30%"}
        daemon.write_config()
        assert daemon.cli(*arguments).stdout.decode().splitlines() == [
            "sources.one.schedule: changed",
            "sources.three: added",
            "lists.one.guards.max_added: changed",
            "lists.two: removed",
            "if this changes what a list has, it may be held: see `blocklistd candidate list`",
        ]
        line = daemon.ask("audit", last=1).json[0]
        assert (line["action"], line["object"], "lists.two" in line["detail"]["changed"]) == (
            "reload",
            "configuration",
            True,
        )


def test_a_refused_reload_prints_every_error(tmp_path: Path) -> None:
    with daemon_of(tmp_path) as daemon:
        daemon.config["state_dir"] = "elsewhere"
        daemon.config["lists"]["one"]["guards"] = {"max_removed": "150%", "daily": {"max_added": "101%"}}
        daemon.config["sources"]["two"]["auth"] = {"bearer": {"file": "nowhere"}}
        daemon.write_config()
        refused = daemon.cli("reload", "-c", str(daemon.path), check=False)
        assert (refused.returncode, refused.stdout) == (2, b"")
        said = refused.stderr.decode()
        assert said.startswith(
            "blocklistd: the reload was refused, the running configuration stays; correct these, then reload again:\n"
        )
        for part in (
            "lists.one.guards.max_removed: found '150%', expected a share up to 100%",
            "lists.one.guards.daily.max_added: found '101%', expected a share up to 100%",
            "sources.two.auth.bearer.file: found",
            ": state_dir: found another value than the running one, expected the running value, since only a restart",
        ):
            assert part in said
        as_json = daemon.cli("reload", "--json", "-c", str(daemon.path), check=False)
        assert (as_json.returncode, len(json.loads(as_json.stdout)["errors"])) == (2, 4)
        assert daemon.ask("audit", last=1).json == [] or daemon.ask("audit", last=1).json[0]["action"] != "reload"


def test_a_start_continues_without_a_source_whose_key_is_missing_until_a_reload(tmp_path: Path) -> None:
    verify = {"method": "minisign", "key": "two.pub", "signature": "{url}.minisig"}
    pair = minisign.KeyPair.generate()
    daemon = daemon_of(tmp_path, verify=verify)
    signature = minisign.SecretKey.sign(pair.secret_key, (tmp_path / "two").read_bytes())
    (tmp_path / "two.minisig").write_bytes(bytes(signature))
    with daemon:
        daemon.first_pull("one")
        daemon.first_pull("two")
        status = daemon.ask("status").json
        assert status["lists"]["one"]["version"] == 1
        assert (status["sources"]["two"]["outcome"], "two.pub" in status["sources"]["two"]["reason"]) == (
            "failed",
            True,
        )
        ready = daemon.ops("/readyz")
        assert ready.status == 200
        assert b"sources.two.verify.key: found" in ready.body
        assert len(daemon.ask("reload").json["errors"]) == 1, "a reload refuses what a start goes on without"
        (tmp_path / "two.pub").write_bytes(bytes(pair.public_key))
        assert daemon.ask("reload").json["errors"] == []
        assert b"two.pub" not in daemon.ops("/readyz").body
        assert daemon.pull("two")["outcome"] == "published"


def test_an_unreadable_file_is_an_error_and_a_private_file_that_others_can_read_a_warning(
    tmp_path: Path,
) -> None:
    if os.geteuid() != 0:
        unchecked("needs root, to look with the eyes of another user")
    open_to_all(tmp_path)
    daemon = daemon_of(tmp_path, auth={"bearer": {"file": "token"}})
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "lock").touch()  # an empty one is a warning of its own
    (tmp_path / "token").write_text("secret\n")
    daemon.path.chmod(0o644)
    for mode, owner, code, said in (
        (0o600, 0, 2, "sources.two.auth.bearer.file: found"),
        (0o600, 65534, 0, ""),
        (0o644, 0, 0, "token with the mode 0644, which everybody on this host can read, expected a private file"),
    ):
        os.chown(tmp_path / "state", 65534, 65534)
        os.chown(tmp_path / "token", owner, owner)
        (tmp_path / "token").chmod(mode)
        done = daemon.cli("check-config", "-c", str(daemon.path), check=False)
        assert (done.returncode, said in done.stderr.decode()) == (code, True), done.stderr
        assert bool(done.stderr) == bool(said)
