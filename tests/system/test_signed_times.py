"""Signed times are checked: the future, a replay, a new key, and a hotline that froze."""

from __future__ import annotations

import time
from pathlib import Path

from tests.sim.hotline import HotlineThread
from tests.system.daemon import Daemon
from tests.system.test_operations import reload

DAY = 86400
NAMES = ["a.example", "b.example"]


def config(folder: Path, hotline: HotlineThread, **keys: object) -> dict[str, object]:
    return {
        "sources": {
            "hotline": {
                "url": hotline.url,
                "format": "text",
                "defaults": {"type": "domain"},
                "schedule": "every 1d",
                "verify": {"method": "minisign", "key": key(folder, hotline), **keys},
                "max_age": "2d",
                "max_unchanged": "1s",
            }
        },
        "lists": {"national": {"sources": ["hotline"]}},
    }


def key(folder: Path, hotline: HotlineThread) -> str:
    (folder / "hotline.pub").write_text(hotline.public_key_text)
    return "hotline.pub"


def test_a_signature_from_the_future_locks_no_source(tmp_path: Path, hotline: HotlineThread) -> None:
    now = int(time.time())
    hotline.publish(NAMES, signed_at=now - 5)
    with Daemon(tmp_path, config(tmp_path, hotline)) as daemon:
        daemon.first_pull("hotline")
        hotline.publish([*NAMES, "c.example"], signed_at=now + 2 * DAY)
        refused = daemon.pull("hotline")
        assert refused["outcome"] == "failed"
        assert "max_future" in refused["reason"]
        hotline.publish([*NAMES, "d.example"], signed_at=now + 10)
        assert daemon.pull("hotline")["outcome"] == "published", "nothing of it is remembered"


def test_a_new_key_frees_a_source_that_a_time_from_the_future_had_locked(
    tmp_path: Path, hotline: HotlineThread
) -> None:
    now = int(time.time())
    hotline.publish(NAMES, signed_at=now + 1000 * DAY)
    with Daemon(tmp_path, config(tmp_path, hotline, max_future="3650d")) as daemon:
        daemon.first_pull("hotline")
        daemon.config["sources"]["hotline"]["verify"]["max_future"] = "1h"
        daemon.write_config()
        reload(daemon)
        hotline.publish([*NAMES, "c.example"], signed_at=now)
        assert "an old body is served again" in daemon.pull("hotline")["reason"]
        hotline.rotate_key()
        key(tmp_path, hotline)
        reload(daemon)
        before = hotline.publish([*NAMES, "d.example"], signed_at=now)
        assert daemon.pull("hotline")["outcome"] == "published"
        hotline.publish([*NAMES, "e.example"], signed_at=now + 1)
        assert daemon.pull("hotline")["outcome"] == "published"
        hotline.republish(before)
        assert "an old body is served again" in daemon.pull("hotline")["reason"], "the new key has a memory of its own"


def test_a_hotline_that_froze_becomes_overdue_and_frozen(tmp_path: Path, hotline: HotlineThread) -> None:
    hotline.publish(NAMES, signed_at=int(time.time()) - 3 * DAY)
    with Daemon(tmp_path, config(tmp_path, hotline)) as daemon:
        daemon.first_pull("hotline")
        assert daemon.pull("hotline")["outcome"] == "unchanged", "it was heard of just now"

        def source() -> dict[str, object]:
            found: dict[str, object] = daemon.ask("status").json["sources"]["hotline"]
            return found

        assert source()["overdue"] is True
        assert int(str(source()["age"]).partition(".")[0]) >= 3 * DAY
        daemon.wait_for(lambda: source()["frozen"] is True)
        metrics = daemon.ops("/metrics").body.decode()
        assert 'blocklistd_source_overdue{source="hotline"} 1.0' in metrics
        assert 'blocklistd_source_frozen{source="hotline"} 1.0' in metrics
        since = source()["unchanged_since"]
        hotline.publish(NAMES, signed_at=int(time.time()))
        assert daemon.pull("hotline")["outcome"] == "unchanged"
        assert (source()["overdue"], source()["unchanged_since"]) == (False, since), "signed again, and the same"
        hotline.publish([*NAMES, "c.example"], signed_at=int(time.time()) + 1)
        assert daemon.pull("hotline")["outcome"] == "published"
        assert source()["unchanged_since"] != since
