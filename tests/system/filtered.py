"""Runs a command under the system call filter of the systemd unit, as systemd would set it up: `filtered.py COMMAND…`.

The unit is blocklistd.service, or the one that $UNIT_OF_TEST names. SystemCallFilter= as systemd-analyze lists its
groups, and MemoryDenyWriteExecute= and RestrictAddressFamilies= as systemd.exec(5) describes them.
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pyseccomp

UNIT = Path(__file__).parents[2] / "systemd" / os.environ.get("UNIT_OF_TEST", "blocklistd.service")
WRITE, EXECUTE = 2, 4  # PROT_WRITE, PROT_EXEC


def members(group: str) -> set[str]:
    """The calls in a group of systemd's, and in the groups in it."""
    if not group.startswith("@"):
        return {group}
    listed = subprocess.run(["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True)
    words = {line.strip() for line in listed.stdout.splitlines()[1:] if line.strip() and "#" not in line}
    return {call for word in words for call in members(word)}


def allowed() -> set[str]:
    """What the unit lets through."""
    calls: set[str] = members("@default")
    for line in UNIT.read_text().splitlines():
        key, _, value = line.partition("=")
        if key == "SystemCallFilter":
            named = {call for group in value.removeprefix("~").split() for call in members(group)}
            calls = calls - named if value.startswith("~") else calls | named
    return calls


def families() -> list[int]:
    """The kinds of sockets that the unit lets through, in order."""
    (named,) = (line for line in UNIT.read_text().splitlines() if line.startswith("RestrictAddressFamilies="))
    return sorted(getattr(socket, name).value for name in named.partition("=")[2].split())


def main() -> None:
    """Never returns."""
    rules = pyseccomp.SyscallFilter(pyseccomp.ERRNO(errno.EPERM))
    for call in allowed() - {"mmap", "mprotect", "pkey_mprotect", "socket"}:
        if pyseccomp.resolve_syscall(pyseccomp.system_arch(), call) >= 0:
            rules.add_rule(pyseccomp.ALLOW, call)
    for protection in (0, WRITE, EXECUTE):
        mask = pyseccomp.Arg(2, pyseccomp.MASKED_EQ, WRITE | EXECUTE, protection)
        rules.add_rule(pyseccomp.ALLOW, "mmap", mask)
    for call in ("mprotect", "pkey_mprotect"):
        rules.add_rule(pyseccomp.ALLOW, call, pyseccomp.Arg(2, pyseccomp.MASKED_EQ, EXECUTE, 0))
    known = families()
    for family in range(max(known) + 1):
        action = pyseccomp.ALLOW if family in known else pyseccomp.ERRNO(errno.EAFNOSUPPORT)
        rules.add_rule(action, "socket", pyseccomp.Arg(0, pyseccomp.EQ, family))
    rules.add_rule(pyseccomp.ERRNO(errno.EAFNOSUPPORT), "socket", pyseccomp.Arg(0, pyseccomp.GT, max(known)))
    rules.load()
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
