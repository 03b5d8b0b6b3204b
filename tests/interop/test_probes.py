"""A subscriber proves by a test entry that its own resolver applies the list: a real one, with the printed profile."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from blocklistd.client.options import Options, SyncResult
from blocklistd.client.sync import sync_once
from blocklistd.errors import SyncError
from tests.interop.programs import Peers
from tests.interop.stub import Stub
from tests.system.daemon import free_port
from tests.system.test_zones import Scene

HOST = "blocktest.isp.example"


def test_sync_proves_that_the_resolver_applies_the_list(
    tmp_path: Path, stub: Stub, peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, port = Scene(tmp_path), free_port()
    daemon = scene.daemon
    daemon.config["lists"]["national"]["test_entries"] = [HOST]
    daemon.write_config()
    with daemon:
        daemon.first_pull("hotline")
        made = peers.subscribe(scene, "unbound", port, lists=["national"], own_names=["isp.example"])
        (tmp_path / "token").write_text(made["token"])

        def sync() -> SyncResult:
            options = Options(
                url=f"http://127.0.0.1:{daemon.feed_port}",
                list="national",
                root=daemon.root,
                dir=tmp_path / "isp",
                token_file=tmp_path / "token",
                node="edge-1",
                probe=f"127.0.0.1:{port}",
            )
            return sync_once(options, print)

        def node() -> dict[str, Any]:
            """The node in the newest report."""
            today = datetime.now(UTC).date().isoformat()
            report = daemon.ask("subscriber report", id="isp", **{"from": today, "to": today}).json
            newest: dict[str, Any] = report["lists"]["national"]["versions"][0]["nodes"]["edge-1"]
            return newest

        with peers.start("unbound", scene.folder, stub, port, made["config"]["unbound"]) as resolver:
            resolver.wait(lambda: resolver.blocked(HOST))
            assert sync().version == 1
            assert not resolver.blocked("isp.example")
        assert (node()["state"], node()["probe"]) == ("applied", "blocked")
        assert "failed probe" not in daemon.cli("status", "-c", str(daemon.path)).stdout.decode()

        scene.publish("a.example", "b.example")
        monkeypatch.setattr("blocklistd.client.probe.CLIENT_PROBE", 0)
        with peers.start("unbound", scene.folder, stub, port, "") as resolver:  # without the policy
            resolver.wait(lambda: not resolver.blocked(HOST))
            with pytest.raises(SyncError, match=r"version 2 is in place, but --probe .* does not apply the list"):
                sync()
        assert (node()["state"], node()["probe"]) == ("applied", "resolves")
        assert "isp: failed probe: edge-1" in daemon.cli("status", "-c", str(daemon.path)).stdout.decode()
