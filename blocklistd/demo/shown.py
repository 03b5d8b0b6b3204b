"""What the demo prints: lines of at most 80 columns, unless a folder's name is long."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from blocklistd.demo.place import LIST, ZONE

HEADERS: Final = (
    "feed: seconds from the hotline's change to the subscriber; dns: to the secondary\n"
    "              added removed entries  taken as    bytes    feed serial     dns"
)


def version(made: Mapping[str, Any], done: Mapping[str, Any], took: float, secondary: tuple[int | None, str]) -> str:
    """A version that has arrived, under HEADERS. `made`: as `list versions` tells of it; `done`: as `sync` does;
    `secondary`: its serial, and when it had it."""
    serial, when = secondary
    counts = f"{'+' + str(made['added']):>7} {'-' + str(made['removed']):>7} {done['entries']:>7}"
    taken = f"{done['how']:<8} {done['bytes']:>8}"
    return f"version {done['version']:>3} {counts}  {taken} {took:>5.2f} s {serial or '':>6} {when:>7}"


def held(candidate: Mapping[str, Any]) -> str:
    """What a guard holds, and what to do with it."""
    reasons = "".join(f"  {r['guard']}: {r['found']}, limit {r['limit']}\n" for r in candidate["reasons"])
    return (
        f"HELD        {'+' + str(candidate['added']):>7} {'-' + str(candidate['removed']):>7} by a guard\n{reasons}"
        f"  The last good version stays live until somebody has looked:\n"
        f"  where you tried the commands above,\n"
        f"    blocklistd candidate show {candidate['id']}\n"
        f"    blocklistd candidate approve {candidate['id']}"
    )


def commands(folder: Path, feed: int, dns: int, ops: int) -> list[str]:
    """For one shell, in this order: the first two say where everything is."""
    url, answers = f"http://127.0.0.1:{feed}", f"dig @127.0.0.1 -p {dns} -k tsig.key {ZONE}"
    return [
        f"cd {shlex.quote(str(folder))}",
        f'export BLOCKLISTD_CONFIG="$PWD/blocklistd.yaml"{_path()}',
        "blocklistd status",
        f"blocklistd list versions {LIST}",
        f"curl -sS -H @header {url}/v1/lists/{LIST}",
        f"curl -sS -H @header {url}/v1/lists/{LIST}/diffs/1-2",
        f"blocklistd sync {url} {LIST} --dir my-copy \\\n      --root root/root.json --token-file token",
        f"{answers} SOA +short",
        f"{answers} IXFR=1",
        f"curl -sS http://127.0.0.1:{ops}/metrics",
    ]


def _path() -> str:
    """What makes `blocklistd` this program, if it is another's name or nobody's."""
    ours = shutil.which("blocklistd", path=str(Path(sys.executable).parent))
    if ours is None or shutil.which("blocklistd") == ours:
        return ""
    return f' \\\n      PATH={shlex.quote(str(Path(ours).parent))}:"$PATH"'


def greeting(folder: Path, commands: list[str]) -> str:
    """What to try."""
    dig = "" if shutil.which("dig") else "dig is missing here; it is in Debian's package bind9-dnsutils.\n\n"
    return (
        f"blocklistd demo: a hotline, the daemon and a subscriber, all on loopback, in\n{folder}\n\n"
        f"Try in another terminal:\n{''.join(f'  {command}{chr(10)}' for command in commands)}\n"
        f"{dig}Ctrl-C stops everything.\n\n{HEADERS}"
    )
