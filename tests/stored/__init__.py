"""Stored states of earlier versions, with the data that an upgrade has to keep.

`python -m tests.stored` adds the state of the present version; run it once for each version that changes the schema. A
stored state is never made again: it stands for the states that this version left on disks.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

from tests.system.daemon import Daemon

HERE = Path(__file__).parent
ZONE = "rpz.blocklist.example"
LIST = "national"
FIRST = tuple(f"n{number}.example" for number in range(40))
SECOND = (*FIRST[1:], "second.example")
THIRD = (*SECOND, "third.example")
REJECTED = FIRST[20:]
HELD = FIRST[:20]
PARTS = ("state", "keys", "root")


def daemon(folder: Path, dns_port: int) -> Daemon:
    """A daemon with the configuration of the stored states, in a folder and on a port of its own."""
    source = {
        "url": f"file:{folder}/list",
        "format": "text",
        "defaults": {"type": "domain"},
        "schedule": "every 1d",
        "verify": {"method": "none"},
    }
    return Daemon(
        folder,
        {
            "keys": {"online": {"file": "keys/online.pem"}, "root_expires": "36500d"},
            "sources": {"hotline": source},
            "lists": {
                LIST: {
                    "sources": ["hotline"],
                    "guards": {"min_entries": 0, "min_change": 5, "max_removed": "10%", "daily": "off"},
                }
            },
            "zones": {ZONE: {"list": LIST}},
            "dns": {"listen": [f"127.0.0.1:{dns_port}"]},
        },
    )


def write(folder: Path, names: tuple[str, ...]) -> None:
    (folder / "list").write_text("".join(f"{name}\n" for name in names))


def make(folder: Path, dns_port: int) -> dict[str, Any]:
    """Makes three versions, a rejected and a held candidate, and subscribers of the list and of its zone. Returns the
    data that an upgrade has to keep."""
    one = daemon(folder, dns_port)
    write(folder, FIRST)
    with one:
        one.first_pull("hotline")
        for names in (SECOND, THIRD):
            write(folder, names)
            assert one.pull("hotline")["outcome"] == "published"
        write(folder, REJECTED)
        refused = one.pull("hotline")["candidate"]
        assert one.ask("candidate reject", candidate=refused, why="a faulty list").status == 200
        write(folder, HELD)
        held = one.pull("hotline")["candidate"]
        token = one.subscriber("isp", LIST)
        secondary = one.ask("subscriber add", id="resolver", zones=[ZONE]).json
        one.wait_for(lambda: one.ask("status").json["zones"].get(ZONE, {}).get("serial") == 3)
        return {
            "token": token,
            "tsig": secondary["tsig"],
            "status": one.get(f"/v1/lists/{LIST}", token).json,
            "snapshot": hashlib.sha256(one.snapshot(LIST, token)).hexdigest(),
            "diff": hashlib.sha256(one.get(f"/v1/lists/{LIST}/diffs/1-3", token).body).hexdigest(),
            "rejected": refused,
            "held": one.ask("candidate show", candidate=held).json,
        }


def pack(folder: Path, version: str, right: dict[str, Any]) -> None:
    """Writes VERSION.tar.xz and VERSION.json."""
    with tarfile.open(HERE / f"{version}.tar.xz", "x:xz") as archive:
        for part in PARTS:
            archive.add(folder / part, part)
    (HERE / f"{version}.json").write_text(json.dumps(right, indent=1, sort_keys=True) + "\n")


def unpack(folder: Path, version: str) -> dict[str, Any]:
    """Unpacks a stored state into a folder; returns the data that an upgrade has to keep."""
    with tarfile.open(HERE / f"{version}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    right: dict[str, Any] = json.loads((HERE / f"{version}.json").read_text())
    return right
