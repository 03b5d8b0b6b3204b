"""A hotline that publishes adds and removes: the daemon reads its log on, and has what the log says."""

from __future__ import annotations

import json
from pathlib import Path

from tests.sim.files import FileServer, in_thread
from tests.system.daemon import Daemon

FIELDS = {"value": "/DomainAddress", "ref": "/RegisterPositionId", "action": "/ActionType"}
GUARDS = {"max_added": "100%", "max_removed": "100%", "max_rejected": "50%", "daily": "off"}


def row(ref: int, name: str, action: str) -> str:
    return json.dumps({"RegisterPositionId": ref, "DomainAddress": name, "ActionType": action}) + "\n"


def test_a_log_is_read_on_through_rewriting_restart_and_damage(tmp_path: Path) -> None:
    served = tmp_path / "served"
    served.mkdir()
    log = served / "actions.log"
    with in_thread(FileServer(served).serve()) as server:
        source = {
            "url": f"{server.url}/actions.log",
            "format": "action-log",
            "fields": FIELDS,
            "defaults": {"type": "domain"},
            "schedule": "every 1d",
            "verify": {"method": "none"},
        }
        lists = {"national": {"sources": ["hotline"], "guards": GUARDS}}
        daemon = Daemon(tmp_path, {"sources": {"hotline": source}, "lists": lists})
        rows = [row(number, f"n{number}.example", "block") for number in range(200)]

        def live(token: str) -> set[str]:
            return {json.loads(line)["value"] for line in daemon.snapshot("national", token).splitlines()}

        def pull(append: str, outcome: str = "published") -> int:
            """The bytes that the server has sent for the pull."""
            with open(log, "a") as file:
                file.write(append)
            server.requests.clear()
            pulled = daemon.pull("hotline")
            assert pulled["outcome"] == outcome, pulled
            return sum(seen.sent for seen in server.requests)

        log.write_text("".join(rows))
        names = {f"n{number}.example" for number in range(200)}
        with daemon:
            daemon.first_pull("hotline")
            token = daemon.subscriber("isp", "national")
            assert live(token) == names
            assert pull("", "unchanged") < 5000
            assert pull(row(0, "n0.example", "unblock") + row(200, "n1.example", "block")) < 5000
            assert live(token) == (names := names - {"n0.example"})
            assert pull(row(1, "n1.example", "unblock") + '{"RegisterPositionId":') < 5000
            assert live(token) == names, "n1.example is open under 200"
            assert pull('201,"DomainAddress":"new.example","ActionType":"block"}\nnot JSON\n') < 5000
            assert live(token) == (names := names | {"new.example"})
            assert daemon.ask("source show", source="hotline").json["rejected"] == {"not-json": 1}

        with daemon:
            assert pull(row(202, "newer.example", "block")) < 5000
            assert live(token) == (names := names | {"newer.example"})
            assert daemon.ask("source show", source="hotline").json["rejected"] == {"not-json": 1}

            log.write_text(log.read_text().replace("newer", "other"))
            assert pull("") > 5000
            assert live(token) == (names := names - {"newer.example"} | {"other.example"})

            log.write_text("")
            failed = daemon.pull("hotline")
            assert failed["outcome"] == "failed"
            assert "an empty body" in failed["reason"]
            assert live(token) == names
            log.write_text("".join(rows))
            assert pull("") > 5000
            assert live(token) == {f"n{number}.example" for number in range(200)}
        assert "n1.example" not in daemon.log
