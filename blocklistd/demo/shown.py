"""The texts that the demo prints, at most 80 columns wide unless a folder's name is longer."""

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
    """The line, under HEADERS, of a version that has arrived. `made`: its row of `list versions --json`; `done`: what
    `sync --json` printed; `took`: seconds; `secondary`: its serial, and after how long it had that."""
    serial, when = secondary
    counts = f"{'+' + str(made['added']):>7} {'-' + str(made['removed']):>7} {done['entries']:>7}"
    taken = f"{done['how']:<8} {done['bytes']:>8}"
    return f"version {done['version']:>3} {counts}  {taken} {took:>5.2f} s {serial or '':>6} {when:>7}"


def held(candidate: Mapping[str, Any]) -> str:
    """The lines about a held candidate: its figures, and the commands that decide it."""
    reasons = "".join(f"  {r['guard']}: {r['found']}, limit {r['limit']}\n" for r in candidate["reasons"])
    return (
        f"HELD        {'+' + str(candidate['added']):>7} {'-' + str(candidate['removed']):>7} by a guard\n{reasons}"
        f"  The last good version stays live until somebody has looked:\n"
        f"  where you tried the commands above,\n"
        f"    blocklistd candidate show {candidate['id']}\n"
        f"    blocklistd candidate approve {candidate['id']}"
    )


def commands(folder: Path, feed: int, dns: int, ops: int) -> list[str]:
    """Commands to try, in this order in one shell: the first two set the folder and the environment."""
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
    """The end of the `export` line that puts this program on PATH; empty where `blocklistd` is this program already."""
    ours = shutil.which("blocklistd", path=str(Path(sys.executable).parent))
    if ours is None or shutil.which("blocklistd") == ours:
        return ""
    return f' \\\n      PATH={shlex.quote(str(Path(ours).parent))}:"$PATH"'


def greeting(folder: Path, commands: list[str]) -> str:
    """The first text of the demo: where it is, and the commands to try."""
    dig = "" if shutil.which("dig") else "dig is missing here; it is in Debian's package bind9-dnsutils.\n\n"
    return (
        f"blocklistd demo: a hotline, the daemon and a subscriber, all on loopback, in\n{folder}\n\n"
        f"Try in another terminal:\n{''.join(f'  {command}{chr(10)}' for command in commands)}\n"
        f"{dig}Ctrl-C stops everything.\n\n{HEADERS}"
    )
