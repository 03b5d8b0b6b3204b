"""The laws of zones: a zone blocks what its list blocks; transfers make the new serial exactly; no message raises."""

from __future__ import annotations

import ipaddress
import random
import struct
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import dns.message
import dns.name
import dns.rdatatype
import dns.xfr
import dns.zone
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocklistd.compose.compose import with_id
from blocklistd.lines.ids import BLAKE2B, Ids
from blocklistd.lines.snapshot import changed_lines, lines, splice
from blocklistd.model import Entry, ListId, Sha256
from blocklistd.rpz import shards as shards_module
from blocklistd.rpz.addresses import ip_of_owner
from blocklistd.rpz.rules import ZoneRules, entries_of, name_of, names, rule_of, rules, rules_in_blocks, update_rules
from blocklistd.rpz.shards import spread
from blocklistd.rpz.wire import Action, Apex, compile_rules, messages, recompile, wire_name
from blocklistd.rpz.zonemd import zone_digest
from blocklistd.serve.dns import message as dm
from blocklistd.serve.dns.query import Reply, Transfer, respond
from blocklistd.serve.dns.transfer import Stream, axfr, is_newer, ixfr, unwrap_serial
from blocklistd.serve.dns.tsig import Key, Signer
from blocklistd.serve.dns.zones import Peer, Zones, ZoneView
from blocklistd.store import zone_files
from blocklistd.store.files import SealedFiles
from blocklistd.store.zones import ZonePlan
from tests.examples import examples

ZONE = "rpz.blocklist.example"
ORIGIN = dns.name.from_text(ZONE)
ACTION = Action(b"\0", 60)
PLAN = ZonePlan(
    ZONE, ListId("l"), (), ".", 60, Apex(ZONE, "localhost", "h.invalid", 60, 30, 600, 60, ("localhost",)), 1
)
KEY = Key(wire_name("isp"), "hmac-sha256", b"k" * 32)
IDS = Ids(BLAKE2B, b"s" * 32)

label = st.sampled_from(["a", "b", "c", "a-", "_x", "zz", "0"])
some_names = st.lists(label, min_size=1, max_size=5).map(".".join)
servers = st.lists(st.sampled_from(["localhost", "ns1.example", "ns2.example"]), min_size=1, unique=True).map(tuple)
prefixes = st.sampled_from(
    [
        *("198.51.0.0/16", "198.51.100.0/24", "198.51.100.0/25", "198.51.100.128/25", "198.51.100.7", "198.51.9.0/24"),
        *("192.0.2.1", "192.0.2.10", "192.0.2.2", "203.0.113.0/30", "203.0.113.2/31", "203.0.113.3"),
        *("2001:db8::/32", "2001:db8::/48", "2001:db8::1", "2001:db8:0:1::/64", "2001:db8:1::", "2001:db8:1::/127"),
    ]
)
listed_names = st.dictionaries(some_names, st.sampled_from(["host", "domain"]), max_size=12)
listed_addresses = st.dictionaries(prefixes, st.just("ip"), max_size=8)
listed = st.builds(lambda some, more: some | more, listed_names, listed_addresses)


def snapshot(entries: dict[str, str]) -> bytes:
    lines = sorted(f'{{"type":"{kind}","value":"{name}","id":"e-{name}"}}'.encode() for name, kind in entries.items())
    return b"".join(line + b"\n" for line in lines)


def rules_of(entries: dict[str, str], zone: str = ZONE) -> ZoneRules:
    return rules(names(lines(snapshot(entries))), zone)


def list_blocks(entries: dict[str, str], name: str) -> bool:
    """A plain model of a list: a host blocks its name, a domain blocks its name and all names below."""
    if entries.get(name) is not None:
        return True
    labels = name.split(".")
    return any(entries.get(".".join(labels[start:])) == "domain" for start in range(1, len(labels)))


def zone_blocks(zone: set[str], name: str) -> bool:
    """A plain model of a policy zone by the closest encloser (RFC 4592 section 3.3.1): a name that does not exist is
    blocked if its longest existing ancestor has a wildcard. Empty non-terminals exist."""
    if name in zone:
        return True
    existing = {".".join(owner.split(".")[start:]) for owner in zone for start in range(owner.count(".") + 1)} | {""}
    if name in existing:
        return False
    labels = name.split(".")
    for start in range(1, len(labels) + 1):
        encloser = ".".join(labels[start:])
        if encloser in existing:
            return (f"*.{encloser}" if encloser else "*") in zone
    return False


@settings(max_examples=examples(300), deadline=None)
@given(listed_names, st.lists(some_names, min_size=1, max_size=12))
def test_a_zone_blocks_exactly_the_names_that_the_list_blocks(entries: dict[str, str], asked: list[str]) -> None:
    made = rules_of(entries)
    zone = {name_of(rule).decode() for rule in made.lines}
    assert len(zone) == len(made.lines), "no owner twice"
    assert made.lines == sorted(made.lines)
    near = {f"{prefix}{name}" for name in entries for prefix in ("", "a.", "b.zz.")}
    for name in {*asked, *near}:
        assert zone_blocks(zone, name) == list_blocks(entries, name), name
    assert made.omitted == []
    domains = sum(kind == "domain" for kind in entries.values())
    assert made.covered <= len(entries)
    assert len(made.lines) <= len(entries) + domains


@settings(max_examples=examples(300), deadline=None)
@given(listed, st.lists(prefixes, max_size=6))
def test_a_zone_blocks_exactly_the_addresses_that_the_list_blocks(entries: dict[str, str], asked: list[str]) -> None:
    """A resolver takes the rule with the longest prefix that contains the address; here all have one action."""
    made = rules_of(entries)
    assert made.lines == sorted(set(made.lines)), "in order, and no owner twice"
    owners = [name_of(rule).decode() for rule in made.lines]
    zone = [ipaddress.ip_network(ip_of_owner(owner)) for owner in owners if owner.endswith(".rpz-ip")]
    listed = [ipaddress.ip_network(value) for value, kind in entries.items() if kind == "ip"]
    for network in map(ipaddress.ip_network, [*asked, *map(str, listed)]):
        for address in (network[0], network[-1]):
            assert any(address in one for one in zone) == any(address in one for one in listed), address
    assert not any(
        one != other and one.version == other.version and one.overlaps(other) for one in zone for other in zone
    )
    named = rules_of({name: kind for name, kind in entries.items() if kind != "ip"})
    assert made.covered - named.covered == len(listed) - len(zone)


@given(st.integers(1, 62), st.integers(1, 4))
def test_only_rules_that_do_not_fit_are_omitted(length: int, count: int) -> None:
    name = ".".join(["x" * length] * count)
    made = rules_of({name: "domain"}, "z" * 60 + "." + "y" * 30)
    for rule in made.lines:
        assert len(wire_name(f"{name_of(rule).decode()}.{'z' * 60}.{'y' * 30}")) <= 255
    assert len(made.lines) + len(made.omitted) == 2
    assert set(entries_of(made.omitted)) <= {(b"domain", name.encode())}


@settings(max_examples=examples(150), deadline=None)
@given(listed)
def test_dnspython_reads_the_compiled_rules(entries: dict[str, str]) -> None:
    rules = rules_of(entries).lines
    compiled = b"".join(compile_rules(rules, wire_name(ZONE), Action(wire_name("stop.isp.example"), 77)))
    read = []
    for message in messages(compiled):
        assert len(message) <= 16 * 1024
        for rrset in dns.message.from_wire(bytes(message)).answer:
            assert (rrset.ttl, rrset[0].target.to_text()) == (77, "stop.isp.example.")
            read.append(rule_of(rrset.name.relativize(ORIGIN).to_text().encode()))
    assert read == rules


def file(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


@settings(max_examples=examples(300), deadline=None)
@given(listed, listed)
def test_updated_rules_are_the_rules_of_the_complete_list(old: dict[str, str], new: dict[str, str]) -> None:
    before, after = (names(lines(snapshot(entries))) for entries in (old, new))
    removed, added = set(before) - set(after), set(after) - set(before)
    revision = update_rules(file(before), removed, added, "z" * 245)  # so that some do not fit
    was, now = rules(before, "z" * 245), rules(after, "z" * 245)
    assert b"".join(splice(file(was.lines), sorted(revision.removes), sorted(revision.adds))) == file(now.lines)
    assert was.covered + revision.covered == now.covered
    assert sorted([*was.omitted, *revision.omitted]) == sorted([*now.omitted, *revision.omitted_before])


@settings(max_examples=examples(60), deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 6), st.integers(0, 6))
def test_recompiled_messages_are_those_of_all_rules(chance: random.Random, removed: int, added: int) -> None:
    """With thousands of rules some messages are full, some end early, and some do not change."""

    def some(count: int, stem: str) -> list[bytes]:
        parents = [chance.choice("abc") for _ in range(count)]
        entries = {f"{stem}{number}.{parent}.example": "domain" for number, parent in enumerate(parents)}
        return rules_of(entries | {f"{stem}{number}.host.example": "host" for number in range(count)}).lines

    old = some(chance.choice([0, 3, 2000]), "n" * chance.choice([1, 30]))
    new = sorted({*chance.sample(old, max(0, len(old) - removed)), *some(added, "m")})
    compiled, expected = (b"".join(compile_rules(rules, wire_name(ZONE), ACTION)) for rules in (old, new))
    changed = sorted(set(old) ^ set(new))
    assert b"".join(recompile(compiled, file(new), changed, wire_name(ZONE), ACTION)) == expected


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> SealedFiles:
    made = SealedFiles(tmp_path_factory.mktemp("sealed"))
    made.prepare()
    return made


@settings(max_examples=examples(50), deadline=None)
@given(
    versions=st.lists(listed, min_size=2, max_size=4),
    categories=st.sampled_from([(), ("A", "1")]),
    zone=st.sampled_from([ZONE, ".".join(["z" * 60] * 4)]),
)
def test_files_that_follow_changes_are_those_of_the_complete_list(
    files: SealedFiles, versions: list[dict[str, str]], categories: tuple[str, ...], zone: str
) -> None:
    ruling = zone_files.Ruling(zone, categories, ACTION)

    def sealed(entries: dict[str, str]) -> tuple[list[bytes], Sha256]:
        found = sorted(
            with_id(Entry(kind, name, {"category": name[0].upper()}).line(), IDS) for name, kind in entries.items()
        )
        with files.create() as draft:
            draft.write(file(found))
        assert draft.sealed is not None
        return found, draft.sealed

    before, snapshot = sealed(versions[0])
    made = zone_files.make_zone_files(files, ruling, snapshot, IDS)
    for entries in versions[1:]:
        after, snapshot = sealed(entries)
        removes = [line for line in before if line not in after]
        adds = [line for line in after if line not in before]
        was = made.rules
        made, delta = zone_files.update_zone_files(files, ruling, made, removes, adds, IDS)
        assert made == zone_files.make_zone_files(files, ruling, snapshot, IDS)
        with zone_files.rules_between(files, was, made.rules) as parts:
            assert b"".join(part.data for part in parts) == delta.data
        before = after


SUFFIXES = {"co.test", "s3.cloud.test"}
"""Public suffixes of these tests, beside those of the list: a reserved name is below none but its last label."""
suffixes = st.sampled_from(
    ["cloud.test", "s3.cloud.test", "x.s3.cloud.test", "test", "co.test", "a.co.test", "example"]
)
_of_the_list = shards_module._is_suffix


@pytest.fixture(autouse=True, scope="module")
def more_suffixes() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards_module, "_is_suffix", _is_suffix)
        yield


def _is_suffix(key: bytes) -> bool:
    return ".".join(reversed(key.decode().split("\0"))) in SUFFIXES or _of_the_list(key)


deep = st.builds("{}{}".format, st.sampled_from(["", "a.", "b.", "a.b."]), suffixes)
listed_deep = st.dictionaries(deep, st.sampled_from(["host", "domain"]), max_size=12)
"""Names around public suffixes, of which one has another public suffix below a name that is none."""


@settings(max_examples=examples(200), deadline=None)
@given(st.builds(lambda some, more: some | more, listed, listed_deep), st.integers(2, 32))
def test_shards_have_together_the_rules_of_the_zone(entries: dict[str, str], shards: int) -> None:
    found = names(lines(snapshot(entries)))
    complete, parts = rules(found, ZONE), [rules(part, ZONE) for part in spread(found, shards)]
    assert sorted(rule for part in parts for rule in part.lines) == complete.lines, "each rule in one shard"
    assert sum(part.covered for part in parts) == complete.covered
    assert all(part == sorted(part) for part in spread(found, shards))


@settings(max_examples=examples(50), deadline=None)
@given(st.lists(st.builds(lambda some, more: some | more, listed, listed_deep), min_size=2, max_size=3))
def test_shards_follow_changes(files: SealedFiles, versions: list[dict[str, str]]) -> None:
    snapshots = [sorted(with_id(Entry(kind, name).line(), IDS) for name, kind in one.items()) for one in versions]
    sealed = []
    for found in snapshots:
        with files.create() as draft:
            draft.write(file(found))
        assert draft.sealed is not None
        sealed.append(draft.sealed)
    shared = [zone_files.SharedFiles() for _ in versions]
    for shard in range(3):
        ruling = zone_files.Ruling(f"{shard:02}.{ZONE}", (), ACTION, 3, shard)
        made = zone_files.make_zone_files(files, ruling, sealed[0], IDS, shared[0])
        for number, (before, after) in enumerate(pairwise(snapshots), 1):
            removes, adds = (
                [line for line in one if line not in other] for one, other in ((before, after), (after, before))
            )
            made, _ = zone_files.update_zone_files(files, ruling, made, removes, adds, IDS)
            assert made == zone_files.make_zone_files(files, ruling, sealed[number], IDS, shared[number])


@settings(max_examples=examples(50), deadline=None)
@given(
    versions=st.lists(listed, min_size=2, max_size=3),
    zones=st.permutations([(ZONE, b"\0"), (ZONE, b"\x01*\0"), (".".join(["z" * 60] * 4), b"\0"), ("y." + ZONE, b"\0")]),
)
def test_zones_that_share_their_work_are_made_as_if_alone(
    files: SealedFiles, versions: list[dict[str, str]], zones: list[tuple[str, bytes]]
) -> None:
    """Also if some rules fit into one zone only."""
    snapshots = [sorted(with_id(Entry(kind, name).line(), IDS) for name, kind in one.items()) for one in versions]
    rulings = [zone_files.Ruling(zone, (), Action(target, 60)) for zone, target in zones]
    made: list[zone_files.ZoneFiles] = []
    for number, found in enumerate(snapshots):
        with files.create() as draft:
            draft.write(file(found))
        assert draft.sealed is not None
        alone = [zone_files.make_zone_files(files, ruling, draft.sealed, IDS) for ruling in rulings]
        shared = zone_files.SharedFiles()
        assert [zone_files.make_zone_files(files, ruling, draft.sealed, IDS, shared) for ruling in rulings] == alone
        if number:
            before = snapshots[number - 1]
            removes, adds = (
                [line for line in before if line not in found],
                [line for line in found if line not in before],
            )
            shared = zone_files.SharedFiles()
            for ruling, last, expected in zip(rulings, made, alone, strict=True):
                one, delta = zone_files.update_zone_files(files, ruling, last, removes, adds, IDS, shared)
                assert one == expected
                with zone_files.rules_between(files, last.rules, one.rules) as parts:
                    assert b"".join(part.data for part in parts) == delta.data
        made = alone


@settings(max_examples=examples(100), deadline=None)
@given(listed, st.integers(1, 5))
def test_rules_made_in_blocks_are_the_rules_of_the_complete_list(entries: dict[str, str], size: int) -> None:
    found = names(lines(snapshot(entries)))
    zone = "z" * 245  # so that some do not fit
    blocks = list(rules_in_blocks(found, zone, size))
    assert all(len(block.lines) <= size + 1 for block in blocks)
    complete = rules(found, zone)
    assert [rule for block in blocks for rule in block.lines] == complete.lines
    assert sum(block.covered for block in blocks) == complete.covered
    assert [name for block in blocks for name in block.omitted] == complete.omitted


class Primary:
    """A primary of a zone with two serials."""

    def __init__(
        self,
        old: dict[str, str],
        new: dict[str, str],
        ns: tuple[tuple[str, ...], ...] = (("localhost",),) * 2,
        zonemd: tuple[bool, ...] = (False, False),
    ) -> None:
        self.rules = [rules_of(entries).lines for entries in (old, new)]
        self.ns = ns
        self.zonemd = zonemd
        self.zones = Zones()
        self.zones.configure([PLAN])
        self.zones.replace_peers([Peer("isp", frozenset({wire_name(ZONE)}), (KEY,), (), ())])

    def view(self, serial: int) -> ZoneView:
        compiled = b"".join(compile_rules(self.rules[serial - 1], wire_name(ZONE), ACTION))
        apex = replace(PLAN.apex, ns=self.ns[serial - 1], zonemd=self.zonemd[serial - 1])
        if apex.zonemd:
            apex = replace(apex, digest=zone_digest(apex, serial, self.rules[serial - 1], ACTION))
        plan = replace(PLAN, apex=apex)
        return ZoneView(plan, serial, serial, len(self.rules[serial - 1]), 0, 0, 1, memoryview(compiled))

    def transfer(self, wire: bytes, serial: int) -> bytes:
        """The TCP stream that answers a query while the zone has this serial."""
        self.zones.publish(self.view(serial))
        answer, _ = respond(wire, self.zones, "192.0.2.1", 1000, tcp=True)
        if isinstance(answer, Reply):
            return struct.pack("!H", len(answer.wire)) + answer.wire
        assert isinstance(answer, Transfer)
        assert answer.view.compiled is not None
        sequence = axfr(answer.view.soa(), answer.view.plan.apex.except_soa(answer.view.serial), answer.view.compiled)
        if answer.since is not None:
            old, new = (b"".join(line + b"\n" for line in lines) for lines in self.rules)
            removed_rules, added_rules = changed_lines(old, new)
            removed, added = (
                b"".join(compile_rules(changed, wire_name(ZONE), ACTION, lead))
                for changed, lead in ((removed_rules, b""), (added_rules, answer.view.soa()))
            )
            apex, before = answer.view.plan.apex, self.view(answer.since).plan.apex
            apexes = (
                before.except_soa(answer.since, but=apex.ns),
                apex.except_soa(answer.view.serial, but=before.ns),
            )
            sequence = ixfr(answer.view.soa(), before.soa(answer.since), removed, added, *apexes)
        assert answer.query.tsig is not None
        stream = Stream(answer.query, sequence, Signer(KEY, answer.query.tsig.mac))
        return b"".join(iter(lambda: bytes(stream.take(1000)), b""))


EMPTY = Primary({}, {})


def follow(
    zone: Any, query: dns.message.Message, primary: Primary, serial: int, wanted: dns.rdatatype.RdataType
) -> None:
    """Transfer a zone as a secondary, with dnspython's Inbound. Each signature is verified."""
    unsigned = query.to_wire()
    assert unsigned is not None
    wire = Signer(KEY).sign(unsigned, 1000)
    parsed = dm.parse(wire)
    assert parsed.tsig is not None
    checking = Signer(KEY, parsed.tsig.mac)
    with dns.xfr.Inbound(zone, wanted, zone_serial(zone)) as inbound:
        done = False
        for message in messages(primary.transfer(wire, serial)):
            answered = bytes(message)
            start = _tsig_start(answered)
            plain = answered[:10] + struct.pack("!H", 0) + answered[12:start]
            assert checking.sign(plain, 1000) == answered, "signed over the MAC before it"
            done = inbound.process_message(dns.message.from_wire(plain, xfr=True, one_rr_per_rrset=True))
        assert done


def has_right_digest(zone: Any) -> bool:
    """Whether the zone has a ZONEMD record. Raises DigestVerificationFailure if its digest is wrong."""
    try:
        zone.verify_digest()
    except dns.zone.NoDigest:
        return False
    return True


def zone_serial(zone: Any) -> int | None:
    node = zone.get_rdataset(ORIGIN, "SOA")
    return int(node[0].serial) if node else None


def _tsig_start(wire: bytes) -> int:
    record = b"\x03isp\0" + struct.pack("!HHI", 250, 255, 0)
    return wire.rindex(record)


@settings(max_examples=examples(100), deadline=None)
@given(listed, listed, st.tuples(servers, servers), st.tuples(st.booleans(), st.booleans()))
def test_axfr_and_ixfr_make_the_same_zone(
    old: dict[str, str], new: dict[str, str], ns: tuple[tuple[str, ...], ...], zonemd: tuple[bool, ...]
) -> None:
    primary = Primary(old, new, ns, zonemd)
    followed = dns.zone.Zone(ORIGIN, relativize=False)
    fresh = dns.zone.Zone(ORIGIN, relativize=False)
    follow(followed, dns.message.make_query(ORIGIN, "AXFR"), primary, 1, dns.rdatatype.AXFR)
    assert has_right_digest(followed) == zonemd[0]
    query, _ = dns.xfr.make_query(followed)
    follow(followed, query, primary, 2, dns.rdatatype.IXFR)
    assert has_right_digest(followed) == zonemd[1]
    follow(fresh, dns.message.make_query(ORIGIN, "AXFR"), primary, 2, dns.rdatatype.AXFR)
    assert followed == fresh
    owners = {str(name.relativize(ORIGIN)) for name in fresh.nodes} - {"@"}
    assert owners == {name_of(rule).decode() for rule in primary.rules[1]}


@settings(max_examples=examples(3000), deadline=None)
@given(st.binary(max_size=80), st.booleans())
def test_any_message_is_answered_or_ignored_and_never_raises(wire: bytes, tcp: bool) -> None:
    """Damaged requests are in test_mutated_requests.py."""
    answer, seen = respond(wire, EMPTY.zones, "192.0.2.1", 1000, tcp=tcp)
    assert seen is None
    if isinstance(answer, Reply):
        assert answer.wire[:2] == wire[:2]
        assert answer.wire[2] & 0x80
        assert len(answer.wire) <= len(wire) + 11


@given(st.integers(0, 2**32 - 1), st.integers(1, 2**31 - 1))
def test_serials_compare_modulo_two_to_the_32(serial: int, step: int) -> None:
    assert is_newer((serial + step) % 2**32, serial)
    assert not is_newer(serial, (serial + step) % 2**32)
    assert not is_newer(serial, serial)


@given(st.integers(1, 2**40), st.integers(1 - 2**31, 2**31))
def test_a_serial_on_the_wire_is_unwrapped_to_the_nearest_number(near: int, ahead: int) -> None:
    assert unwrap_serial((near + ahead) % 2**32, near) == near + ahead
