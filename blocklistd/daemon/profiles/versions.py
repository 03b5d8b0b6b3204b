"""The programs for which `--software` prints a configuration, their versions, and which tests run each of them.

A version that is not in TESTED_BY gets the configuration of the newest one below it, with a comment that says so. A
version below the oldest is refused: the configuration would contain settings that it does not know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from blocklistd.errors import RefusedError

Version = tuple[int, ...]

DEBIAN_12: Final = "make test"
DEBIAN_13: Final = "make interop-next"
"""The commands whose tests paste configurations into the programs of Debian 12 and 13."""

TESTED_BY: Final[Mapping[tuple[str, str], str | None]] = {
    ("bind", "9.18"): DEBIAN_12,
    ("bind", "9.20"): DEBIAN_13,
    ("knot", "3.2"): DEBIAN_12,
    ("knot", "3.4"): DEBIAN_13,
    ("knot", "3.5"): None,
    ("knot-resolver", "5.6"): DEBIAN_12,
    ("knot-resolver", "6"): None,
    ("nsd", "4.6"): DEBIAN_12,
    ("nsd", "4.12"): DEBIAN_13,
    ("powerdns", "4.8"): DEBIAN_12,
    ("powerdns", "5.1"): None,
    ("powerdns", "5.2"): DEBIAN_13,
    ("powerdns", "5.4"): None,
    ("unbound", "1.17"): DEBIAN_12,
    ("unbound", "1.25"): None,
    ("unbound", "1.26"): DEBIAN_13,
}
"""The command whose tests run the configuration of (program, version); None: no test does. The first version of a
program is Debian 12's, for which `--software NAME` prints."""

FIRST_WITH_ZONEMD: Final[Mapping[str, str]] = {"powerdns": "5.4.2", "unbound": "1.25"}
"""The first version of a program that a ZONEMD record does not break: PowerDNS Recursor makes a policy for the root of
it, Unbound can't prime the root."""
FIRST_WITH_NOTIFY: Final[Mapping[str, Version]] = {"powerdns": (5, 1)}
"""The first version of a program that transfers its policy zones when it gets NOTIFY; others always did."""
FIRST_WITHOUT_LUA: Final[Mapping[str, Version]] = {"powerdns": (5, 1), "knot-resolver": (6,)}
"""The first version of a program that is configured in YAML; before, it is in Lua."""

LISTS_ONLY: Final = "knot-resolver"
"""The program that transfers no zones, and reads a file that `blocklistd sync` keeps up to date."""

_FORM: Final = re.compile(r"([a-z-]+)(?::([0-9]{1,9}(?:\.[0-9]{1,9}){0,3}))?")


def numbers(version: str) -> Version:
    """The numbers of a version, to compare it with others."""
    return tuple(map(int, version.split(".")))


def dotted(version: Version) -> str:
    """The text of a version."""
    return ".".join(map(str, version))


VERSIONS: Final[Mapping[str, tuple[Version, ...]]] = {
    name: tuple(sorted(numbers(version) for known, version in TESTED_BY if known == name))
    for name in sorted({name for name, _ in TESTED_BY})
}
"""The known versions by program, the oldest first."""


@dataclass(frozen=True, slots=True)
class Software:
    """A program of a subscriber. `version`: as given, Debian 12's without one. `profile`: the newest version in
    TESTED_BY that is not above it, whose configuration is printed."""

    name: str
    version: Version
    profile: Version

    def is_from(self, *first: int) -> bool:
        """Whether the profile's version is this one or a later one."""
        return self.profile >= first

    @property
    def in_lua(self) -> bool:
        """Whether the configuration is in Lua."""
        return self.profile < FIRST_WITHOUT_LUA.get(self.name, ())

    @property
    def breaks_on_zonemd(self) -> bool:
        """Whether a ZONEMD record breaks the program."""
        first = FIRST_WITH_ZONEMD.get(self.name)
        return first is not None and self.version < numbers(first)

    @property
    def takes_notify(self) -> bool:
        """Whether the program transfers a zone when it gets NOTIFY for it."""
        return self.version >= FIRST_WITH_NOTIFY.get(self.name, ())

    @property
    def untested(self) -> str:
        """A sentence for the configuration, if no test has run it with this version; else empty."""
        given, profile = dotted(self.version), dotted(self.profile)
        if self.version[: len(self.profile)] != self.profile:
            return f"No test has run {self.name} {given}: this is the configuration for {profile}."
        if TESTED_BY[self.name, profile] is None:
            return f"No test has run this configuration with {self.name} {profile}."
        return ""


def software(text: str) -> Software:
    """Parses NAME or NAME:VERSION. Raises RefusedError for an unknown program, and for a version before the oldest."""
    found = _FORM.fullmatch(text)
    known = VERSIONS.get(found[1]) if found else None
    if found is None or known is None:
        raise RefusedError(f"expected one of {', '.join(VERSIONS)}, or with a version, like bind:9.18")
    version = numbers(found[2]) if found[2] else known[0]
    below = [one for one in known if one <= version]
    if not below:
        raise RefusedError(
            f"{text}: expected version {dotted(known[0])} or later, for which there is a configuration: "
            f"{', '.join(map(dotted, known))}"
        )
    return Software(found[1], version, below[-1])


def software_of(registered: str | None, *, unsigned: bool) -> Software:
    """The program of a subscriber. Without a registered one: Unbound if its transfers are unsigned, else BIND. A
    registered version that is too old now counts as the oldest known one."""
    text = registered or ("unbound" if unsigned else "bind")
    try:
        return software(text)
    except RefusedError:
        return software(text.partition(":")[0])


def broken_by_zonemd(registered: str | None, *, by_address: bool) -> str | None:
    """NAME:VERSION of a subscriber's program if a ZONEMD record breaks it, else None. `by_address`: whether the
    subscriber is known by its address."""
    one = software_of(registered, unsigned=by_address)
    return f"{one.name}:{dotted(one.version)}" if one.breaks_on_zonemd else None
