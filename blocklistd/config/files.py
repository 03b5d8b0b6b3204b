"""Checks the files that a configuration names: the daemon's user can read them, nobody else can read the private ones,
certificates are valid now and belong to their keys.

The daemon's user is the owner of the state_dir. Root checks with that user's rights. Any other user can't check access
and reports nothing about it.
"""

from __future__ import annotations

import grp
import hashlib
import os
import pwd
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from blocklistd.config.document import ConfigDocument, NamedFile, read_regular
from blocklistd.config.reader import SectionValues
from blocklistd.limits import CERTIFICATE_ALARM_DAYS
from blocklistd.times import utc_now

if TYPE_CHECKING:
    from blocklistd.config.secrets import Secret

NOBODY: Final = 65534
RENEW: Final = "renew the certificate, then run `blocklistd reload`"


# -- access ------------------------------------------------------------------------------------------------------------
def check_access(section: SectionValues) -> None:
    """Reports files that the daemon's user can't read (nonfatal), and private files that others can read (warnings)."""
    state_dir = section.values.get("state_dir")
    document = section.document
    uid = daemon_user(state_dir) if document.check_files and isinstance(state_dir, Path) else None
    if uid is None:
        return
    with suppress(PermissionError), as_user(uid):
        for file in [NamedFile("", 1, document.file.absolute(), private=False), *document.files]:
            if (why := _closed(file.path)) is not None:
                expected = f"a file that {user_name(uid)}, who runs the daemon, can read"
                document.report_nonfatal(file.key, expected, f"{file.path}: {why}", file.line)
    for file in document.files:
        if file.private and (others := _others(file.path, uid)):
            document.warn(file.key, f"a private file: `chmod go= {file.path}`", f"{file.path} {others}", file.line)


def daemon_user(state_dir: Path) -> int | None:
    """The uid that runs the daemon: the owner of the state_dir; before the state_dir exists, the uid of this process.

    None if that is another user than the one of this process, and this process is not root.
    """
    try:
        owner = state_dir.stat().st_uid
    except OSError:
        owner = os.geteuid()
    return owner if os.geteuid() in (0, owner) else None


def user_name(uid: int) -> str:
    """The user's name for messages; `uid N` if the system has no name for it."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


@contextmanager
def as_user(uid: int) -> Iterator[None]:
    """Runs the block with the rights of this user. Only root may give another uid than its own."""
    if uid == os.geteuid():
        yield
        return
    groups, gid = os.getgroups(), os.getegid()
    try:
        os.setgroups(group_ids(uid))
        os.setegid(group_ids(uid)[0])
        os.seteuid(uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)


def group_ids(uid: int) -> Sequence[int]:
    """The ids of the user's groups, its primary group first."""
    if uid == os.geteuid():
        return [os.getegid(), *os.getgroups()]
    try:
        known = pwd.getpwuid(uid)
    except KeyError:
        return [NOBODY]
    return [known.pw_gid, *os.getgrouplist(known.pw_name, known.pw_gid)]


def _closed(path: Path) -> str | None:
    """Why the file can't be read; None if it can, or if it is missing (ConfigNode.add_file reports that)."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except FileNotFoundError:
        return None
    except OSError as error:
        return error.strerror
    return None


def _others(path: Path, uid: int) -> str | None:
    """A phrase that names who else can read a private file: everybody, or a group without the daemon's user."""
    try:
        found = path.stat()
    except OSError:
        return None
    mode = f"with the mode {stat.S_IMODE(found.st_mode):04o}, which"
    if found.st_mode & stat.S_IROTH:
        return f"{mode} everybody on this host can read"
    if found.st_mode & stat.S_IRGRP and found.st_gid not in (0, *group_ids(uid)):
        with suppress(KeyError):
            return f"{mode} the group {grp.getgrgid(found.st_gid).gr_name} can read"
        return f"{mode} the group {found.st_gid} can read"
    return None


def checksums(document: ConfigDocument) -> dict[str, str]:
    """The SHA-256 (hex) of each named file that can be read, by key. A reload compares them to find changed files."""
    found: dict[str, str] = {}
    for file in document.files:
        with suppress(OSError):
            before = found.get(file.key, "").encode()  # a key may name several files
            found[file.key] = hashlib.sha256(before + read_regular(file.path)).hexdigest()
    return found


# -- certificates ------------------------------------------------------------------------------------------------------
def check_key_pair(section: SectionValues) -> None:
    """Checks that the key of a section belongs to its certificate, and that every certificate of the chain is valid."""
    import ssl

    if not section.has("cert", "key") or not section.document.check_files:
        return
    cert: Path = section.values["cert"]
    key: Secret = section.values["key"]
    _check_validity(section, "cert", validity_periods(cert))
    path = Path(key.name) if key.kind == "file" else None
    try:
        if path is None or not validity_periods(cert) or not read_regular(path).strip():
            return
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, path, password=lambda: b"")
    except ssl.SSLError as error:
        other = error.reason == "KEY_VALUES_MISMATCH"
        found = "the key of another certificate" if other else "which is no private key in PEM without a passphrase"
        section.report_nonfatal("key", f"the private key of {cert} in PEM", f"{path}, {found}")
    except OSError:  # the file is missing or closed to this process: other checks report that
        pass


def check_tls(section: SectionValues) -> None:
    """Checks the key pair of a listener, and that an authority of client certificates is valid now."""
    check_key_pair(section)
    check_authority(section, "client_ca")


def check_authority(section: SectionValues, name: str = "ca") -> None:
    """Checks that at least one certificate of the authorities in the file `name` is valid now."""
    ca = section.values.get(name)
    found = validity_periods(ca) if ca is not None and section.document.check_files else []
    if found:
        valid = [(begins, ends) for begins, ends in found if begins <= utc_now() < ends]
        _check_validity(section, name, [max(valid, key=lambda one: one[1])] if valid else found)


def _check_validity(section: SectionValues, name: str, certificates: Sequence[tuple[datetime, datetime]]) -> None:
    now, path = utc_now(), section.values[name]
    for begins, ends in certificates:
        if now < begins:
            expected = f"one that is valid now ({now:%Y-%m-%d %H:%M} UTC by this host's clock)"
            section.report_nonfatal(name, expected, f"{path}, which is not valid before {begins:%Y-%m-%d %H:%M} UTC")
            return
        if now >= ends:
            section.report_nonfatal(
                name, f"one that is valid now: {RENEW}", f"{path}, which expired on {ends:%Y-%m-%d}"
            )
            return
    if certificates and (end := min(ends for _, ends in certificates)) - now < timedelta(days=CERTIFICATE_ALARM_DAYS):
        days = (end - now).days
        section.document.warn(section.dotted(name), RENEW, f"{path}, which expires on {end:%Y-%m-%d}, in {days} days")


def validity_periods(path: Path) -> list[tuple[datetime, datetime]]:
    """(not before, not after) of each certificate in a PEM file; empty if the file can't be read. Both are in UTC."""
    from cryptography.x509 import load_pem_x509_certificates

    try:
        found = load_pem_x509_certificates(read_regular(path))
    except (OSError, ValueError):
        return []
    return [(one.not_valid_before_utc, one.not_valid_after_utc) for one in found]
