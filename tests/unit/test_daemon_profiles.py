"""Configurations to paste: accepted by the programs' own checkers, what each version gets, and the same as in the
guide."""

from __future__ import annotations

import re
import subprocess
import textwrap
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from blocklistd.config import Address, ZoneSettings
from blocklistd.daemon.profiles import PROGRAMS, PublisherAddresses, configurations
from blocklistd.daemon.profiles.bind import POLICIES
from blocklistd.daemon.profiles.request import CLIENT_CERT, CLIENT_KEY, PRIVATE_CA, PUBLIC_CA, TlsPrimary
from blocklistd.daemon.profiles.unbound import MANY_RULES
from blocklistd.daemon.profiles.versions import (
    DEBIAN_12,
    DEBIAN_13,
    FIRST_WITH_ZONEMD,
    LISTS_ONLY,
    TESTED_BY,
    VERSIONS,
    software,
    software_of,
)
from blocklistd.errors import RefusedError
from blocklistd.model import ListId
from tests.interop.guides import PAGES, says
from tests.interop.release import BOOKWORM, TRIXIE
from tests.peers import peer

TSIG = {"name": "isp-0a1b2c3d", "algorithm": "hmac-sha256", "secret": "c2VjcmV0"}
PUBLISHER = Address("198.51.100.1", 53)
HOSTS = ["192.0.2.1", "2001:db8::1"]
PIN = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
INTEROP = Path(__file__).parents[1] / "interop"
KNOT_RESOLVER = (LISTS_ONLY, "5.6")
COMMANDS = {
    "bind": ("bind9", "/usr/sbin/named", "-v"),
    "knot": ("knot", "/usr/sbin/knotd", "--version"),
    "knot-resolver": ("knot-resolver", "/usr/sbin/kresd", "--version"),
    "nsd": ("nsd", "/usr/sbin/nsd", "-v"),
    "powerdns": ("pdns-recursor", "/usr/sbin/pdns_recursor", "--version"),
    "unbound": ("unbound", "/usr/sbin/unbound", "-V"),
}
"""Package and command that print a program's version."""
FEED = "https://feed.blocklist.example"


def zones(count: int, **more: Any) -> list[ZoneSettings]:
    return [ZoneSettings(name=f"z{number}.rpz.example", list=ListId("national"), **more) for number in range(count)]


def text_of(
    given: str,
    publisher: Address = PUBLISHER,
    *,
    made: list[ZoneSettings] | None = None,
    tls: TlsPrimary | None = None,
    catalog: str | None = None,
    unsigned: bool = False,
    client_certificate: bool = False,
    rules: Mapping[str, int] | None = None,
) -> str:
    """The configuration of NAME or NAME:VERSION. Unbound's is unsigned."""
    chosen = software(given)
    signs = chosen.name in PROGRAMS and PROGRAMS[chosen.name].signs
    return configurations(
        PublisherAddresses(FEED, publisher, tls, catalog, rules or {}),
        made or zones(2),
        TSIG if signs and not unsigned else None,
        lists=["national"],
        chosen=chosen,
        client_certificate=client_certificate,
    )[chosen.name]


def check(folder: Path, text: str, *command: str) -> tuple[int, str]:
    (folder / "pasted.conf").write_text(text)
    done = subprocess.run([*command, str(folder / "pasted.conf")], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("count", [1, POLICIES, POLICIES + 2])
@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("host", HOSTS)
def test_bind_accepts_the_configuration(tmp_path: Path, count: int, unsigned: bool, host: str) -> None:
    text = text_of("bind", Address(host, 53), made=zones(count), unsigned=unsigned)
    assert check(tmp_path, text, peer("/usr/bin/named-checkconf", "bind9-utils")) == (0, "")
    assert all(f'zone "{zone.name}" {{\n' in text for zone in zones(count))
    assert text.count("is not in the response-policy") == max(0, count - POLICIES)


def test_bind_takes_no_more_policies_than_the_guide_says(tmp_path: Path) -> None:
    says("bind", f"`response-policy` takes {POLICIES} zones at most; with more, BIND does not start")
    *_, last = made = zones(POLICIES + 1)
    more = text_of("bind", made=made).replace("response-policy {", f'response-policy {{ zone "{last.name}";')
    code, said = check(tmp_path, more, peer("/usr/bin/named-checkconf", "bind9-utils"))
    assert code == 1
    assert says("bind", f"more than {POLICIES} response policy zones") in said


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("port", [53, 5353])
def test_nsd_accepts_the_configuration(tmp_path: Path, unsigned: bool, host: str, port: int) -> None:
    text = text_of("nsd", Address(host, port), unsigned=unsigned)
    assert check(tmp_path, text, peer("/usr/sbin/nsd-checkconf", "nsd")) == (0, "")


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("host", [*HOSTS, "::"])
@pytest.mark.parametrize("port", [53, 5353])
def test_knot_accepts_the_configuration(tmp_path: Path, unsigned: bool, host: str, port: int) -> None:
    (tmp_path / "pasted.conf").write_text(text_of("knot", Address(host, port), unsigned=unsigned))
    command = [peer("/usr/sbin/knotc", "knot"), "-c", str(tmp_path / "pasted.conf"), "conf-check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("host", HOSTS)
def test_unbound_accepts_the_configuration(tmp_path: Path, host: str) -> None:
    text = text_of("unbound", Address(host, 5353)).replace("/var/lib/unbound", str(tmp_path))
    code, said = check(tmp_path, f'server:\n  chroot: ""\n{text}', peer("/usr/sbin/unbound-checkconf", "unbound"))
    assert code == 0, said


def test_unbound_is_advised_shards_for_a_large_zone_that_has_none(tmp_path: Path) -> None:
    large, small = zones(2)
    known = {large.name: MANY_RULES + 1, small.name: MANY_RULES}
    text = text_of("unbound", rules=known)
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert comments[0] == f"# {large.name} has 100,001 rules."
    assert comments[-1] == "# Ask the publisher for `shards: 16`."
    assert len(comments) == 4
    assert max(map(len, comments)) <= 80
    assert text.replace("\n".join(comments) + "\n", "") == text_of("unbound"), "before its clause, and nothing else"
    for made in ([replace(large, shards=16)], [small]):
        assert "#" not in text_of("unbound", made=made, rules=known).replace("  # keeps", "")
    for given in ("bind", "knot", "nsd", "powerdns"):
        assert text_of(given, rules=known) == text_of(given)
    pasted = text.replace("/var/lib/unbound", str(tmp_path))
    command = peer("/usr/sbin/unbound-checkconf", "unbound")
    assert check(tmp_path, f'server:\n  chroot: ""\n{pasted}', command)[0] == 0


@pytest.mark.parametrize("ca", [PUBLIC_CA, PRIVATE_CA])
@pytest.mark.parametrize("host", [*HOSTS, "::"])
@pytest.mark.parametrize("name", ["dns.blocklist.example", *HOSTS])
def test_programs_accept_the_configuration_over_tls(tmp_path: Path, host: str, name: str, ca: str) -> None:
    tls = TlsPrimary(Address(host, 853), name, ca, PIN)
    (tmp_path / "ca.pem").touch()
    for unsigned in (False, True):
        for program, command in (
            ("bind", peer("/usr/bin/named-checkconf", "bind9-utils")),
            ("nsd", peer("/usr/sbin/nsd-checkconf", "nsd")),
        ):
            text = text_of(program, tls=tls, unsigned=unsigned, client_certificate=True)
            assert check(tmp_path, text, command) == (0, ""), text
            assert name in text
            assert text.count(CLIENT_CERT) == text.count(CLIENT_KEY) == 2, "in a comment and as a setting"
            assert CLIENT_CERT not in text_of(program, unsigned=unsigned, client_certificate=True), "without TLS"
    text = text_of("unbound", tls=tls, client_certificate=True)
    assert CLIENT_CERT not in text, "it can't send one"
    pasted = text.replace("/var/lib/unbound", str(tmp_path)).replace(ca, str(tmp_path / "ca.pem"))
    command = peer("/usr/sbin/unbound-checkconf", "unbound")
    code, said = check(tmp_path, f'server:\n  chroot: ""\n{pasted}', command)
    assert code == 0, said


def test_programs_and_versions_without_tls_transfer_without_it() -> None:
    tls = TlsPrimary(Address("192.0.2.8", 853), "dns.blocklist.example", PRIVATE_CA, PIN)
    for given in ("knot:3.2", "powerdns:4.8", "powerdns:5.4"):
        assert text_of(given, tls=tls, client_certificate=True) == text_of(given)
    for given in ("bind:9.18", "unbound:1.17", "nsd:4.6", "knot:3.4"):
        assert "192.0.2.8" in text_of(given, tls=tls)


@pytest.mark.parametrize("name", ["dns.blocklist.example", *HOSTS])
@pytest.mark.parametrize("ca", [PUBLIC_CA, PRIVATE_CA])
def test_knot_verifies_the_name_from_3_5_and_else_the_public_key(name: str, ca: str) -> None:
    tls = TlsPrimary(Address("192.0.2.8", 853), name, ca, PIN)
    with_name = name not in HOSTS
    for given, by_name in (("knot:3.4", False), ("knot:3.5", with_name)):
        text = text_of(given, tls=tls, client_certificate=True)
        remote = yaml.safe_load(text)["remote"][0]
        expected = {"cert-hostname": name} if by_name else {"cert-key": PIN}
        assert remote == {"id": "publisher", "address": "192.0.2.8@853", "tls": True, "key": TSIG["name"]} | expected
        server = yaml.safe_load(text)["server"]
        assert server.get("ca-file") == (({PUBLIC_CA: ""}.get(ca, ca)) if by_name else None)
        assert (server["cert-file"], server["key-file"]) == (CLIENT_CERT, CLIENT_KEY)
    assert "server:" not in text_of("knot:3.4", tls=tls)


def test_answers_of_a_blocking_zone_say_that_they_are_censored() -> None:
    for action, blocks in ((".", True), ("*.", True), ("stop.example", True), ("rpz-passthru.", False)):
        made = [*zones(1, action=action), *zones(1)]
        made[1] = replace(made[1], name="other.example", action="rpz-tcp-only.")
        marks = {"bind:9.20": "ede censored", "powerdns:4.8": "extendedErrorCode = 16"}
        marks |= {"powerdns:5.4": "extendedErrorCode: 16", "knot-resolver:5.6": "extended_error.CENSORED"}
        for given, mark in marks.items():
            assert text_of(given, made=made).count(mark) == (blocks or given.startswith("knot")), (given, action)
    for given in ("bind:9.18", "unbound:1.17", "unbound:1.26", "knot-resolver:6"):
        assert "censored" not in text_of(given).lower(), "it does not know the setting"
    assert 'zone "z0.rpz.example" ede censored; zone "z1.rpz.example" ede censored; }' in text_of("bind:9.20")


def test_powerdns_is_configured_in_yaml_and_takes_notify_from_5_1() -> None:
    for given in ("powerdns:5.1", "powerdns:5.2", "powerdns:5.4.2"):
        found = yaml.safe_load(text_of(given, Address("192.0.2.1", 5353)))
        names = [zone.name for zone in zones(2)]
        assert found["incoming"] == {"allow_notify_from": ["192.0.2.1"], "allow_notify_for": names}
        first, second = found["recursor"]["rpzs"]
        assert (first["name"], second["name"]) == tuple(names)
        assert first == {
            "name": names[0],
            "addresses": ["192.0.2.1:5353"],
            "tsig": {"name": TSIG["name"], "algo": TSIG["algorithm"], "secret": TSIG["secret"]},
            **{"refresh": 60, "axfrTimeout": 600, "extendedErrorCode": 16},
            "extendedErrorExtra": f"Blocked by the list {names[0]}",
            **dict.fromkeys(("seedFile", "dumpFile"), f"/var/lib/pdns-recursor/{names[0]}.zone"),
        }
        assert "tsig" not in yaml.safe_load(text_of(given, unsigned=True))["recursor"]["rpzs"][0]
    for given in ("powerdns", "powerdns:4.8", "powerdns:5.0"):
        assert text_of(given).count('rpzPrimary("198.51.100.1"') == 2
        assert "allow_notify" not in text_of(given)
    assert [software(f"powerdns:{version}").takes_notify for version in ("4.8", "5.0.9", "5.1", "5.4")] == [
        *(False, False, True, True)
    ]
    assert all(software(name).takes_notify for name in ("bind", "unbound", "knot", "nsd"))


def test_knot_resolver_reads_the_files_of_sync() -> None:
    file = "/var/lib/blocklistd-sync/national/national.rpz"
    five, six = text_of("knot-resolver"), text_of("knot-resolver:6.2")
    assert f'"{file}"' in five
    assert yaml.safe_load(six)["local-data"]["rpz"][0]["file"] == file
    for text in (five, six):
        assert f"blocklistd sync {FEED} national" in text
        assert max(map(len, text.splitlines())) <= 80
    assert LISTS_ONLY not in configurations(PublisherAddresses(FEED, PUBLISHER), zones(1), TSIG), "it has no list"


def test_a_version_gets_the_newest_configuration_that_is_not_above_it() -> None:
    for given, profile in (
        *(("bind", (9, 18)), ("bind:9.18.49", (9, 18)), ("bind:9.19", (9, 18)), ("bind:9.20.1", (9, 20))),
        *(("bind:10", (9, 20)), ("powerdns:5.10", (5, 4)), ("unbound:1.24.2", (1, 17)), ("knot-resolver:6", (6,))),
    ):
        found = software(given).profile
        assert found[: len(profile)] == profile, given
    for old in ("bind:9.16", "bind:9", "unbound:1.9", "powerdns:4.7.9", "knot-resolver:5"):
        with pytest.raises(RefusedError, match=r"^[a-z-]+:[0-9.]+: expected version [0-9.]+ or later"):
            software(old)
        assert software_of(old, unsigned=False) == software(old.partition(":")[0]), "registered by an older daemon"
    assert software_of(None, unsigned=True).name == "unbound"
    assert software_of(None, unsigned=False).name == "bind"


@pytest.mark.parametrize("wrong", ["dnsmasq", "", "bind:", "bind:x", "bind:9.18:1", "BIND", "bind:1.2.3.4.5", "bind:٣"])
def test_another_software_is_refused(wrong: str) -> None:
    with pytest.raises(RefusedError, match="expected one of bind, knot, knot-resolver, nsd, powerdns, unbound"):
        software(wrong)


def test_a_configuration_that_no_test_has_run_says_so() -> None:
    for (name, version), tested in TESTED_BY.items():
        text = text_of(f"{name}:{version}")
        said = f"No test has run this configuration with {name} {version}.\n"
        assert text.startswith((f"// {said}", f"-- {said}", f"# {said}")) == (tested is None), (name, version)
    between = "No test has run bind 9.19: this is the configuration for 9.18.\n"
    assert text_of("bind:9.19.2").startswith("// No test has run bind 9.19.2: this is")
    assert text_of("bind:9.19").removeprefix(f"// {between}") == text_of("bind")
    assert text_of("bind:9.18.49") == text_of("bind")


def test_the_table_of_tested_versions_is_that_of_the_interoperability_tests() -> None:
    tested = {by: {key for key, found in TESTED_BY.items() if found == by} for by in (DEBIAN_12, DEBIAN_13)}
    assert tested[DEBIAN_12] == {*BOOKWORM.versions.items(), KNOT_RESOLVER}
    assert tested[DEBIAN_13] <= set(TRIXIE.items())
    assert BOOKWORM.versions.keys() == PROGRAMS.keys()
    for name, version in tested[DEBIAN_12]:
        assert software(name) == software(f"{name}:{version}"), "the default is Debian 12's"
    sources = "".join(path.read_text() for path in INTEROP.glob("test_*.py"))
    assert all(f'"{name}"' in sources for name in VERSIONS), "a test pastes the configuration"


@pytest.mark.parametrize(("name", "command"), COMMANDS.items())
def test_the_program_of_the_interoperability_tests_has_the_version(name: str, command: tuple[str, ...]) -> None:
    (version,) = [version for (known, version), by in TESTED_BY.items() if known == name and by == DEBIAN_12]
    package, program, option = command
    done = subprocess.run([peer(program, package), option], capture_output=True, text=True, check=False)
    assert re.search(rf"\b{re.escape(version)}\.", done.stdout + done.stderr)


def test_the_guide_contains_the_configurations() -> None:
    """The pages' texts contain placeholders, and are otherwise the tested configurations."""
    assert PAGES.keys() == VERSIONS.keys(), "a page for each program"
    zone = [ZoneSettings(name="rpz.blocklist.example", list=ListId("national"))]
    key = {"name": "NAME", "algorithm": "hmac-sha256", "secret": "SECRET"}
    plain = PublisherAddresses(FEED, Address("198.51.100.1", 53))
    tls = replace(plain, tls=TlsPrimary(Address("198.51.100.1", 853), "dns.blocklist.example", PUBLIC_CA, PIN))

    def contains(name: str, text: str) -> bool:
        return f"\n\n{textwrap.indent(text, ' ' * 4)}\n" in PAGES[name].read_text() + "\n"

    for name in VERSIONS:
        for publisher in (plain, tls):
            made = [configurations(publisher, zone, tsig, lists=["national"]) for tsig in (key, None)]
            assert any(contains(name, one[name]) for one in made if name in one), name
    newer = configurations(plain, zone, key, chosen=software("powerdns:5.4"))["powerdns"]
    assert contains("powerdns", newer.partition("\n")[2])
    catalog = replace(plain, catalog="catalog.blocklist.example")
    for tsig in (key, None):
        without, text = (configurations(one, zone, tsig)["knot"] for one in (plain, catalog))
        head, template, rest = text.partition("template:\n")
        assert without.startswith(head)
        assert contains("knot", template + rest)


def test_a_comment_marks_the_placeholder_for_an_unknown_address() -> None:
    wanted = " instead of 127.0.0.1: the address under which the publisher is reached"
    for name, text in configurations(PublisherAddresses(FEED, Address("::", 53)), zones(1), None).items():
        assert text.splitlines()[0].endswith(wanted), name


def test_programs_that_a_zonemd_record_breaks() -> None:
    breaking = {name for name in VERSIONS if software(name).breaks_on_zonemd}
    assert breaking == set(FIRST_WITH_ZONEMD) == {"powerdns", "unbound"}
    for given in ("powerdns:4.8", "powerdns:5.4.1", "powerdns:5", "unbound:1.17", "unbound:1.24.9"):
        assert software(given).breaks_on_zonemd, given
    for given in ("powerdns:5.4.2", "powerdns:5.10", "powerdns:6", "unbound:1.25", "unbound:1.26.1", "bind:9.18"):
        assert not software(given).breaks_on_zonemd, given
