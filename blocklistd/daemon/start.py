"""The first steps of a start, which need nothing but the configuration; and the keys that a reload can't change."""

from __future__ import annotations

import functools
import os
import socket
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

from blocklistd.config import Address, Config, ConnectionBounds, DnsSettings
from blocklistd.config.files import user_name
from blocklistd.errors import DatabaseDamagedError, StoreError, store_errors
from blocklistd.serve.http.listener import bind
from blocklistd.store import upkeep
from blocklistd.store.database import Database
from blocklistd.store.store import Store

FIXED: Final = (
    "state_dir",
    "database",
    "high_water",
    "control.socket",
    "control.group",
    "feed.listen",
    "ops.listen",
    "keys.online",
)
"""Keys that a reload can't change: the daemon has opened what they name."""


def refuse_strangers(state_dir: Path) -> None:
    """Raises StoreError where another user owns the state_dir, before anything in it is touched: that user's daemon
    could not read what we would make there."""
    try:
        owner = state_dir.stat().st_uid
    except OSError:  # it does not exist yet, or we may not read it: the next step raises this
        return
    if owner != os.geteuid():
        its, ours = user_name(owner), user_name(os.geteuid())
        raise StoreError(
            f"{state_dir} belongs to {its}, and this is {ours}: expected the owner of the state_dir. Start it by "
            f"`systemctl start blocklistd` or `runuser -u {its} -- blocklistd serve`, or give this daemon a state_dir "
            f"of its own"
        )


def check_writable(store: Store) -> None:
    """Raises StoreError unless the daemon can read every file in the state_dir and write in every folder."""
    if store.read_only:
        return
    found: list[str] = []
    with store_errors(store.state_dir):
        _look_at(store.state_dir, found)
    if found:
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        ours = user_name(os.geteuid())
        raise StoreError(
            f"{found[0]}{more}: expected files and folders that {ours}, who runs the daemon, can read and write: "
            f"`chown -R {ours}: {store.state_dir}`, and give back modes that were taken away (folders 0700, files 0600)"
        )


def _look_at(folder: Path, found: list[str]) -> None:
    """Adds a text to `found` for each file that can't be read and each folder that can't be written."""
    if text := _closed(folder, os.R_OK | os.W_OK | os.X_OK):
        found.append(text)
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _look_at(Path(entry.path), found)
            elif text := _closed(Path(entry.path), os.R_OK):
                found.append(text)


def _closed(path: Path, wanted: int) -> str | None:
    """Why the daemon can't access the path (`wanted`: as for os.access); None where it can, or the path is gone."""
    try:
        owner = path.stat().st_uid
    except FileNotFoundError:
        return None
    if owner != os.geteuid():
        return f"{path} belongs to {user_name(owner)}"
    if not os.access(path, wanted):
        return f"{path} has the mode {path.stat().st_mode & 0o7777:04o}"
    return None


def bind_all(config: Config, stack: AsyncExitStack) -> dict[str, list[socket.socket]]:
    """Binds all ports, before the database is opened: a port in use is then reported before the state is touched."""
    feed, ops = config.feed, config.ops
    sockets = {
        "feed": [bind(address, "feed.listen") for address in feed.listen],
        "ops": [bind(address, "ops.listen") for address in ops.listen],
    }
    dns = config.serves_dns
    sockets["dns"] = [bind(address, "dns.listen") for address in dns.listen] if dns else []
    sockets["datagrams"] = []
    for bound in sockets["dns"]:  # the same port in both transports, also where the system chose it
        host, port = bound.getsockname()[:2]
        sockets["datagrams"].append(bind(Address(host, port), "dns.listen", socket.SOCK_DGRAM))
    for bound in [bound for group in sockets.values() for bound in group]:
        stack.callback(bound.close)
    return sockets


def open_store(state_dir: Path) -> Store:
    """Clears what an earlier daemon left unfinished, migrates the database and begins a new epoch; does none of these
    on a read-only file system. Where the database is damaged and sealed files exist, the store has the epoch 0."""
    store = Store.found(state_dir)
    if not store.read_only:
        with store_errors(state_dir):
            store.sealed.prepare()
            upkeep.clear_work(store)
    database = Database(store.database, read_only=store.read_only)
    has_files = any(store.sealed.root.glob("??/[!.]*"))
    try:
        database.migrate(beside_files=has_files)
        database.take_over()
    except DatabaseDamagedError:
        if not has_files:
            raise  # nothing was ever served from it
    finally:
        database.close()
    return Store(state_dir, database.epoch, read_only=store.read_only)


def fixed_changes(old: Config, new: Config) -> list[str]:
    """The keys of FIXED, and of `dns` and `feed.tls`, that differ: only a restart can change them."""
    changed = [key for key in FIXED if _value(new, key) != _value(old, key)]
    if _without_bounds(new.serves_dns) != _without_bounds(old.serves_dns):
        changed.append("dns (opened with the first zone, closed with the last)")
    if (new.feed.tls is None) != (old.feed.tls is None):
        changed.append("feed.tls (set or not set)")
    return changed


def _without_bounds(dns: DnsSettings | None) -> DnsSettings | None:
    return replace(dns, connections=ConnectionBounds()) if dns is not None else None


def _value(config: Config, key: str) -> object:
    return functools.reduce(getattr, key.split("."), config)
