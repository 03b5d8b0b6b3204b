"""The demo's folder and configuration.

The folder is new or empty before. A temporary folder is removed at the end; a --dir stays.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from blocklistd.errors import BlocklistError

LIST: Final = "national"
SOURCE: Final = "demo-hotline"
ZONE: Final = "rpz.demo.example"

CONFIG: Final = """\
# The configuration of the demo. Keys that are not here have their defaults.
state_dir: state
control:
  socket: control.sock
  operators: {{{user}: [admin]}}
keys:
  online: {{file: keys/online.pem}}
sources:
  {source}:
    url: {url}
    format: text
    defaults: {{type: domain}}
    schedule: every 1s
    verify: {{method: minisign, key: keys/hotline.pub}}
lists:
  {list}:
    sources: [{source}]
    guards: {{daily: off}}  # weeks of changes come within minutes
feed:
  listen: ["127.0.0.1:{feed}"]
zones:
  {zone}: {{list: {list}}}
dns:
  listen: ["127.0.0.1:{dns}"]
ops:
  listen: ["127.0.0.1:{ops}"]
"""


class DemoFailed(BlocklistError):
    """The folder can't be used, or the daemon or the subscriber did not start or ended."""


class Ports(NamedTuple):
    """The demo's ports on loopback."""

    feed: int
    dns: int
    ops: int


@contextlib.contextmanager
def demo_folder(directory: Path | None) -> Iterator[Path]:
    """The folder of one demo. Raises DemoFailed if it can't be written or is not empty."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="blocklistd-demo-")) if directory is None else directory.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            taken = any(folder.iterdir())
    except OSError as error:
        where = error.filename if directory is None else directory
        raise DemoFailed(
            f"{where}: {error.strerror}: expected a folder that can be written: name one with --dir"
        ) from None
    if taken:
        raise DemoFailed(f"{folder}: not empty: expected a new or an empty folder: name one with --dir")
    try:
        yield folder
    finally:
        if directory is None:
            shutil.rmtree(folder, ignore_errors=True)


def configure(path: Path, url: str, public_key: bytes) -> Ports:
    """Writes the configuration and the hotline's public key. Returns the ports; they were free a moment ago."""
    ports = Ports(_free_port(), _free_port(), _free_port())
    keys = path.parent / "keys"
    keys.mkdir(mode=0o700)
    (keys / "hotline.pub").write_bytes(public_key + b"\n")
    user = pwd.getpwuid(os.geteuid()).pw_name
    path.write_text(CONFIG.format(user=user, source=SOURCE, list=LIST, zone=ZONE, url=url, **ports._asdict()))
    return ports


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
