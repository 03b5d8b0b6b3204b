"""Signs the roles of a list's TUF repository: targets, snapshot, timestamp.

The TUF specification: https://theupdateframework.github.io/specification/. Pure except for the signer: takes the signed
roles, the live version and the time; returns newly signed roles. The target's name is `LIST.ndjson`, so that valid
metadata of one list can't be used for another.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from securesystemslib.signer import Signer
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import Metadata, MetaFile, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from blocklistd.change import VersionInfo
from blocklistd.errors import SigningError
from blocklistd.limits import RESIGN_PARTS, RESIGN_SLACK
from blocklistd.model import ListId, Version
from blocklistd.store.metadata import SignedRole


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Lifetimes of signed roles: `content` of targets and snapshot, `timestamp` of timestamp."""

    content: timedelta
    timestamp: timedelta


def newest(roles: Iterable[SignedRole]) -> dict[str, SignedRole]:
    """The newest version of each role, by the role's name."""
    found: dict[str, SignedRole] = {}
    for role in roles:
        if role.role not in found or role.version > found[role.role].version:
            found[role.role] = role
    return found


def signer_of(role: SignedRole) -> str:
    """The id of the key that signed a role."""
    key_id: str = orjson.loads(role.body)["signatures"][0]["keyid"]
    return key_id


def is_due(role: SignedRole, life: timedelta, now: datetime, latest: datetime) -> bool:
    """Whether a role is to be signed again: 1 / RESIGN_PARTS of its lifetime is over.

    Also due is a role that was signed by a wrong clock: at a time ahead of `now`, or with more than `life` left.
    `latest`: the later of the checked and the system's time (CheckedClock.latest).
    """
    slack = timedelta(seconds=RESIGN_SLACK)
    if role.signed > now + slack or role.expires > latest + life + 2 * slack:
        return True
    return role.expires - latest <= life - life / RESIGN_PARTS


def sign(
    list_id: ListId,
    version: VersionInfo | None,
    current: dict[str, SignedRole],
    lives: Lifetimes,
    now: datetime,
    key: Signer,
    above: int = 0,
    latest: datetime | None = None,
) -> list[SignedRole]:
    """Signs the roles that are due; returns them in the order targets, snapshot, timestamp. Empty if none is due.

    After a new version all three are due; otherwise each role by `is_due`, and the roles that refer to a due one (TUF
    4.4, 4.6). `current`: the newest version of each role. Versions of roles only rise, and exceed `above`. `latest`:
    as in `is_due`.
    """
    latest = latest or now
    target = version.version if version else Version(0)
    made: dict[str, SignedRole] = {}
    signer = key.public_key.keyid

    def renew(role: str, life: timedelta, body: Targets | Snapshot | Timestamp) -> None:
        body.version = max(above, current[role].version if role in current else 0) + 1
        body.expires = (latest + life).replace(microsecond=0) + timedelta(seconds=1)
        signed: Metadata[Any] = Metadata(body)
        try:
            signed.sign(key)
        except UnsignedMetadataError as error:
            raise SigningError(str(error.__cause__ or error)) from error
        raw = signed.to_bytes(JSONSerializer(compact=True))
        made[role] = SignedRole(role, body.version, now, body.expires, target, raw)

    def due(role: str, life: timedelta) -> bool:
        if role not in current or current[role].version <= above:
            return True
        # also if the online key is a new one: clients with the new root.json refuse the old key's signature
        return is_due(current[role], life, now, latest) or signer_of(current[role]) != signer

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
