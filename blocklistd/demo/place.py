"""Where the demo is: a folder, empty before and gone afterwards unless it was asked for, and its configuration."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from blocklistd.errors import BlocklistError

LIST: Final = "national"
SOURCE: Final = "demo-hotline"
ZONE: Final = "rpz.demo.example"

CONFIG: Final = """\
# The demo's configuration: everything here, everything else as embedded.
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
    """There is no place for it, or the daemon or the subscriber did not start or ended."""


@contextlib.contextmanager
def place(directory: Path | None) -> Iterator[Path]:
    """Raises DemoFailed where it can't be written, or holds what is not the demo's."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="blocklistd-demo-")) if directory is None else directory.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            taken = any(folder.iterdir())
    except OSError as error:
        where = error.filename if directory is None else directory
        raise DemoFailed(f"{where}: {error.strerror}: expected a folder that can be written; --dir names one") from None
    if taken:
        raise DemoFailed(
            f"{folder}: not empty: expected a new or an empty folder, for nothing in it is to be overwritten"
        )
    try:
        yield folder
    finally:
        if directory is None:
            shutil.rmtree(folder, ignore_errors=True)


def configure(path: Path, url: str, public_key: bytes) -> tuple[int, int, int]:
    """Writes the configuration and the hotline's key; the ports of feed, DNS and ops, free a moment ago."""
    feed, dns, ops = _free_port(), _free_port(), _free_port()
    keys = path.parent / "keys"
    keys.mkdir(mode=0o700)
    (keys / "hotline.pub").write_bytes(public_key + b"\n")
    user = pwd.getpwuid(os.geteuid()).pw_name
    path.write_text(CONFIG.format(user=user, source=SOURCE, list=LIST, zone=ZONE, url=url, feed=feed, dns=dns, ops=ops))
    return feed, dns, ops


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
