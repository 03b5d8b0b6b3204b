"""The first steps of a start: check the state_dir, bind the ports, open the store; and the keys that need a restart.

Order of calls in app.py: `require_owner`, take the store lock, `check_writable`, `bind_all`, `open_store`. Nothing is
written into the state_dir before `open_store` but the lock.
"""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

from blocklistd.config import Address, CheckedConfig, Config, ConnectionBounds, DnsSettings
from blocklistd.config.files import user_name
from blocklistd.daemon.activation import adopt
from blocklistd.errors import DatabaseDamagedError, StoreError, store_errors
from blocklistd.ops.systemd import passed_sockets
from blocklistd.serve.http.listener import bind
from blocklistd.store import upkeep
from blocklistd.store.database import Database
from blocklistd.store.state_id import state_id
from blocklistd.store.store import Store

RESTART_KEYS: Final = (
    "state_dir",
    "database",
    "high_water",
    "control.socket",
    "control.group",
    "feed.listen",
    "ops.listen",
)
"""Keys that a reload can't change, because the daemon has opened the files, sockets and keys that they name."""


def require_owner(state_dir: Path) -> None:
    """Raises StoreError if another user owns the state_dir. Called before anything in it is touched: the owner's daemon
    could not read files of this user."""
    try:
        owner = state_dir.stat().st_uid
    except OSError:  # missing or inaccessible: the next step reports it
        return
    if owner != os.geteuid():
        its, ours = user_name(owner), user_name(os.geteuid())
        raise StoreError(
            f"{state_dir} belongs to {its}, but the daemon was started as {ours}: start it with "
            f"`systemctl start blocklistd` or `runuser -u {its} -- blocklistd serve`, or configure another state_dir"
        )


def check_writable(store: Store) -> None:
    """Raises StoreError unless the daemon can read every file in the state_dir and write into every folder. A read-only
    file system is not checked."""
    if store.read_only:
        return
    with store_errors(store.state_dir):
        found = inaccessible(store.state_dir)
    if found:
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        ours = user_name(os.geteuid())
        raise StoreError(
            f"{found[0]}{more}: expected files and folders that {ours}, who runs the daemon, can read and write: run "
            f"`chown -R {ours}: {store.state_dir}`, and restore the modes (folders 0700, files 0600)"
        )


def inaccessible(folder: Path) -> list[str]:
    """A text for each file in the folder that this user can't read and each folder that this user can't write. Raises
    OSError."""
    if text := _access_problem(folder, os.R_OK | os.W_OK | os.X_OK):
        return [text]
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                found += inaccessible(Path(entry.path))
            elif text := _access_problem(Path(entry.path), os.R_OK):
                found.append(text)
    return found


def _access_problem(path: Path, mode: int) -> str | None:
    """Why the daemon can't access the path (`mode`: as for os.access); None if it can, or if the path was removed."""
    try:
        owner = path.stat().st_uid
    except FileNotFoundError:
        return None
    if owner != os.geteuid():
        return f"{path} belongs to {user_name(owner)}"
    if not os.access(path, mode, effective_ids=True):
        return f"{path} has the mode {path.stat().st_mode & 0o7777:04o}"
    return None


def bind_all(checked: CheckedConfig, stack: AsyncExitStack) -> dict[str, list[socket.socket]]:
    """Binds all ports that systemd has not bound: lists of sockets under the keys feed, ops, dns (TCP), xot (TLS) and
    datagrams (UDP); under control and status the sockets that systemd passed, else nothing. `stack` closes them.

    Called before the database is opened: a port in use is reported before the state is touched. Raises StoreError, or
    ConfigError if systemd's sockets are not those of the configuration.
    """
    config, passed = checked.config, passed_sockets()
    for bound in [bound for group in passed.values() for bound in group]:
        stack.callback(bound.close)
    given = adopt(checked, passed)
    sockets = {name: given.get(name, []) for name in ("control", "status")}
    for name, addresses in (("feed", config.feed.listen), ("ops", config.ops.listen)):
        sockets[name] = given.get(name) or _bound(addresses, f"{name}.listen", stack)
    dns, datagrams = config.serves_dns, list[socket.socket]()
    xot = dns.tls.listen if dns is not None and dns.tls is not None else ()
    for name, group, key, listen in (
        ("dns", "dns", "dns.listen", dns.listen if dns is not None else ()),
        ("dns-tls", "xot", "dns.tls.listen", xot),
    ):
        all_given = given.get(name, [])
        sockets[group] = [bound for bound in all_given if bound.type == socket.SOCK_STREAM] or _bound(
            listen, key, stack
        )
        # UDP on the same ports, also if the system chose them (port 0)
        ports = [Address(*bound.getsockname()[:2]) for bound in sockets[group]]
        datagrams += [bound for bound in all_given if bound.type == socket.SOCK_DGRAM] or _bound(
            ports, key, stack, socket.SOCK_DGRAM
        )
    return {**sockets, "datagrams": datagrams}


def _bound(
    addresses: Iterable[Address], key: str, stack: AsyncExitStack, kind: int = socket.SOCK_STREAM
) -> list[socket.socket]:
    sockets = [bind(address, key, kind) for address in addresses]
    for bound in sockets:
        stack.callback(bound.close)
    return sockets


def open_store(state_dir: Path, url: str | None = None) -> Store:
    """Removes unfinished files of an earlier daemon, migrates the database and begins a new epoch (each start has its
    number); does none of these on a read-only file system.

    Raises StoreError. If the database is damaged and sealed files exist, the returned store has the epoch 0; without
    sealed files DatabaseDamagedError is raised.
    """
    store = Store.found(state_dir, url)
    if not store.read_only:
        with store_errors(state_dir):
            store.sealed.prepare()
            upkeep.clear_work(store)
    database = Database(store.backend, read_only=store.read_only)
    has_files = any(store.sealed.root.glob("??/[!.]*"))
    try:
        database.migrate(beside_files=has_files)
        database.take_over(state_id(store.state_dir) if url is not None else None)
    except DatabaseDamagedError:
        if not has_files:
            raise  # nothing was ever published from this state_dir
    finally:
        database.close()
    return Store(state_dir, database.epoch, read_only=store.read_only, url=url)


def changes_for_a_restart(old: Config, new: Config) -> list[str]:
    """The keys among RESTART_KEYS, `dns` and `feed.tls` whose values differ. Only a restart can change them."""
    changed = [key for key in RESTART_KEYS if _value(new, key) != _value(old, key)]
    if _fixed(new.serves_dns) != _fixed(old.serves_dns):
        changed.append("dns (opened with the first zone, closed with the last)")
    if (new.feed.tls is None) != (old.feed.tls is None):
        changed.append("feed.tls (set or not set)")
    return changed


def _fixed(dns: DnsSettings | None) -> tuple[DnsSettings, tuple[Address, ...]] | None:
    """The settings that only a restart changes, and the addresses for TLS."""
    if dns is None:
        return None
    return replace(
        dns, connections=ConnectionBounds(), tls=None, catalog=None
    ), dns.tls.listen if dns.tls is not None else ()


def _value(config: Config, key: str) -> object:
    return functools.reduce(getattr, key.split("."), config)
