"""Facts of the machine: file systems, the kernel's clock, the systemd unit, and files that the configuration names."""

from __future__ import annotations

import ctypes
import itertools
import os
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from blocklistd.config import Config
from blocklistd.config.document import read_regular
from blocklistd.config.files import as_user, daemon_user
from blocklistd.daemon.doctor.facts import CertificateFile, FileSystem, GuardFile, HostFacts
from blocklistd.daemon.guard_names import references_of
from blocklistd.daemon.start import inaccessible
from blocklistd.sources.guard_files import WARNINGLIST

UNIT: Final = "blocklistd.service"
PROPERTIES: Final = ("LoadState", "ActiveState", "UnitFileState", "NeedDaemonReload", "NRestarts", "Result")
SYSTEMCTL: Final = 10.0  # seconds until systemctl has answered
TIME_ERROR: Final = 5  # adjtimex(2): the clock is not synchronised
TIMEX: Final = 512  # bytes, more than struct timex has; modes is 0: nothing is set


def host_facts(config: Config) -> HostFacts:
    """The facts of this machine, as far as this user can see them."""
    uid = daemon_user(config.state_dir)
    closed: list[str] = []
    if uid is not None:
        with suppress(OSError), as_user(uid):
            closed = inaccessible(config.state_dir)
    return HostFacts(
        disks=tuple(disks(config)),
        synchronised=is_synchronised(),
        unit=unit_properties(),
        inaccessible=tuple(closed),
        open_to_others=tuple(open_to_others(config)),
        certificates=tuple(certificates(config)),
        guard_files=tuple(guard_files(config)),
    )


def disks(config: Config) -> Iterator[FileSystem]:
    """The file systems on which the daemon writes."""
    places = {"state_dir": config.state_dir}
    if config.high_water is not None:
        places["high_water"] = config.high_water.parent
    if config.feed.public_dir is not None:
        places["feed.public_dir"] = config.feed.public_dir.path
    on: dict[int, list[str]] = {}
    for key, path in places.items():
        with suppress(OSError):
            on.setdefault(path.stat().st_dev, []).append(key)
    for keys in on.values():
        path = places[keys[0]]
        with suppress(OSError):
            yield disk_of(path, keys)


def disk_of(path: Path, used_for: Iterable[str]) -> FileSystem:
    """The file system of a path. Raises OSError."""
    found = os.statvfs(path)
    size = found.f_frsize
    # the blocks that only root can use do not count
    total = (found.f_blocks - found.f_bfree + found.f_bavail) * size
    return FileSystem(path, tuple(used_for), total, found.f_bavail * size, found.f_files, found.f_favail)


def is_synchronised() -> bool | None:
    """Whether the kernel's clock is synchronised (adjtimex(2)); None if the kernel does not say."""
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(TIMEX))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != TIME_ERROR


def unit_properties() -> dict[str, str] | None:
    """Properties of the unit; None without systemd, or if no such unit is installed."""
    if not os.path.isdir("/run/systemd/system"):
        return None
    command = ["systemctl", "show", UNIT, f"--property={','.join(PROPERTIES)}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SYSTEMCTL, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    return found if found.get("LoadState") == "loaded" else None


def open_to_others(config: Config) -> Iterator[Path]:
    """Files and folders in the state_dir that other users can read. The static tree is meant for others."""
    public = config.feed.public_dir.path if config.feed.public_dir is not None else None
    with suppress(OSError):
        for path in sorted(config.state_dir.iterdir()):
            if path != public and path.name != "lost+found" and path.stat().st_mode & 0o077:
                yield path


def certificates(config: Config) -> Iterator[CertificateFile]:
    """The certificates of the listeners that can be read."""
    for key, tls in (("feed.tls.cert", config.feed.tls), ("dns.tls.cert", config.dns.tls if config.dns else None)):
        if tls is not None:
            with suppress(OSError, ValueError):
                yield certificate(key, tls.cert)


def certificate(key: str, path: Path) -> CertificateFile:
    """The certificate file of a key of the configuration. Raises OSError or ValueError."""
    from cryptography.x509 import (
        DNSName,
        ExtensionNotFound,
        IPAddress,
        SubjectAlternativeName,
        load_pem_x509_certificates,
    )

    chain = load_pem_x509_certificates(read_regular(path))
    names: list[str] = []
    with suppress(ExtensionNotFound):
        found = chain[0].extensions.get_extension_for_class(SubjectAlternativeName).value
        names = [*found.get_values_for_type(DNSName), *map(str, found.get_values_for_type(IPAddress))]
    ordered = True
    for issued, issuer in itertools.pairwise(chain):
        try:
            issued.verify_directly_issued_by(issuer)
        except Exception:  # cryptography raises a different error for each way in which it does not fit
            ordered = False
    return CertificateFile(key, path, tuple(names), ordered)


def guard_files(config: Config) -> Iterator[GuardFile]:
    """The files of names of all guards."""
    for name in config.lists:
        for guard, group in references_of(config, name).items():
            for path in (Path(one) for one in group if not one.startswith(WARNINGLIST)):
                with suppress(OSError):
                    yield GuardFile(name, guard, path, datetime.fromtimestamp(path.stat().st_mtime, UTC))
