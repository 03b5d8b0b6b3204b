"""The job that brings a zone to its list's version: its sealed delta, and what it does about damaged files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import dns.message
import dns.name
import pytest
from sqlalchemy import update

from blocklistd.errors import DamagedError
from blocklistd.lines.snapshot import changed_lines
from blocklistd.model import Sha256
from blocklistd.pipeline import zone_job
from blocklistd.pipeline.zone_completion import compile_all
from blocklistd.pipeline.zone_job import advance, advance_all
from blocklistd.rpz.rules import name_of
from blocklistd.rpz.wire import Apex, compile_rules, messages, wire_name
from blocklistd.rpz.zonemd import zone_digest
from blocklistd.store import ixfr, zone_files
from blocklistd.store.ixfr import deltas_from_serial, ixfr_path, read_ixfr, write_ixfr
from blocklistd.store.schema_served import zone_serials
from blocklistd.store.verified import Verified
from blocklistd.store.zones import (
    ZonePlan,
    ZoneSerial,
    drop_zone_delta,
    newest_serial,
    oldest_ixfr,
    prune_zone,
    zone_at,
)
from tests.damage import flip_a_bit
from tests.versions_of import LIST, NOW, Versions

ZONE = "rpz.blocklist.example"
ORIGIN = dns.name.from_text(ZONE)
APEX = Apex(ZONE, "localhost", "h.invalid", 60, 30, 600, 60, ("localhost",))
PLAN = ZonePlan(ZONE, LIST, (), ".", 60, APEX, 1)
NAMES = [f"n{number}.example" for number in range(40)]


@pytest.fixture(autouse=True, params=["at once", "deferred"])
def compiling(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the messages of an updated serial are compiled."""
    if request.param == "deferred":
        monkeypatch.setattr(zone_job, "DEFERRED", 0)


def publish(versions: Versions, *names: str, plan: ZonePlan = PLAN) -> ZoneSerial:
    """A version of these names, and the zone's serial then."""
    versions.publish(versions.seal(names))
    return bring(versions, plan=plan)


def bring(versions: Versions, *, remake: bool = False, plan: ZonePlan = PLAN) -> ZoneSerial:
    answer = advance(versions.store, plan, NOW, remake, {})
    with versions.database.read() as connection:
        found = newest_serial(connection, ZONE)
    assert found is not None
    assert found.serial == answer["serial"]
    for digest in [*found.digests, *([found.delta] if found.delta else [])]:
        assert versions.store.sealed.is_intact(digest)
    known = Verified(versions.store.sealed, answer["verified"])
    for digest in answer["verified"]:
        assert (digest not in known.suspects()) == versions.store.sealed.is_intact(digest)
    return found


def read(versions: Versions, digest: Sha256 | None) -> bytes:
    assert digest is not None
    return versions.store.sealed.path(digest).read_bytes()


def is_made_of_the_list(versions: Versions, serial: ZoneSerial) -> bool:
    state = versions.state
    assert state.live is not None
    made = zone_files.make_zone_files(versions.store.sealed, PLAN.ruling, state.live.sha256, state.ids)
    return made == serial.files and serial.version == state.live.version


def test_a_serial_names_its_sealed_delta_of_rules(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    first = publish(versions, "a.example", "b.example")
    assert (first.serial, first.delta, first.added, first.removed) == (1, None, 0, 0)
    second = publish(versions, "b.example", "c.example")
    assert (second.serial, second.added, second.removed) == (2, 2, 2)
    assert read(versions, second.delta) == b"-example\0a\n-example\0a\0*\n+example\0c\n+example\0c\0*\n"
    versions.close()


def test_a_changed_apex_is_a_serial_with_an_empty_delta(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    publish(versions, "a.example")
    plan = ZonePlan(ZONE, LIST, (), ".", 60, Apex(ZONE, "m.invalid", "h.invalid", 60, 30, 600, 60, ("localhost",)), 1)
    found = bring(versions, plan=plan)
    assert (found.serial, read(versions, found.delta)) == (2, b"")
    versions.close()


def test_each_serial_has_a_digest_of_its_own_while_zonemd_is_configured(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    with_zonemd = replace(PLAN, apex=replace(APEX, zonemd=True))
    assert publish(versions, "a.example").zonemd is None
    on = bring(versions, plan=with_zonemd)
    assert (on.serial, read(versions, on.delta)) == (2, b"")
    digest = zone_digest(APEX, 2, read(versions, on.rules).splitlines(), PLAN.ruling.action)
    assert (on.zonemd, on.plan.apex.digest) == (digest, digest)
    kept = publish(versions, "a.example", "b.a.example", plan=with_zonemd)
    assert (kept.serial, kept.zonemd) == (2, digest), "no rule has changed"
    assert bring(versions, remake=True, plan=with_zonemd).zonemd == digest
    more = publish(versions, "a.example", "b.example", plan=with_zonemd)
    assert more.zonemd == zone_digest(APEX, 3, read(versions, more.rules).splitlines(), PLAN.ruling.action)
    off = bring(versions)
    assert (off.serial, off.zonemd, off.plan.apex) == (4, None, APEX)
    versions.close()


def test_a_version_that_changes_no_rule_keeps_the_serial(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    publish(versions, "a.example")
    found = publish(versions, "a.example", "b.a.example")
    assert (found.serial, found.version, found.covered) == (1, 2, 1)
    assert is_made_of_the_list(versions, found)
    versions.close()


def test_a_change_that_is_followed_and_one_that_is_not_make_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed, made = Versions(tmp_path / "followed"), Versions(tmp_path / "made")
    publish(followed, *NAMES)
    publish(made, *NAMES)
    after = [*NAMES[10:], "x.n12.example", "y.example"]
    one = publish(followed, *after)
    monkeypatch.setattr(zone_job, "UPDATE_ALWAYS", 0)
    monkeypatch.setattr(zone_job, "change_of_zone", None)  # it is not called
    other = publish(made, *after)
    assert (one.delta, one.added, one.removed) == (other.delta, other.added, other.removed)
    assert (one.rules, one.wire, one.names, one.covered) == (other.rules, other.wire, other.names, other.covered)
    followed.close()
    made.close()


@pytest.mark.parametrize("file", ["names", "rules", "wire"])
def test_a_flipped_bit_in_a_file_of_the_zone_is_not_copied_on(tmp_path: Path, file: str) -> None:
    versions = Versions(tmp_path)
    first = publish(versions, *NAMES)
    flip_a_bit(versions.store.sealed.path(getattr(first, file)))
    found = publish(versions, *NAMES, "new.example")
    assert found.serial == 2
    assert is_made_of_the_list(versions, found)
    assert (found.delta is None) == (file == "rules"), "no delta from rules that are lost"
    assert publish(versions, *NAMES).delta is not None
    versions.close()


@pytest.mark.parametrize("file", ["names", "rules", "wire"])
def test_a_damaged_file_that_is_made_again_keeps_the_serial(tmp_path: Path, file: str) -> None:
    versions = Versions(tmp_path)
    publish(versions, *NAMES)
    before = publish(versions, *NAMES[1:])
    flip_a_bit(versions.store.sealed.path(getattr(before, file)))
    assert bring(versions, remake=True) == before
    versions.close()


LOST = ("", "wire", "delta", "names", "rules", "list's delta")


@pytest.mark.parametrize("moves_on", [False, True])
@pytest.mark.parametrize("lost", LOST)
@pytest.mark.parametrize("zonemd", [False, True])
def test_a_serial_that_a_crash_left_without_files_gets_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str, moves_on: bool, zonemd: bool
) -> None:
    """`lost`: a file that the row of that serial names, the messages of the one before, or the list's delta."""
    monkeypatch.setattr(zone_job, "DEFERRED", 0)
    plan = replace(PLAN, apex=replace(APEX, zonemd=zonemd))
    versions = Versions(tmp_path)
    first = publish(versions, *NAMES, plan=plan)
    versions.publish(versions.seal([*NAMES[1:], "new.example"]))
    advance_all(versions.store, [plan], NOW, (), {})
    with versions.database.read() as connection:
        left = newest_serial(connection, ZONE)
    assert left is not None
    assert (left.serial, left.is_compiled, left.wire) == (2, False, left.rules)
    assert (left.rules == first.rules, left.names == first.names) == (not zonemd, not zonemd)
    live = versions.state.live
    assert live is not None
    digests = {"wire": first.wire, "list's delta": live.delta}
    digest = digests.get(lost) or getattr(left, lost, None)
    if digest is not None:
        versions.store.sealed.path(digest).unlink()
    if moves_on:
        versions.publish(versions.seal([*NAMES[2:], "new.example", "newer.example"]))
    elif lost == "delta" and digest is not None:  # a repair drops it
        with versions.database.write() as connection:
            drop_zone_delta(connection, digest)
    found = bring(versions, remake=not moves_on and lost in ("names", "rules"), plan=plan)
    assert found.serial == (3 if moves_on else 2)
    assert is_made_of_the_list(versions, found) or (lost == "list's delta" and found.names is None)
    without_rules = lost == "rules" or (lost == "delta" and not zonemd)
    dropped = not moves_on and lost == "delta"
    assert (found.delta is None) == (dropped or (moves_on and without_rules)), "no delta from rules that are lost"
    if found.delta is not None:
        assert read(versions, found.delta) == (
            b"-example\0n1\n-example\0n1\0*\n+example\0newer\n+example\0newer\0*\n"
            if moves_on
            else b"-example\0n0\n-example\0n0\0*\n+example\0new\n+example\0new\0*\n"
        )
    versions.close()


def test_zones_whose_files_are_written_later_share_their_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zone_job, "DEFERRED", 0)
    versions = Versions(tmp_path)
    plans = [PLAN, replace(PLAN, name=f"other.{ZONE}", target="*.")]
    calls: list[Sha256] = []
    sealing = zone_files._seal

    def seal(*of: Any) -> Sha256:
        calls.append(sealing(*of))
        return calls[-1]

    for names in (NAMES, NAMES[1:], [*NAMES[2:], "new.example"]):
        versions.publish(versions.seal(names))
        advance_all(versions.store, plans, NOW, (), {})
        calls.clear()
        with monkeypatch.context() as patch:
            patch.setattr(zone_files, "_seal", seal)
            compile_all(versions.store, [plan.name for plan in plans], {})
        if names is not NAMES:
            assert len(calls) == 4, "names and rules once, and the messages of each zone"
    with versions.database.read() as connection:
        one, other = (newest_serial(connection, plan.name) for plan in plans)
    assert one is not None
    assert other is not None
    assert (one.names, one.rules, one.records) == (other.names, other.rules, other.records)
    assert one.wire != other.wire
    assert is_made_of_the_list(versions, one)
    versions.close()


def test_a_flipped_bit_in_the_lists_delta_is_not_copied_on(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    publish(versions, *NAMES)
    versions.publish(versions.seal([*NAMES, "new.example"]))
    live = versions.state.live
    assert live is not None
    assert live.delta is not None
    flip_a_bit(versions.store.sealed.path(live.delta))
    found = bring(versions)
    assert (found.serial, found.added, found.removed) == (2, 2, 0)
    assert is_made_of_the_list(versions, found)
    versions.close()


def test_no_zone_is_made_from_a_damaged_snapshot(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    before = publish(versions, *NAMES)
    versions.publish(versions.seal(["a.example"]))
    live = versions.state.live
    assert live is not None
    flip_a_bit(versions.store.sealed.path(live.sha256))
    with pytest.raises(DamagedError, match=live.sha256):
        advance(versions.store, PLAN, NOW, True, {})
    with versions.database.read() as connection:
        assert newest_serial(connection, ZONE) == before
    versions.close()


def test_a_fingerprint_that_is_no_longer_right_is_not_believed(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    versions.publish(versions.seal(NAMES))
    known = advance(versions.store, PLAN, NOW, False, {})["verified"]
    with versions.database.read() as connection:
        first = newest_serial(connection, ZONE)
    assert first is not None
    assert set(first.digests) <= known.keys()
    flip_a_bit(versions.store.sealed.path(first.rules))
    versions.publish(versions.seal([*NAMES, "new.example"]))
    advance(versions.store, PLAN, NOW, False, known)
    assert is_made_of_the_list(versions, bring(versions))
    versions.close()


# -- differences -------------------------------------------------------------------------------------------------------


def difference(versions: Versions, start: int, end: int) -> tuple[list[bytes], list[bytes]]:
    """The rules that a difference removes and adds: those that lie between the rules' files."""
    with versions.database.read() as connection:
        old, new = zone_at(connection, ZONE, start), zone_at(connection, ZONE, end)
    assert old is not None
    assert new is not None
    return changed_lines(read(versions, old.rules), read(versions, new.rules))


def write(versions: Versions, start: int, end: int, most: int = 1000) -> str | None:
    """The fingerprint of the file of a difference."""
    with versions.database.read() as connection:
        way = deltas_from_serial(connection, ZONE, start, end)
    assert way is not None
    answer = write_ixfr(versions.store, PLAN, start, end, way.deltas, most, {}, alone=True)
    found: str | None = answer["fingerprint"]
    return found


@pytest.mark.parametrize("part", [4 << 20, 300])
def test_a_difference_is_the_net_of_the_sealed_deltas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    monkeypatch.setattr(ixfr, "PART", part)
    versions = Versions(tmp_path)
    for names in (NAMES, NAMES[5:], [*NAMES, "new.example"], [*NAMES[3:], "x.new.example"], NAMES[1:]):
        publish(versions, *names)
    zone, action = wire_name(ZONE), PLAN.ruling.action
    for start in range(1, 5):
        for end in range(start + 1, 6):
            known = write(versions, start, end)
            assert known is not None
            found = read_ixfr(ixfr_path(versions.store, ZONE, start, end), known)
            assert found is not None
            removes, adds = difference(versions, start, end)
            for compiled, rules, lead in zip(found, (removes, adds), (b"", APEX.soa(end)), strict=True):
                if part > 300:
                    assert compiled == b"".join(compile_rules(rules, zone, action, lead=lead)), (start, end)
                assert records(compiled) == ([ORIGIN] if lead and rules else []) + list(map(owner, rules)), (start, end)
            assert write(versions, start, end, len(removes) + len(adds) - 1) is None
    versions.close()


def records(compiled: bytes) -> list[dns.name.Name]:
    """The owners of compiled records."""
    read = [dns.message.from_wire(bytes(message), one_rr_per_rrset=True) for message in messages(compiled)]
    return [rrset.name for message in read for rrset in message.answer]


def owner(rule: bytes) -> dns.name.Name:
    return dns.name.from_text(name_of(rule).decode(), ORIGIN)


def test_no_difference_is_made_from_a_damaged_delta(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    for names in (NAMES, NAMES[5:], NAMES[1:]):
        last = publish(versions, *names)
    assert last.delta is not None
    flip_a_bit(versions.store.sealed.path(last.delta))
    with pytest.raises(DamagedError, match=last.delta):
        write(versions, 1, 3)
    assert not ixfr_path(versions.store, ZONE, 1, 3).exists()
    versions.close()


def test_no_difference_starts_from_a_pruned_serial(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    for names in (NAMES, NAMES[1:], NAMES[2:], NAMES[3:]):
        publish(versions, *names)
    with versions.database.write() as connection:
        assert oldest_ixfr(connection, ZONE) == 1
        prune_zone(connection, ZONE, 3)
        assert oldest_ixfr(connection, ZONE) == 3
        assert deltas_from_serial(connection, ZONE, 2, 4) is None
        assert deltas_from_serial(connection, ZONE, 3, 4) is not None
        connection.execute(update(zone_serials).where(zone_serials.c.serial == 4).values(serial=10))
        assert deltas_from_serial(connection, ZONE, 5, 10) is None, "nobody ever had that serial"
    versions.close()
