"""A list's TUF repository (https://theupdateframework.github.io/specification/): targets, snapshot, timestamp.

Pure but for the signer: what is signed now, a target and the time go in, newly signed roles come out. A list's own
target name (`LIST.ndjson`) keeps one list's valid metadata from passing for another's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, MetaFile, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from blocklistd.limits import RESIGN_PARTS, RESIGN_SLACK
from blocklistd.model import ListId, Version, VersionInfo
from blocklistd.store.metadata import SignedRole


@dataclass(frozen=True, slots=True)
class Lives:
    """How long signatures are good for: `content` for targets and snapshot, `timestamp` for timestamp."""

    content: timedelta
    timestamp: timedelta


def newest(roles: Iterable[SignedRole]) -> dict[str, SignedRole]:
    """The newest of each role, by name."""
    found: dict[str, SignedRole] = {}
    for role in roles:
        if role.role not in found or role.version > found[role.role].version:
            found[role.role] = role
    return found


def is_due(role: SignedRole, life: timedelta, now: datetime, latest: datetime) -> bool:
    """Whether a role has used up a part of its life: signed again so many times, no missed turn lets it expire.

    A role that a wrong clock has signed, ahead of now or for longer than `life`, is due too. `latest` is the later of
    the believed and the system's time (CheckedClock.latest).
    """
    slack = timedelta(seconds=RESIGN_SLACK)
    if role.signed > now + slack or role.expires > latest + life + 2 * slack:
        return True
    return role.expires - latest <= life - life / RESIGN_PARTS


def sign(
    list_id: ListId,
    version: VersionInfo | None,
    current: dict[str, SignedRole],
    lives: Lives,
    now: datetime,
    key: Signer,
    above: int = 0,
    latest: datetime | None = None,
) -> list[SignedRole]:
    """What has to be signed now, in the order in which it may be shown; empty if nothing is due.

    A new version signs all three; else each role that is due, and whatever refers to it. Versions only rise, and are
    higher than `above`. `latest` is as in `is_due`.
    """
    latest = latest or now
    target = version.version if version else Version(0)
    made: dict[str, SignedRole] = {}
    signer = key.public_key.keyid.encode()

    def renew(role: str, life: timedelta, body: Targets | Snapshot | Timestamp) -> None:
        body.version = max(above, current[role].version if role in current else 0) + 1
        body.expires = (latest + life).replace(microsecond=0) + timedelta(seconds=1)
        signed: Metadata[Any] = Metadata(body)
        signed.sign(key)
        raw = signed.to_bytes(JSONSerializer(compact=True))
        made[role] = SignedRole(role, body.version, now, body.expires, target, raw)

    def due(role: str, life: timedelta) -> bool:
        # signed by a key that is no longer the one: clients with the new root refuse it
        if role not in current or current[role].version <= above:
            return True
        return is_due(current[role], life, now, latest) or signer not in current[role].body

    if "targets" not in current or current["targets"].target != target or due("targets", lives.content):
        renew("targets", lives.content, Targets(targets=_targets(list_id, version)))
    if made or due("snapshot", lives.content):
        targets = (current | made)["targets"]
        renew("snapshot", lives.content, Snapshot(meta={"targets.json": MetaFile(targets.version)}))
    if made or due("timestamp", lives.timestamp):
        snapshot = (current | made)["snapshot"]
        renew("timestamp", lives.timestamp, Timestamp(snapshot_meta=MetaFile(snapshot.version)))
    return list(made.values())


def _targets(list_id: ListId, version: VersionInfo | None) -> dict[str, TargetFile]:
    if version is None:
        return {}
    name = f"{list_id}.ndjson"
    custom = {
        "list": list_id,
        "session": version.session,
        "version": version.version,
        "entries": version.entries,
        "canonicaliser": version.canonicaliser,
    }
    return {name: TargetFile(version.length, {"sha256": version.sha256}, name, {"custom": custom})}
