"""The options of `blocklistd sync`, and its result."""

from __future__ import annotations

import grp
import re
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from blocklistd.client.connections import PROXY_SECRET, FeedAccess
from blocklistd.client.exceptions import EXCEPTED
from blocklistd.errors import SyncError
from blocklistd.limits import CLIENT_EXEC
from blocklistd.outputs import OUTPUTS

NODE: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""Names of nodes in receipts."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `blocklistd sync`.

    `root`: the publisher's root.json. `dir`: the folder of the copy. `mirrors`: addresses that are asked if `url`
    fails; they get the token of `mirror_token_file`, never that of `token_file`. `ca`, `cert`, `key`, `proxy`: see
    FeedAccess. `proxy_file`: a file that contains the address of the proxy, with its password. `format`: "ndjson", or a
    key of outputs.OUTPUTS for a rendering beside the snapshot. `exec`: a shell command to run after a change, for
    `exec_timeout` seconds. `exceptions`: a file of local exceptions (lines/exceptions.py), whose entries are omitted
    from the rendering. `group`: name of the group that may read the files. `node`: this node's name in receipts, None
    for the host's; `receipts`: whether they are sent. `probe`: the address of a resolver (probe.Resolver),
    `probe_control` a name that is compared with the test entries, None for the name above; `probe_stops`: names and
    addresses to which the resolver redirects.
    """

    url: str
    list: str
    root: Path
    dir: Path
    token_file: Path | None = None
    mirrors: tuple[str, ...] = ()
    mirror_token_file: Path | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    proxy: str | None = None
    proxy_file: Path | None = None
    format: str | None = None
    exec: str | None = None
    exec_timeout: float = CLIENT_EXEC
    exceptions: Path | None = None
    group: str | None = None
    node: str | None = None
    receipts: bool = True
    probe: str | None = None
    probe_control: str | None = None
    probe_stops: tuple[str, ...] = field(default=())

    def check(self) -> None:
        """Raises SyncError for an option that can't be used."""
        if self.format not in (None, "ndjson", *OUTPUTS):
            raise SyncError(f"there is no format {self.format}: expected ndjson, {', '.join(OUTPUTS)}")
        if self.node is not None and not NODE.fullmatch(self.node):
            raise SyncError(f"--node {self.node!r}: expected 1 to 64 letters, digits, dots, hyphens or underscores")
        if self.proxy is not None and "@" in self.proxy:
            raise SyncError(f"--proxy: {PROXY_SECRET}")
        if self.proxy is not None and self.proxy_file is not None:
            raise SyncError("--proxy, --proxy-file: expected one of them")
        is_proxied = self.proxy is not None or self.proxy_file is not None
        if is_proxied and not any(url.startswith("https:") for url in (self.url, *self.mirrors)):
            raise SyncError(
                f"{self.url}: a feed with http: is on this machine, and no proxy is asked for it: leave --proxy and "
                f"--proxy-file out"
            )

    @property
    def rendering(self) -> str | None:
        """The rendering that is kept beside the snapshot; None for none."""
        if self.format in OUTPUTS:
            return self.format
        return EXCEPTED if self.exceptions is not None else None

    def node_name(self) -> str:
        """The name of this node in receipts."""
        return self.node or re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:64] or "unnamed"

    def access(self) -> FeedAccess:
        """How `url` is reached. Reads the token at each call, so that a new token is used at once. Raises SyncError."""
        return FeedAccess(_token(self.token_file), self.ca, self.cert, self.key, self._proxy())

    def mirror_access(self) -> FeedAccess:
        """How the mirrors are reached. Raises SyncError."""
        return FeedAccess(_token(self.mirror_token_file), self.ca, self.cert, self.key, self._proxy())

    def _proxy(self) -> str | None:
        return self.proxy if self.proxy_file is None else read_given(self.proxy_file).decode("latin-1").strip()

    def gid(self) -> int | None:
        """The gid of the group. Raises SyncError."""
        try:
            return None if self.group is None else grp.getgrnam(self.group).gr_gid
        except KeyError:
            raise SyncError(f"--group {self.group}: there is no such group: expected one of /etc/group") from None


@dataclass(frozen=True, slots=True)
class SyncResult:
    """The version after a sync. `how`: "snapshot", "diff" or "unchanged". `bytes`: the size of all received bodies.
    `excepted`: the number of entries that local exceptions take out; None without `--exceptions`."""

    list: str
    session: str
    version: int
    entries: int
    how: str
    bytes: int
    excepted: int | None = None


def _token(path: Path | None) -> str | None:
    if path is None:
        return None
    token = read_given(path).strip()
    if not re.fullmatch(rb"[!-~]+", token):
        words = len(token.split())
        found = "characters that are not printable ASCII" if words == 1 else f"{words} words" if words else "nothing"
        raise SyncError(f"{path}: found {found}, expected the token alone, one word: copy it from the publisher again")
    return token.decode()


def read_given(path: Path) -> bytes:
    """Reads a file that the publisher gave to the subscriber. Raises SyncError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise SyncError(
            f"{path}: {error.strerror}: expected what the publisher gave you, readable to this user"
        ) from error
