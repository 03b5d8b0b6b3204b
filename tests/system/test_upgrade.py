"""An upgrade from any version that changed the schema keeps data: lists, decisions, subscribers, zones and keys."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import dns.tsig
import pytest

from tests import stored
from tests.stored import FIRST, HELD, LIST, REJECTED, write
from tests.system.daemon import free_port
from tests.system.test_zones import Secondary


@pytest.mark.parametrize("version", sorted(path.stem for path in stored.HERE.glob("*.json")))
def test_a_stored_state_is_upgraded(tmp_path: Path, version: str) -> None:
    right = stored.unpack(tmp_path, version)
    port = free_port()
    daemon = stored.daemon(tmp_path, port)
    write(tmp_path, HELD)
    token = right["token"]
    tsig = right["tsig"]
    secondary = Secondary(port, dns.tsig.Key(tsig["name"], base64.b64decode(tsig["secret"]), tsig["algorithm"]))
    with daemon:
        status = daemon.get(f"/v1/lists/{LIST}", token).json
        assert {**status, "expires": None} == {**right["status"], "expires": None}
        assert hashlib.sha256(daemon.snapshot(LIST, token)).hexdigest() == right["snapshot"]
        assert hashlib.sha256(daemon.get(f"/v1/lists/{LIST}/diffs/1-3", token).body).hexdigest() == right["diff"]
        daemon.wait_for(lambda: daemon.ops("/readyz").status == 200)
        assert secondary.refresh("AXFR") == 3
        # what was decided, and what waits for a decision
        write(tmp_path, REJECTED)
        outcome = daemon.pull("hotline")
        assert (outcome["outcome"], outcome["candidate"]) == ("failed", right["rejected"])
        write(tmp_path, HELD)
        held = daemon.pull("hotline")
        assert held["outcome"] == "held"
        shown = daemon.ask("candidate show", candidate=held["candidate"]).json
        assert {shown[key] == right["held"][key] for key in ("delta", "added", "removed", "reasons")} == {True}
        # and it goes on
        assert daemon.approve(held["candidate"])["released"]
        listed = {json.loads(line)["value"] for line in daemon.snapshot(LIST, token).splitlines()}
        assert listed == set(HELD) < set(FIRST)
        assert secondary.refresh() == 4
        assert secondary.rules == {rule for name in HELD for rule in (name, f"*.{name}")}
        assert daemon.get(f"/v1/lists/{LIST}", token).json["session"] == right["status"]["session"]
    daemon.cli("check-config", "-c", str(daemon.path))


def test_every_schema_has_a_stored_state() -> None:
    """A migration comes with the state of the version before it: what is on somebody's disk by then."""
    migrations = Path(stored.HERE.parents[1] / "blocklistd" / "versions" / "migrations" / "versions")
    assert len(list(stored.HERE.glob("*.tar.xz"))) >= len(list(migrations.glob("m*.py")))
