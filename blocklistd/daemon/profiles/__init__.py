"""Configurations to paste into the name servers of subscribers, by program and version.

With each configuration the server keeps blocking after a restart while the publisher is unreachable. The server refuses
queries for the zone, because an answer would disclose whether a name is listed; Knot and NSD answer their own
secondaries. A setting that a version does not know is not printed. docs/dns/ contains the same texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from blocklistd.config import Address, ZoneSettings
from blocklistd.daemon.profiles import bind, knot, knot_resolver, nsd, powerdns, unbound
from blocklistd.daemon.profiles.request import PLACEHOLDERS, ConfigRequest, TlsPrimary, Tsig
from blocklistd.daemon.profiles.versions import LISTS_ONLY, VERSIONS, Software, Version, software


@dataclass(frozen=True, slots=True)
class SecondaryProgram:
    """A program that transfers zones. `text` makes its configuration. `tls_from`: the first version that transfers over
    TLS (XoT), None if none does. `signs`: whether it can use TSIG."""

    text: Callable[[ConfigRequest], str]
    tls_from: Version | None = ()
    signs: bool = True


PROGRAMS: Final[Mapping[str, SecondaryProgram]] = {
    "bind": SecondaryProgram(bind.text),
    "knot": SecondaryProgram(knot.text, tls_from=(3, 4)),
    "nsd": SecondaryProgram(nsd.text),
    "powerdns": SecondaryProgram(powerdns.text, tls_from=None),
    "unbound": SecondaryProgram(unbound.text, signs=False),
}


@dataclass(frozen=True, slots=True)
class PublisherAddresses:
    """What the configurations say of the publisher. `feed`: the URL of its feed. `dns`: its address for transfers; a
    wildcard address becomes a placeholder with a comment. `catalog`: the name of `dns.catalog`. `rules`: the number of
    rules of each zone that has a version, by the zone's name."""

    feed: str
    dns: Address | None = None
    tls: TlsPrimary | None = None
    catalog: str | None = None
    rules: Mapping[str, int] = field(default_factory=dict)


def configurations(
    publisher: PublisherAddresses,
    zones: Iterable[ZoneSettings],
    tsig: Tsig | None,
    *,
    lists: Iterable[str] = (),
    chosen: Software | None = None,
    client_certificate: bool = False,
) -> dict[str, str]:
    """The configuration of each program, by its name, for these zones and lists: that of `chosen` for its version, the
    others for those of Debian 12. With a TSIG key, programs that can't sign are omitted. Without one, the publisher
    identifies the server by its address. `client_certificate`: whether one is registered for it."""
    zones, lists = tuple(zones), tuple(lists)
    made = {}
    for name in VERSIONS:
        one = chosen if chosen is not None and chosen.name == name else software(name)
        if name == LISTS_ONLY:
            if lists:
                made[name] = _note(one, one.untested) + knot_resolver.text(one, publisher.feed, lists)
        elif zones and publisher.dns is not None and (tsig is None or PROGRAMS[name].signs):
            request = ConfigRequest(
                *(one, zones, publisher.dns, tsig, None, client_certificate), publisher.catalog, publisher.rules
            )
            made[name] = _of_zones(request, publisher.tls)
    return made


def _of_zones(request: ConfigRequest, tls: TlsPrimary | None) -> str:
    """The text of the program for zones, with comments on what to replace in it."""
    one = request.software
    program, notes = PROGRAMS[one.name], [one.untested]
    if tls is not None and program.tls_from is not None and one.profile >= program.tls_from:
        request = replace(request, primary=tls.address, tls=tls)
    if request.primary.host in ("::", "0.0.0.0"):
        request = replace(request, primary=Address("127.0.0.1", request.primary.port))
        notes.append(f"instead of {request.primary.host}: the address under which the publisher is reached")
    text = program.text(request)
    for path, meaning in PLACEHOLDERS.items():
        notes += [f"{path}: {meaning}"] if path in text else []
    return "".join(_note(one, note) for note in notes) + text


def _note(one: Software, text: str) -> str:
    """The text as a comment of the program's configuration; empty without one."""
    return f"{'//' if one.name == 'bind' else '--' if one.in_lua else '#'} {text}\n" if text else ""
