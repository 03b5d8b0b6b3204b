"""Files of names through the daemon: read, changed, broken and repaired; and own names."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.daemon import Daemon
from tests.system.test_operations import reload


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    (tmp_path / "never.txt").write_text("search.example\n")
    (tmp_path / "list.ndjson").write_text(
        "".join(json.dumps({"v": f"bad{number}.test", "t": "host"}) + "\n" for number in range(3))
    )
    source = {
        "url": f"file:{tmp_path}/list.ndjson",
        "format": "ndjson",
        "fields": {"value": "/v", "type": "/t"},
        "schedule": "every 1d",
        "verify": {"method": "none"},
    }
    national: dict[str, Any] = {"sources": ["hotline"], "guards": {"never_block": ["never.txt"]}}
    with Daemon(tmp_path, {"sources": {"hotline": source}, "lists": {"national": national}}) as started:
        started.first_pull("hotline")
        yield started


def alarms(daemon: Daemon) -> list[str]:
    return [line for line in daemon.ops("/readyz").body.decode().splitlines() if "guard file" in line]


def test_a_broken_file_is_an_alarm_and_a_refused_reload(daemon: Daemon) -> None:
    assert not alarms(daemon)
    (daemon.folder / "never.txt").write_text("search.example\n*.other.example\n")
    checked = daemon.cli("check-config", "-c", str(daemon.path), check=False)
    assert checked.returncode == 2
    assert b"never_block" in checked.stderr
    assert b"line 2" in checked.stderr
    refused = daemon.cli("reload", "-c", str(daemon.path), check=False)
    assert refused.returncode == 2
    assert b"line 2" in refused.stderr
    assert b"other.example" not in refused.stderr
    daemon.stop()
    with daemon:  # a start goes on
        daemon.wait_for(lambda: bool(alarms(daemon)))
        assert "line 2" in alarms(daemon)[0]
        assert "other.example" not in daemon.log
        (daemon.folder / "never.txt").write_text("search.example\nother.example\n")
        reload(daemon)
        daemon.wait_for(lambda: not alarms(daemon))


def test_an_unknown_warning_list_is_an_error_that_names_the_nearest(daemon: Daemon) -> None:
    daemon.config["lists"]["national"]["guards"]["never_block"] = ["warninglist:tranco10"]
    daemon.write_config()
    refused = daemon.cli("reload", "-c", str(daemon.path), check=False)
    assert refused.returncode == 2
    assert b"tranco10k" in refused.stderr
    daemon.config["lists"]["national"]["guards"]["never_block"] = ["warninglist:cloudflare"]
    daemon.write_config()
    assert b"a list of networks" in daemon.cli("reload", "-c", str(daemon.path), check=False).stderr
    daemon.config["lists"]["national"]["guards"]["never_block"] = ["never.txt", "warninglist:tranco10k"]
    daemon.write_config()
    reload(daemon)
    assert "10001 " in daemon.log or "never_block 10001" in daemon.log


def test_own_names_of_a_subscriber_are_shown(daemon: Daemon) -> None:
    made = daemon.ask("subscriber add", id="isp", lists=["national"], own_names=["WWW.isp.test."])
    assert made.status == 200, made.body
    assert daemon.ask("subscriber show", id="isp").json["own_names"] == ["www.isp.test"]
    refused = daemon.ask("subscriber add", id="isp-2", lists=["national"], own_names=["*.isp.test"])
    assert refused.status != 200
    assert b"--own-name" in refused.body
    assert b"isp.test" not in refused.body
    daemon.wait_for(lambda: daemon.logged("own 1") > 0)
    assert daemon.ask("subscriber revoke", id="isp").status == 200
    daemon.wait_for(lambda: daemon.logged("own 0") > 1)


def test_the_serving_process_does_not_import_the_warning_lists() -> None:
    assert "pymispwarninglists" not in sys.modules
