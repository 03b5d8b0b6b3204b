"""`list withheld` through the real daemon: what the live version withholds, by rule and by id."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.system.daemon import USER, Daemon
from tests.system.test_explanations import LIVE, MANY, Scene, started

HITS = ("www.search.example", "mail.example")


def withheld(scene: Scene) -> dict[str, Any]:
    answer = scene.daemon.ask("list withheld", list="national")
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json
    return found


def ids(found: dict[str, Any], rule: str) -> list[str]:
    return [one["id"] for one in found["hits"].get(rule, ())]


def test_what_a_list_withholds_is_counted_by_rule_and_shown_by_id(tmp_path: Path) -> None:
    with started(tmp_path) as scene:
        assert withheld(scene) == {"list": "national", "version": 1, "withheld": {}, "hits": {}, "rolled_back": False}
        text = ("list", "withheld", "national", "-c", str(scene.daemon.path))
        assert scene.daemon.cli(*text).stdout == b"list national, version 1: withholds no entry of its sources\n"
        (tmp_path / "never.txt").write_text("search.example\nmail.example\n")
        assert scene.daemon.ask("reload").status == 200
        # a source with hits: the rest goes on, and each hit is shown by an id that can be asked about
        assert scene.pull("first", LIVE, *MANY, *HITS, "platform.example", "new.test")["outcome"] == "published"
        scene.correct("delist", LIVE)
        found = withheld(scene)
        assert found["withheld"] == {"delisted": 1, "never_block": 2, "shared_hosts": 1}
        assert (len(ids(found, "never_block")), len(ids(found, "shared_hosts"))) == (2, 1)
        assert list(found["hits"]) == ["never_block", "shared_hosts"], "delisted entries have `entry corrections`"
        for rule in found["hits"]:
            for entry in ids(found, rule):
                assert scene.explain(entry)["withheld"] == rule
        since = found["hits"]["never_block"][0]["since"]
        lines = scene.daemon.cli(*text).stdout.decode().splitlines()
        assert lines[:4] == [
            "RULE\tENTRIES\tBY ID", "delisted\t1\t", "never_block\t2\t2 of 2 shown", "shared_hosts\t1\t1 of 1 shown",
        ]  # fmt: skip
        assert f"never_block\t{since}\t{ids(found, 'never_block')[0]}" in lines
        assert json.loads(scene.daemon.cli(*text, "--json").stdout) == found
        # a hit that its source withdraws is gone; the other keeps its time
        assert scene.pull("first", LIVE, *MANY, HITS[0], "new.test")["outcome"] == "unchanged"
        later = withheld(scene)
        assert later["withheld"] == {"delisted": 1, "never_block": 1}
        (kept,) = later["hits"]["never_block"]
        assert kept in found["hits"]["never_block"]
        assert not any(name in scene.daemon.log + json.dumps([found, later]) for name in (*HITS, LIVE))


def test_the_withheld_entries_are_for_examiners_and_audited(tmp_path: Path) -> None:
    with started(tmp_path) as scene:
        scene.pull("first", LIVE, *MANY, *HITS, "platform.example", "new.test")
        done = scene.daemon.cli("list", "withheld", "national", "--show-entries", "-c", str(scene.daemon.path))
        (row,) = [line.split("\t") for line in done.stdout.decode().splitlines() if HITS[0] in line]
        assert (row[0], row[3:]) == ("never_block", ["host", HITS[0]])
        lines = [line for line in scene.daemon.ask("audit").json if line["action"] == "list withheld"]
        assert [(line["object"], line["detail"], line["actor"]) for line in lines] == [
            ("national", {"entries": 2}, USER)
        ]
        assert scene.daemon.ask("list withheld", list="other").status == 409
        scene.daemon.config["control"]["operators"] = {USER: ["reviewer", "editor"]}
        scene.daemon.write_config()
        scene.daemon.ask("reload")
        scene.daemon.wait_for(lambda: scene.daemon.ask("reload").status == 403, within=20)
        assert scene.daemon.ask("list withheld", list="national").status == 200
        refused = scene.daemon.ask("list withheld", list="national", show_entries=True)
        assert (refused.status, b"role examiner" in refused.body, b"search" in refused.body) == (409, True, False)
        scene.daemon.stop()
        scene.daemon.config["control"]["operators"] = {USER: ["examiner"]}
        scene.daemon.write_config()
        with scene.daemon:
            shown = scene.daemon.ask("list withheld", list="national", show_entries=True)
            assert HITS[0].encode() in shown.body
            assert HITS[0] not in scene.daemon.log + json.dumps(scene.daemon.ask("audit").json)


def test_what_is_withheld_of_a_divided_rollback_has_its_true_reason(tmp_path: Path) -> None:
    """The rollback adds entries back, which are held; what a rule withholds is still counted and explained."""
    with started(tmp_path) as scene:
        assert scene.pull("first", LIVE, *MANY, "mail.example", "off.test")["outcome"] == "published"
        scene.correct("delist", "off.test")
        (tmp_path / "never.txt").write_text("search.example\nmail.example\n")
        assert scene.daemon.ask("reload").status == 200
        guards = scene.daemon.config["lists"]["national"].setdefault("guards", {})
        guards |= {"max_added": "0%", "max_removed": "100%", "min_change": 0, "daily": "off"}
        scene.daemon.write_config()
        assert scene.daemon.ask("reload").status == 200
        scene.pull("first", LIVE, *MANY[1:], HITS[0], "wrong.test")
        held = scene.daemon.ask("candidate list").json
        for one in held:
            scene.daemon.approve(one["id"])
        done = scene.daemon.ask("list rollback", list="national", version=2).json
        assert (done["removed"], done["held"]) == (1, 1)
        found = withheld(scene)
        assert (found["withheld"], found["rolled_back"]) == ({"delisted": 1, "never_block": 1}, True)
        (entry,) = ids(found, "never_block")
        for name in (entry, "mail.example", HITS[0]):
            assert scene.why_not(name) == "never_block"
        assert scene.why_not("off.test") == "delisted"
        assert scene.why_not("wrong.test") == "rollback"
        assert scene.why_not(MANY[0]) == "held"
        text = scene.daemon.cli("list", "withheld", "national", "-c", str(scene.daemon.path)).stdout.decode()
        assert "has the content of an earlier version" in text
        scene.daemon.approve(done["candidate"])
        assert withheld(scene)["withheld"] == found["withheld"]


def test_addresses_of_a_guard_file_are_withheld_with_what_contains_them(tmp_path: Path) -> None:
    never = tmp_path / "never.txt"
    never.write_text("search.example\n192.0.2.7  # the portal\n2001:db8:1::/48\n")
    listed = ("192.0.2.0/24", "192.0.2.8", "198.51.100.1", "2001:db8:1::9", "2001:db8:2::/48", "64:ff9b::/96")
    (tmp_path / "list.txt").write_text("".join(f"{value}\n" for value in listed))
    source = {"url": "file:list.txt", "format": "text", "defaults": {"type": "ip"}, "verify": {"method": "none"}}
    guards = {"allow_ip": True, "never_block": ["never.txt"]}
    lists = {"national": {"sources": ["hotline"], "types": ["ip"], "guards": guards}}
    with Daemon(tmp_path, {"sources": {"hotline": source}, "lists": lists}) as daemon:
        daemon.first_pull("hotline")
        token = daemon.subscriber("isp", "national")

        def live() -> set[str]:
            lines = daemon.snapshot("national", token).splitlines()
            return {json.loads(line)["value"] for line in lines}

        assert live() == {"192.0.2.8", "198.51.100.1", "2001:db8:2::/48"}
        withheld = {"never_block": 2, "special-address": 1}
        assert daemon.ask("status").json["lists"]["national"]["withheld"] == withheld
        explained = daemon.ask("entry explain", list="national", entry="192.0.2.0/24").json
        assert explained["why_not"]["rule"] == "never_block"
        never.write_text("search.example\n198.51.100.0/24\n")
        assert daemon.ask("reload").status == 200
        daemon.wait_for(lambda: "198.51.100.1" not in live())
        assert not any(value in daemon.log for value in listed)
