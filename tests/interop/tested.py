"""The programs that the tests of this folder run, for the table of tested versions (daemon/profiles/versions.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Tested:
    """A program of Debian 12. `command` prints its version. `file`: the tests that paste its configuration."""

    package: str
    command: tuple[str, str]
    file: str


RUN: Final = {
    ("bind", "9.18"): Tested("bind9", ("/usr/sbin/named", "-v"), "test_pasted.py"),
    ("knot", "3.2"): Tested("knot", ("/usr/sbin/knotd", "--version"), "test_pasted.py"),
    ("knot-resolver", "5.6"): Tested("knot-resolver", ("/usr/sbin/kresd", "--version"), "test_knot_resolver.py"),
    ("nsd", "4.6"): Tested("nsd", ("/usr/sbin/nsd", "-v"), "test_pasted.py"),
    ("powerdns", "4.8"): Tested("pdns-recursor", ("/usr/sbin/pdns_recursor", "--version"), "test_pasted.py"),
    ("unbound", "1.17"): Tested("unbound", ("/usr/sbin/unbound", "-V"), "test_pasted.py"),
}
"""By program and version."""
