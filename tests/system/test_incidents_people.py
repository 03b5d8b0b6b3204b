"""Incidents in which people act: a delisting while the source is away, decisions on what changes under the hand, and
the machine that loses power in the middle."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.sim.hotline import Fault
from tests.system.incident import Incident, domains

NAMES = domains(*(f"n{number}.example" for number in range(100)))
WRONG, NEW = domains("wrong.example"), domains("new.example")
WHY = ("--why", "ticket 31")


def delist(scene: Incident, entry: str = "wrong.example", code: int = 0) -> str:
    return scene.cli("entry", "delist", "national", "--stdin", *WHY, stdin=f"{entry}\n", code=code)


def test_a_shop_is_listed_by_mistake_while_the_hotline_is_away(incident: Callable[..., Incident]) -> None:
    scene = incident()
    isp = scene.begin(NAMES | WRONG)
    # 18:00 the hotline's server is down
    scene.hotline.fault = Fault.UNAVAILABLE
    assert "failed" in scene.pull(code=1)
    # 18:10 the shop calls
    text = delist(scene)
    (entry,) = set(re.findall(r"national: entry (e-[0-9a-f]{32}) \(domain\) is delisted", text))
    assert "(host) is delisted, too: a source may list the name as one tomorrow" in text
    assert "released as version 2" in text
    assert isp.blocks(NAMES)
    # 18:11 a second editor has the same call
    assert "nothing was changed" in delist(scene, code=1)
    # 19:00 the machine loses power; the hotline is still away
    scene.restart()
    assert isp.blocks(NAMES)
    # 09:00 the hotline is back, and lists the shop still
    scene.hotline.fault = None
    scene.pull(NAMES | WRONG | NEW)
    assert isp.blocks(NAMES | NEW)
    assert f"{entry}\tdomain\tdelisted" in scene.cli("entry", "corrections", "national")
    # 10:00 the hotline corrects it, and lists it again by the same mistake
    scene.pull(NAMES | NEW)
    scene.pull(NAMES | NEW | WRONG)
    assert isp.blocks(NAMES | NEW)
    # 11:00 the delisting was the mistake; the id is enough
    text = scene.cli("entry", "restore", "national", "--stdin", *WHY, stdin=entry)
    assert f"entry {entry} (domain) is not delisted any more\n" in text
    assert "released as version" in text
    assert isp.blocks(NAMES | NEW | WRONG)
    assert scene.cli("entry", "corrections", "national").count("\n") == 1
    audit = [line for line in json.loads(scene.cli("audit", "--json")) if entry in line["object"]]
    assert [line["action"] for line in audit] == ["entry delist", "entry restore"]
    scene.is_quiet_about("wrong.example", "new.example")


@pytest.mark.slow  # six starts of the daemon
def test_the_machine_loses_power_while_a_delisting_is_committed(incident: Callable[..., Incident]) -> None:
    scene = incident()
    isp = scene.begin(NAMES | WRONG)
    scene.hotline.fault = Fault.UNAVAILABLE
    seen = set()
    for milliseconds in (0, 15, 40, 80, 160, 400):
        version = _version(scene)
        delisting = {"list": "national", "entry": "wrong.example", "why": "ticket 31"}
        scene.daemon.kill_during("entry delist", milliseconds / 1000, **delisting)
        done = "delisted" in scene.cli("entry", "corrections", "national")
        seen.add(done)
        assert _version(scene) == version + done, "both or none"
        scene.blocked_at(isp, NAMES if done else NAMES | WRONG)
        if done:
            scene.cli("entry", "restore", "national", "--stdin", *WHY, stdin="wrong.example")
            assert isp.blocks(NAMES | WRONG)
    delist(scene)
    scene.hotline.fault = None
    scene.pull(NAMES | WRONG | NEW)
    assert isp.blocks(NAMES | NEW)


@pytest.mark.slow  # five starts of the daemon
def test_the_machine_loses_power_while_an_approval_is_committed(incident: Callable[..., Incident]) -> None:
    scene = incident()
    isp = scene.begin(NAMES)
    blocked = NAMES
    for count, milliseconds in enumerate((0, 15, 40, 80, 160), 1):
        grown = blocked | domains(*(f"s{count}-{number}.example" for number in range(len(blocked))))
        scene.pull(grown, code=4)
        held, version = scene.held, _version(scene)
        scene.daemon.kill_during("candidate approve", milliseconds / 1000, candidate=held)
        done = _version(scene) > version
        scene.blocked_at(isp, grown if done else blocked)
        state = json.loads(scene.cli("candidate", "show", held, "--json"))["state"]
        assert state == ("released" if done else "held"), "decided and live, or neither"
        approved = [line for line in json.loads(scene.cli("audit", "--json")) if line["object"] == held]
        assert len(approved) == done
        if not done:
            scene.cli("candidate", "approve", held)
        assert isp.blocks(grown)
        assert scene.holds_nothing
        blocked = grown


def test_a_candidate_changes_under_the_hand_of_the_reviewer(incident: Callable[..., Incident]) -> None:
    scene = incident()
    isp = scene.begin(NAMES | WRONG)
    big = domains(*(f"b{number}.example" for number in range(50)))
    # 10:00 a large update is held; a reviewer reads it
    scene.pull(NAMES | WRONG | big, code=4)
    read = scene.held
    scene.cli("candidate", "show", read)
    # 10:10 the hotline adds one name more
    scene.pull(NAMES | WRONG | big | NEW, code=4)
    newer = scene.held
    # 10:11 the reviewer approves what was read
    text = scene.cli("candidate", "approve", read, code=1)
    assert f"candidate {read} is superseded" in text, text
    assert isp.blocks(NAMES | WRONG)
    # 10:15 a reviewer reads the newer one; meanwhile an editor takes an entry out
    delist(scene)
    assert isp.blocks(NAMES)
    # 10:16 what the newer one adds is the same on the newer version
    assert "released as version 3" in scene.cli("candidate", "approve", newer)
    assert isp.blocks(NAMES | big | NEW)
    # 11:00 the next large update would remove names, one of which an editor delists while it is read
    scene.pull(NAMES | WRONG, code=4)
    read = scene.held
    delist(scene, "b1.example")
    assert isp.blocks((NAMES | big | NEW) - domains("b1.example"))
    # 11:05 now it removes one name less: that is another difference than the one that was read
    text = scene.cli("candidate", "approve", read, code=4)
    newer = scene.held
    assert f"{read} was not released" in text
    assert f"candidate show {newer}" in text
    assert isp.blocks((NAMES | big | NEW) - domains("b1.example"))
    # 11:10
    assert "removed\t50" in scene.cli("candidate", "show", newer)
    scene.cli("candidate", "approve", newer)
    assert isp.blocks(NAMES)
    # 11:15 twice is once
    assert "released" in scene.cli("candidate", "approve", newer, code=1)
    assert "there is no such candidate" in scene.cli("candidate", "approve", "c-000000000000", code=1)
    assert scene.holds_nothing


def test_an_entry_is_delisted_out_of_a_held_update(incident: Callable[..., Incident]) -> None:
    """It is not live yet: the message leads to the candidate, and an embargo keeps it out when the rest is approved."""
    scene = incident()
    isp = scene.begin(NAMES)
    big = domains(*(f"b{number}.example" for number in range(50)))
    scene.pull(NAMES | big | WRONG, code=4)
    held = scene.held
    assert f"held in candidate {held}" in delist(scene, code=1)
    text = scene.cli(
        *("entry", "embargo", "national", "--stdin", *WHY, "--until", "7d", "--owner", "unit 4"), stdin="wrong.example"
    )
    assert "no version was made" in text
    # what the reviewer read had one name more: another difference
    assert "was not released" in scene.cli("candidate", "approve", held, code=4)
    assert isp.blocks(NAMES)
    scene.cli("candidate", "approve", scene.held)
    assert isp.blocks(NAMES | big)


def test_an_administrator_takes_the_wrong_source_out_of_a_list(incident: Callable[..., Incident]) -> None:
    """In a list, or in quarantine, or with one figure too many: the list is not shorter until a person says so."""
    scene = incident()
    register = domains(*(f"r{number}.example" for number in range(60)))
    (scene.folder / "register.txt").write_text("".join(f"{name}\n" for _, name in register))
    config = scene.daemon.config
    config["sources"]["register"] = {
        "url": "file:register.txt",
        "format": "text",
        "defaults": {"type": "domain"},
        "verify": {"method": "none"},
        "schedule": "every 1d",
    }
    national: dict[str, Any] = config["lists"]["national"]
    national["sources"] = ["hotline", "register"]
    scene.daemon.write_config()
    isp = scene.begin(NAMES, also=register)
    for hour, mistake in ((10, {"sources": ["hotline"]}), (11, {"quorum": 2}), (12, {"types": ["url"]})):
        config["lists"]["national"] = national | mistake
        scene.daemon.write_config()
        scene.cli("reload")
        scene.daemon.wait_for(lambda: not scene.holds_nothing)
        shown = scene.cli("candidate", "show", scene.held)
        assert "kind\tpolicy" in shown, hour
        assert "max_removed: found " in shown
        assert isp.blocks(NAMES | register), "the configuration before stays in force"
        # a machine that starts again, and a pull, release nothing either
        scene.restart()
        scene.pull(NAMES, code=0)
        assert isp.blocks(NAMES | register)
        # the administrator corrects it
        config["lists"]["national"] = national
        scene.daemon.write_config()
        scene.cli("reload")
        scene.daemon.wait_for(lambda: scene.holds_nothing)
        assert isp.blocks(NAMES | register)
    # 13:00 the quarantine of the register
    config["sources"]["register"]["quarantine"] = True
    scene.daemon.write_config()
    scene.cli("reload")
    scene.daemon.wait_for(lambda: not scene.holds_nothing)
    assert isp.blocks(NAMES | register)
    scene.cli("candidate", "approve", scene.held)
    assert isp.blocks(NAMES)


def test_a_wrong_list_within_the_guards_is_rolled_back(incident: Callable[..., Incident]) -> None:
    scene = incident()
    isp = scene.begin(NAMES)
    wrong = domains(*(f"w{number}.example" for number in range(9)))
    gone = set(sorted(NAMES)[:8])
    # 10:00 the hotline sends the list of another customer: too little for a guard
    scene.pull((NAMES - gone) | wrong)
    assert isp.blocks((NAMES - gone) | wrong)
    # 10:05 the calls begin; an editor takes it all back
    text = scene.cli("list", "rollback", "national", "1", "--why", "a wrong list")
    assert "version 3 with the content of version 1: 8 added, 9 removed" in text
    assert "blocklistd list resume national" in text
    assert isp.blocks(NAMES)
    # 10:06 the schedule pulls the same list again: it brings nothing back
    text = scene.pull(code=4)
    assert "rolled back to version 1: a wrong list" in text, text
    assert scene.holds_nothing
    # 10:10 the machine loses power
    scene.restart()
    assert "list national has been frozen since" in scene.cli("status")
    scene.pull((NAMES - gone) | wrong | NEW, code=4)
    scene.blocked_at(isp, NAMES)
    # 10:20 one of the names that are back was never right
    delist(scene, "n5.example")
    assert isp.blocks(NAMES - domains("n5.example"))
    # 11:00 the hotline has corrected its list
    scene.pull(NAMES | NEW, code=4)
    assert isp.blocks(NAMES - domains("n5.example"))
    assert "resumed; version 5 is live" in scene.cli("list", "resume", "national")
    assert isp.blocks((NAMES | NEW) - domains("n5.example"))
    scene.is_quiet_about("w1.example", "n5.example")


@pytest.mark.slow  # five starts of the daemon
def test_the_machine_loses_power_while_a_rollback_is_committed(incident: Callable[..., Incident]) -> None:
    scene = incident()
    isp = scene.begin(NAMES)
    changed = (NAMES - set(sorted(NAMES)[:5])) | NEW
    scene.pull(changed)
    for milliseconds in (0, 30, 100, 300, 60_000):
        version = _version(scene)
        # the last one ends before
        scene.daemon.kill_during("list rollback", milliseconds / 1000, list="national", version=1)
        done = _version(scene) > version
        scene.blocked_at(isp, NAMES if done else changed)
        frozen = scene.daemon.ask("status").json["lists"]["national"]["frozen"]
        assert (frozen is not None) is done, "rolled back and frozen, or neither"
        if done:
            assert "rolled back to version 1" in scene.pull(code=4)
            scene.cli("list", "resume", "national")
        assert isp.blocks(changed)


def test_a_shop_in_an_update_of_fifty_names(incident: Callable[..., Incident]) -> None:
    """The reviewer approves the update without it, and whoever asks for it is told why."""
    scene = incident()
    isp = scene.begin(NAMES)
    big = domains(*(f"b{number}.example" for number in range(50)))
    scene.pull(NAMES | big | WRONG, code=4)
    held = scene.held
    # 10:00 the shop calls: the editor asks for its id
    shown = scene.cli("entry", "explain", "national", "--stdin", stdin="wrong.example")
    entry = re.findall("e-[0-9a-f]{32}", shown)[0]
    assert held in shown
    assert "wrong.example" not in shown
    # 10:05 two mistakes of a tired reviewer: another id, and the name itself
    for given, code in (("e-" + "0" * 32, 1), ("wrong.example", 2)):
        text = scene.cli("candidate", "approve", held, "--except", given, code=code)
        assert "e-" in text
        assert isp.blocks(NAMES)
    # 10:06
    text = scene.cli("candidate", "approve", held, "--except", entry)
    assert "released as version 2" in text
    assert entry in text
    assert isp.blocks(NAMES | big)
    assert f"{entry}\tdomain\texcepted" in scene.cli("entry", "corrections", "national")
    # 12:00 the hotline goes on asserting it
    scene.pull(NAMES | big | WRONG | NEW)
    assert isp.blocks(NAMES | big | NEW)
    assert "excepted" in scene.cli("entry", "explain", "national", "--stdin", stdin="wrong.example")
    scene.is_quiet_about("wrong.example")


def _version(scene: Incident) -> int:
    return int(json.loads(scene.cli("status", "--json"))["lists"]["national"]["version"])
