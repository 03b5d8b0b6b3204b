"""Configurations to paste: accepted by the programs' own checkers, and the same as in the guide."""

from __future__ import annotations

import subprocess
import textwrap
from pathlib import Path

import pytest

from blocklistd.config import Address, ZoneSettings
from blocklistd.daemon.resolvers import (
    FIRST_WITH_ZONEMD,
    POLICIES,
    PRIVATE_CA,
    PUBLIC_CA,
    SOFTWARE,
    TESTED_VERSIONS,
    UNSIGNED_ONLY,
    WITH_TLS,
    TlsPrimary,
    bind,
    breaks_on_zonemd,
    configurations,
    nsd,
    unbound,
)
from blocklistd.model import ListId
from tests.peers import peer

TSIG = {"name": "isp-0a1b2c3d", "algorithm": "hmac-sha256", "secret": "c2VjcmV0"}
GUIDE = Path(__file__).parents[2] / "docs" / "resolvers.md"
HOSTS = ["192.0.2.1", "2001:db8::1"]


def zones(count: int) -> list[ZoneSettings]:
    return [ZoneSettings(name=f"z{number}.rpz.example", list=ListId("national")) for number in range(count)]


def check(folder: Path, text: str, *command: str) -> tuple[int, str]:
    (folder / "pasted.conf").write_text(text)
    done = subprocess.run([*command, str(folder / "pasted.conf")], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("count", [1, POLICIES, POLICIES + 2])
@pytest.mark.parametrize("tsig", [TSIG, None])
@pytest.mark.parametrize("host", HOSTS)
def test_bind_accepts_the_configuration(tmp_path: Path, count: int, tsig: dict[str, str] | None, host: str) -> None:
    text = bind(zones(count), Address(host, 53), tsig)
    assert check(tmp_path, text, peer("/usr/bin/named-checkconf", "bind9-utils")) == (0, "")
    assert all(f'zone "{zone.name}" {{\n' in text for zone in zones(count))
    assert text.count("is not in the response-policy") == max(0, count - POLICIES)


@pytest.mark.parametrize("tsig", [TSIG, None])
@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("port", [53, 5353])
def test_nsd_accepts_the_configuration(tmp_path: Path, tsig: dict[str, str] | None, host: str, port: int) -> None:
    text = nsd(zones(2), Address(host, port), tsig)
    assert check(tmp_path, text, peer("/usr/sbin/nsd-checkconf", "nsd")) == (0, "")


@pytest.mark.parametrize("tsig", [TSIG, None])
@pytest.mark.parametrize("host", [*HOSTS, "::"])
@pytest.mark.parametrize("port", [53, 5353])
def test_knot_accepts_the_configuration(tmp_path: Path, tsig: dict[str, str] | None, host: str, port: int) -> None:
    text = configurations(zones(2), Address(host, port), tsig)["knot"]
    (tmp_path / "pasted.conf").write_text(text)
    command = [peer("/usr/sbin/knotc", "knot"), "-c", str(tmp_path / "pasted.conf"), "conf-check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("host", HOSTS)
def test_unbound_accepts_the_configuration(tmp_path: Path, host: str) -> None:
    text = unbound(zones(2), Address(host, 5353), None).replace("/var/lib/unbound", str(tmp_path))
    code, said = check(tmp_path, f'server:\n  chroot: ""\n{text}', peer("/usr/sbin/unbound-checkconf", "unbound"))
    assert code == 0, said


def test_the_guide_contains_the_configurations() -> None:
    """The guide's texts contain placeholders, and are otherwise the tested configurations."""
    zone = ZoneSettings(name="rpz.blocklist.example", list=ListId("national"))
    publisher = Address("198.51.100.1", 53)
    signed = configurations([zone], publisher, {"name": "NAME", "algorithm": "hmac-sha256", "secret": "SECRET"})
    unsigned = configurations([zone], publisher, None)
    assert signed.keys() == SOFTWARE.keys() - UNSIGNED_ONLY
    assert unsigned.keys() == SOFTWARE.keys() == TESTED_VERSIONS.keys()
    tls = TlsPrimary(Address("198.51.100.1", 853), "dns.blocklist.example", PUBLIC_CA)
    key = {"name": "NAME", "algorithm": "hmac-sha256", "secret": "SECRET"}
    for name in WITH_TLS:
        text = configurations([zone], publisher, None if name in UNSIGNED_ONLY else key, tls)[name]
        assert f"\n\n{textwrap.indent(text, ' ' * 4)}\n" in GUIDE.read_text(), name
    for name in SOFTWARE:
        assert f"\n\n{textwrap.indent(signed.get(name) or unsigned[name], ' ' * 4)}\n" in GUIDE.read_text(), name
    signed_catalog, unsigned_catalog = (
        configurations([zone], publisher, tsig, catalog="catalog.blocklist.example")
        for tsig in ({"name": "NAME", "algorithm": "hmac-sha256", "secret": "SECRET"}, None)
    )
    for name in signed_catalog.keys() - {"knot"}:
        assert signed_catalog[name] == signed[name]
    for made, plain in ((signed_catalog, signed), (unsigned_catalog, unsigned)):
        head, template, rest = made["knot"].partition("template:\n")
        assert plain["knot"].startswith(head)
        assert f"\n\n{textwrap.indent(template + rest, ' ' * 4)}\n" in GUIDE.read_text()


def test_a_comment_marks_the_placeholder_for_an_unknown_address() -> None:
    wanted = " instead of 127.0.0.1: the address under which the publisher is reached"
    for name, text in configurations(zones(1), Address("::", 53), None).items():
        assert text.splitlines()[0].endswith(wanted), name


@pytest.mark.parametrize("ca", [PUBLIC_CA, PRIVATE_CA])
@pytest.mark.parametrize("host", [*HOSTS, "::"])
def test_programs_accept_the_configuration_over_tls(tmp_path: Path, host: str, ca: str) -> None:
    tls = TlsPrimary(Address(host, 853), "dns.blocklist.example", ca)
    (tmp_path / "ca.pem").touch()
    for tsig in (TSIG, None):
        made = configurations(zones(2), Address("192.0.2.9", 53), tsig, tls)
        for name, command in (
            ("bind", peer("/usr/bin/named-checkconf", "bind9-utils")),
            ("nsd", peer("/usr/sbin/nsd-checkconf", "nsd")),
        ):
            assert check(tmp_path, made[name], command) == (0, ""), made[name]
        assert "192.0.2.9" in made["knot"], "it has no TLS"
        assert "192.0.2.9" not in made["bind"]
    code, said = check(
        tmp_path,
        f'server:\n  chroot: ""\n{made["unbound"]}'.replace("/var/lib/unbound", str(tmp_path)).replace(
            ca, str(tmp_path / "ca.pem")
        ),
        peer("/usr/sbin/unbound-checkconf", "unbound"),
    )
    assert code == 0, said


def test_programs_that_a_zonemd_record_breaks() -> None:
    assert {name for name in SOFTWARE if breaks_on_zonemd(name)} == set(FIRST_WITH_ZONEMD) == {"powerdns", "unbound"}
    for software in ("powerdns:4.8", "powerdns:5.4.1", "powerdns:5", "unbound:1.17", "unbound:1.24.9", "unbound:1.9"):
        assert breaks_on_zonemd(software), software
    for software in ("powerdns:5.4.2", "powerdns:5.10", "powerdns:6", "unbound:1.25", "unbound:1.26.1", "bind:9.11"):
        assert not breaks_on_zonemd(software), software
