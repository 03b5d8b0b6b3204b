"""Checks of the machine and of what the administrator configures: daemon, files, clock, disks, certificates."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

from blocklistd.daemon.doctor.check import Check, Finding, Level
from blocklistd.daemon.doctor.facts import Facts, FileSystem
from blocklistd.limits import FULL_DISK_PARTS, GIB, LOW_DISK_PARTS
from blocklistd.times import TOLERANCE, rfc3339


# -- daemon ------------------------------------------------------------------------------------------------------------
def _is_reachable(facts: Facts) -> Iterator[Finding]:
    if facts.daemon is None:
        yield Finding(Level.CRITICAL, facts.unreachable)


def _version(facts: Facts) -> Iterator[Finding]:
    assert facts.daemon is not None
    if (running := facts.daemon["version"]) != facts.version:
        yield Finding(
            Level.WARNING,
            f"the daemon runs version {running}, but {facts.version} is installed: run `systemctl restart blocklistd`",
        )


def _readiness(facts: Facts) -> Iterator[Finding]:
    assert facts.daemon is not None
    known = set(facts.alarms.values())
    yield from (Finding(Level.CRITICAL, line) for line in facts.daemon["down"] if line not in known)
    yield from (Finding(Level.WARNING, line) for line in facts.daemon["wrong"] if line not in known)


def _deliveries(facts: Facts) -> Iterator[Finding]:
    assert facts.daemon is not None
    for one in facts.daemon["undelivered"]:
        if one["tries"]:
            name = f"{one['alarm']} {one['subject']}".strip()
            yield Finding(
                Level.WARNING,
                f"the alarm {name} did not reach people by the {one['way']} ({one['tries']} tries; "
                f"{one['reason'] or 'without a reason'}): correct `alarms.{one['way']}`, run `blocklistd alarms test`",
            )


def _unit(facts: Facts) -> Iterator[Finding]:
    unit = facts.host.unit if facts.host is not None else None
    if unit is None:
        return
    if unit.get("ActiveState") == "failed":
        yield Finding(
            Level.CRITICAL,
            f"the unit has failed ({unit.get('Result', 'unknown')}): "
            "read `journalctl -u blocklistd -e`, correct what it says, then run `systemctl restart blocklistd`",
        )
    if unit.get("UnitFileState") == "disabled":
        yield Finding(
            Level.WARNING,
            "the unit is disabled, so that a boot does not start the daemon: run `systemctl enable blocklistd`",
        )
    if unit.get("NeedDaemonReload") == "yes":
        yield Finding(
            Level.WARNING,
            "the file of the unit has changed since systemd read it: "
            "run `systemctl daemon-reload`, then `systemctl restart blocklistd`",
        )
    if unit.get("NRestarts", "0") != "0":
        yield Finding(
            Level.WARNING,
            f"systemd has started the daemon again {unit['NRestarts']} times after it failed"
            ": look for the reason in `journalctl -u blocklistd -p warning`",
        )


# -- configuration -----------------------------------------------------------------------------------------------------
def _configuration(facts: Facts) -> Iterator[Finding]:
    expiring = {subject for kind, subject in facts.alarms if kind == "certificate"}
    for problem in facts.problems:
        if problem.key not in expiring:
            yield Finding(Level.CRITICAL, f"{problem}; then run `blocklistd check-config` and `blocklistd reload`")
    for warning in facts.warnings:
        if warning.key not in expiring:
            yield Finding(Level.WARNING, str(warning))


def _unread(facts: Facts) -> Iterator[Finding]:
    assert facts.daemon is not None
    if keys := facts.daemon["unread"]:
        shown = ", ".join(keys[:5]) + (", …" if len(keys) > 5 else "")
        yield Finding(
            Level.WARNING,
            f"the daemon has not read the changes of the configuration yet ({shown})"
            ": run `blocklistd check-config`, then `blocklistd reload`",
        )


# -- clock -------------------------------------------------------------------------------------------------------------
def _synchronised(facts: Facts) -> Iterator[Finding]:
    if facts.host is not None and facts.host.synchronised is False:
        yield Finding(
            Level.WARNING,
            "the clock of this machine is not synchronised: run chrony or systemd-timesyncd (`timedatectl` shows it)"
            "; in a container, on the host",
        )


def _signed_ahead(facts: Facts) -> Iterator[Finding]:
    for name, source in facts.sources.items():
        signed = datetime.fromisoformat(source["signed"]) if source["signed"] else facts.now
        if signed - facts.now > TOLERANCE:
            yield Finding(
                Level.WARNING,
                f"source {name} signed its list at {rfc3339(signed)}, but here it is {rfc3339(facts.now)}"
                ": one of the two clocks is wrong: compare them",
            )


# -- disk --------------------------------------------------------------------------------------------------------------
def _space(facts: Facts) -> Iterator[Finding]:
    assert facts.host is not None
    for disk in facts.host.disks:
        if level := _short(disk.free, disk.total):
            yield Finding(
                level,
                f"{_name(disk)}: {_share(disk.free, disk.total)} of {_size(disk.total)} is free"
                ": free space there, or lower `evidence` of the sources and `retention` of lists",
            )


def _inodes(facts: Facts) -> Iterator[Finding]:
    assert facts.host is not None
    for disk in facts.host.disks:
        if level := _short(disk.free_inodes, disk.inodes):
            yield Finding(
                level,
                f"{_name(disk)}: {_share(disk.free_inodes, disk.inodes)} of its inodes are free"
                ": remove small files there (`df -i` shows the use), or use a larger disk",
            )


def _short(free: int, total: int) -> Level | None:
    if not total or free * LOW_DISK_PARTS >= total:
        return None
    return Level.WARNING if free * FULL_DISK_PARTS >= total else Level.CRITICAL


def _name(disk: FileSystem) -> str:
    return f"{disk.path} ({', '.join(disk.used_for)})"


def _share(part: int, total: int) -> str:
    return f"{100 * part / total:.1f} %"


def _size(octets: int) -> str:
    return f"{octets / GIB:.1f} GiB"


def _evidence_space(facts: Facts) -> Iterator[Finding]:
    assert facts.config is not None
    assert facts.host is not None
    disk = next((disk for disk in facts.host.disks if "state_dir" in disk.used_for), None)
    used = facts.stored.evidence if facts.stored is not None else {}
    growth = sum(
        max(0, found.evidence.max_bytes - (used[name].bytes if name in used else 0))
        for name, found in facts.config.sources.items()
    )
    if disk is not None and growth > disk.free:
        yield Finding(
            Level.NOTE,
            f"evidence may grow by {_size(growth)}, but {_size(disk.free)} is free on the disk of state_dir"
            ": lower `evidence.max_bytes` of the sources, or use a larger disk",
        )


# -- keys and certificates ---------------------------------------------------------------------------------------------
def _certificates(facts: Facts) -> Iterator[Finding]:
    assert facts.host is not None
    for one in facts.host.certificates:
        if not one.names:
            yield Finding(
                Level.CRITICAL,
                f"{one.key}: {one.path} has no subject alternative name, by which clients verify it"
                ": order one with the name of this server, then run `blocklistd reload`",
            )
        if not one.ordered:
            yield Finding(
                Level.WARNING,
                f"{one.key}: in {one.path} a certificate is not signed by the one that follows it"
                ", and some clients refuse the chain: "
                "write the server's first, then each authority's in the order of signing, without the root",
            )
        url = facts.config.feed.public_url if facts.config is not None and one.key == "feed.tls.cert" else None
        host = urlsplit(url or "").hostname
        if host and one.names and not any(_is_for(name, host) for name in one.names):
            yield Finding(
                Level.WARNING,
                f"feed.tls.cert: {one.path} is for {', '.join(one.names)}, but feed.public_url names {host}"
                f": subscribers refuse it: order one for {host}, or correct public_url",
            )


def _is_for(name: str, host: str) -> bool:
    """Whether a name of a certificate is that of the host (RFC 6125 6.4)."""
    try:
        return ipaddress.ip_address(name) == ipaddress.ip_address(host)
    except ValueError:
        pass
    if name.startswith("*."):
        return host.partition(".")[2].lower() == name[2:].lower()
    return name.lower() == host.lower()


def _access(facts: Facts) -> Iterator[Finding]:
    assert facts.host is not None
    found = facts.host.inaccessible
    if found:
        yield Finding(
            Level.CRITICAL,
            f"{found[0]}, which the daemon can't use (files like this: {len(found)}): "
            "run `chown -R` with the daemon's user on the state_dir, and restore the modes (folders 0700, files 0600)",
        )
    for path in facts.host.open_to_others:
        yield Finding(Level.WARNING, f"{path} can be read by other users of this machine: run `chmod go= {path}`")


CHECKS: Final = (
    Check("daemon", "daemon", "the daemon does not answer", _is_reachable),
    Check("version", "daemon", "another version is installed than the one that runs", _version, ("daemon",)),
    Check("readiness", "daemon", "a list or zone is not served", _readiness, ("daemon",)),
    Check("unit", "daemon", "systemd: failed, disabled, changed or restarted unit", _unit, ("host",)),
    Check("deliveries", "daemon", "an alarm did not reach people", _deliveries, ("daemon",)),
    Check("configuration", "configuration", "errors and warnings of `check-config`", _configuration),
    Check("reload", "configuration", "changes that the daemon has not read", _unread, ("daemon",)),
    Check("synchronisation", "clock", "the kernel's clock is not synchronised", _synchronised, ("host",)),
    Check("signed times", "clock", "a source signed its list later than now", _signed_ahead),
    Check("space", "disk", "little space on a disk of the daemon", _space, ("host",)),
    Check("inodes", "disk", "few inodes on a disk of the daemon", _inodes, ("host",)),
    Check("evidence space", "disk", "evidence may grow beyond the disk", _evidence_space, ("config", "host")),
    Check("certificates", "keys and certificates", "a name or a chain that clients refuse", _certificates, ("host",)),
    Check("access", "keys and certificates", "files that the daemon can't use, or others can", _access, ("host",)),
)
