"""Test entries come and go with the configuration alone, and are in the feed, its diffs, its exports and every zone."""

from __future__ import annotations

import json
from pathlib import Path

import dns.name

from tests.system.test_zones import ZONE, Scene, Secondary

HOST = "blocktest.isp.example"
SELECTED = "selected.blocklist.example"


def test_a_reload_adds_and_removes_a_test_entry(tmp_path: Path) -> None:
    (tmp_path / "never").write_text("isp.example\n")
    scene = Scene(tmp_path)
    daemon, national = scene.daemon, scene.daemon.config["lists"]["national"]
    daemon.config["zones"][SELECTED] = {"list": "national", "categories": ["A"]}
    national["guards"] |= {"min_change": 0, "max_added": "0%", "max_removed": "0%", "daily": "off"}
    national["guards"] |= {"never_block": [str(tmp_path / "never")]}
    scene.write("a.example", hosts=("b.example", HOST))  # the source lists the host, too

    def version() -> int:
        found: int = daemon.ask("status").json["lists"]["national"]["version"]
        return found

    def reload(*hosts: str) -> None:
        before = version()
        national["test_entries"] = list(hosts)
        daemon.write_config()
        answer = daemon.ask("reload").json
        assert answer["errors"] == []
        line = daemon.ask("audit", last=1).json[0]
        assert (line["action"], "lists.national.test_entries" in line["detail"]["changed"]) == ("reload", True)
        assert "blocktest" not in json.dumps(line)
        daemon.wait_for(lambda: version() > before)

    daemon.write_config()
    with daemon:
        daemon.first_pull("hotline")
        token = daemon.subscriber("reader", "national")
        made = scene.subscriber("resolver", zones=[ZONE, SELECTED])
        plain, selected = (
            Secondary(scene.port, scene.key(made), dns.name.from_text(zone)) for zone in (ZONE, SELECTED)
        )

        def export(name: str) -> str:
            return daemon.get(f"/v1/lists/national/export/{name}", token).body.decode()

        def explained() -> dict[str, object]:
            found: dict[str, object] = daemon.ask("entry explain", list="national", entry=HOST).json
            return found

        before = daemon.snapshot("national", token)
        withheld = daemon.ask("status").json["lists"]["national"]["withheld"]
        assert (HOST.encode() in before, withheld) == (False, {"never_block": 1})

        reload("BlockTest.isp.example")
        assert daemon.ask("candidate list").json == []
        line = f'{{"type":"host","value":"{HOST}","id":"{explained()["id"]}","test":true}}\n'.encode()
        after = daemon.snapshot("national", token)
        assert sorted([*before.splitlines(keepends=True), line]) == after.splitlines(keepends=True)
        diff = daemon.get("/v1/lists/national/diffs/1-2", token)
        assert diff.body == b'{"add":' + line.removesuffix(b"\n") + b"}\n"
        daemon.wait_for(lambda: HOST in export("hosts"))
        assert HOST in export("rpz")
        daemon.wait_for(lambda: plain.refresh() > 0 and HOST in plain.rules)
        daemon.wait_for(lambda: selected.refresh() > 0 and selected.rules == {"a.example", "*.a.example", HOST})
        answer = explained()
        assert (answer["test"], answer["live"], answer["withheld"]) == (True, True, None)
        explain = "entry", "explain", "national", "--stdin", "-c", str(daemon.path)
        shown = daemon.cli(*explain, stdin=HOST.encode()).stdout.decode()
        assert "a test entry of the configuration" in shown
        assert daemon.ask("status").json["lists"]["national"]["withheld"] == {}

        why = {"list": "national", "entry": HOST, "why": "it is in use"}
        assert daemon.ask("entry delist", **why).status == 200
        assert daemon.snapshot("national", token) == before
        answer = explained()
        assert (answer["test"], answer["live"], answer["withheld"]) == (True, False, "delisted")
        assert daemon.ask("entry restore", **why).status == 200
        assert daemon.snapshot("national", token) == after

        reload()
        assert daemon.ask("candidate list").json == []
        assert daemon.snapshot("national", token) == before
        assert daemon.ask("status").json["lists"]["national"]["withheld"] == {"never_block": 1}
        daemon.wait_for(lambda: HOST not in export("hosts"))
        daemon.wait_for(
            lambda: HOST not in [*plain.rules, *selected.rules] or not (plain.refresh() + selected.refresh())
        )
