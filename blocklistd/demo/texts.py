"""The texts that the demo prints, at most 80 columns wide unless the folder's name is longer."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blocklistd.change import Reason
from blocklistd.demo.folder import LIST, ZONE, Ports
from blocklistd.language.context import _


def headers() -> str:
    """The lines above those of `version`."""
    return (
        _("feed, dns: seconds from the hotline's change to the subscriber, to the secondary")
        + "\n              "
        + _("added removed entries  sent as     bytes    feed serial     dns")
    )


def version(made: Mapping[str, Any], done: Mapping[str, Any], took: float, secondary: tuple[int | None, str]) -> str:
    """The line below `headers` for a version that the subscriber has received.

    `made`: its row of `list versions --json`; `done`: the document of `sync --json`; `took`: seconds from the hotline's
    change to the subscriber; `secondary`: the secondary's serial, and the time until it had that serial.
    """
    serial, when = secondary
    counts = f"{'+' + str(made['added']):>7} {'-' + str(made['removed']):>7} {done['entries']:>7}"
    taken = f"{done['how']:<8} {done['bytes']:>8}"
    return f"{_('version')} {done['version']:>3} {counts}  {taken} {took:>5.2f} s {serial or '':>6} {when:>7}"


def held(candidate: Mapping[str, Any]) -> str:
    """The lines about a held candidate: its figures, and the commands to show and approve it."""
    reasons = "".join(f"  {Reason(**reason)}\n" for reason in candidate["reasons"])
    counts = f"{'+' + str(candidate['added']):>7} {'-' + str(candidate['removed']):>7}"
    return (
        f"{_('HELD'):<11} {counts} {_('by a guard')}\n{reasons}"
        f"  {_('The last version stays live until you decide. In the other terminal, run:')}\n"
        f"    blocklistd candidate show {candidate['id']}\n"
        f"    blocklistd candidate approve {candidate['id']}"
    )


def commands(folder: Path, ports: Ports) -> list[str]:
    """Commands to try, in this order in one shell. The first two change to the folder and set the environment."""
    url, dig = f"http://127.0.0.1:{ports.feed}", f"dig @127.0.0.1 -p {ports.dns} -k tsig.key {ZONE}"
    return [
        f"cd {shlex.quote(str(folder))}",
        f'export BLOCKLISTD_CONFIG="$PWD/blocklistd.yaml"{_path()}',
        "blocklistd status",
        f"blocklistd list versions {LIST}",
        f"curl -sS -H @header {url}/v1/lists/{LIST}",
        f"curl -sS -H @header {url}/v1/lists/{LIST}/diffs/1-2",
        f"blocklistd sync {url} {LIST} --dir my-copy \\\n      --root root/root.json --token-file token",
        f"{dig} SOA +short",
        f"{dig} IXFR=1",
        f"curl -sS http://127.0.0.1:{ports.ops}/metrics",
    ]


def _path() -> str:
    """The end of the `export` line that puts this program on PATH; empty if `blocklistd` already is this program."""
    ours = shutil.which("blocklistd", path=str(Path(sys.executable).parent))
    if ours is None or shutil.which("blocklistd") == ours:
        return ""
    return f' \\\n      PATH={shlex.quote(str(Path(ours).parent))}:"$PATH"'


def greeting(folder: Path, commands: list[str], ports: Ports) -> str:
    """The first text of the demo: its folder, the commands to try, and the dashboard."""
    dig = _("dig is not installed here: install Debian's package bind9-dnsutils.")
    return (
        f"{_('blocklistd demo: a hotline, the daemon and a subscriber, all on loopback, in')}\n{folder}\n\n"
        f"{_('Try in another terminal:')}\n{''.join(f'  {command}{chr(10)}' for command in commands)}\n"
        f"{'' if shutil.which('dig') else f'{dig}{chr(10)}{chr(10)}'}"
        f"{_('The dashboard, in a browser: {url}', url=f'http://127.0.0.1:{ports.ops}/')}\n"
        f"{_('Ctrl-C stops everything.')}\n\n{headers()}"
    )
