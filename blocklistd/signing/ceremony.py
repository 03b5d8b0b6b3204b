"""The next root.json: makes it, signs it, and checks that every client of the root before it will accept it (TUF 6.1).

Order: `next_root` copies the newest root with the next version number and no signatures; `replace_online_key` or
`change_root_keys` changes it; the holders of root keys `add_signature`, one after another and each on a machine of
their own; `accept` checks the result. Pure: no file, no clock. The metadata in between is plain TUF metadata, so any
TUF tool can sign it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from securesystemslib.signer import Key, Signer
from tuf.api.metadata import Metadata, Root

from blocklistd.errors import SigningError
from blocklistd.limits import MAX_ROOT_KEYS

ONLINE_ROLES: Final = ("targets", "snapshot", "timestamp")
SHOW: Final = "`blocklistd keys show --root` prints it"
_SHORT: Final = 16  # characters of a key's id in a message
_SHORTEST: Final = 8  # characters of a key's id that `--remove-key` takes


def short(key_id: str) -> str:
    """A key's id as messages have it."""
    return f"{key_id[:_SHORT]}…"


def parse_root(document: Any, where: str) -> Metadata[Root]:
    """The root metadata of a JSON object; `where` names it in messages. Raises SigningError."""
    try:
        found: Metadata[Any] = Metadata.from_dict(copy.deepcopy(document))
        if not isinstance(found.signed, Root):
            raise TypeError(f"type {found.signed.type}")
    except Exception as error:  # python-tuf has a different family of errors for each step
        raise SigningError(f"{where}: no root.json ({type(error).__name__}: {error}): {SHOW}") from None
    return found


def next_root(current: Metadata[Root], expires: datetime) -> Metadata[Root]:
    """A copy of the newest root with the next version number, another expiry, and no signature."""
    made = copy.deepcopy(current)
    made.signatures.clear()
    made.signed.version += 1
    made.signed.expires = expires.replace(microsecond=0)
    return made


def online_key_id(root: Root) -> str:
    """The id of the key that a root names for targets, snapshot and timestamp."""
    return root.roles["timestamp"].keyids[0]


def replace_online_key(root: Root, key: Key) -> None:
    """Names another key for targets, snapshot and timestamp."""
    for role in ONLINE_ROLES:
        for old in list(root.roles[role].keyids):
            root.revoke_key(old, role)
        root.add_key(key, role)


def change_root_keys(
    root: Root, added: Sequence[Key], removed: Sequence[str], threshold: int | None, *, replace: bool = False
) -> None:
    """Changes the root keys and their threshold. `removed`: ids, or the first characters of ids. `replace`: the added
    keys replace all. Raises SigningError."""
    role = root.roles["root"]
    old = list(role.keyids)
    for key_id in old if replace else [_root_key(root, given) for given in removed]:
        root.revoke_key(key_id, "root")
    for key in added:
        if key.keyid in role.keyids:
            raise SigningError(f"the key {short(key.keyid)} is a root key already: name another one with --add-key")
        root.add_key(key, "root")
    role.threshold = role.threshold if threshold is None else threshold
    if sorted(role.keyids) == sorted(old) and threshold is None:
        raise SigningError(
            "the root keys stay the same: name root keys with --add-key, --remove-key or --root-out, or --threshold"
        )
    _check_threshold(root)


def _root_key(root: Root, given: str) -> str:
    found = [key_id for key_id in root.roles["root"].keyids if key_id.startswith(given.rstrip("…"))]
    if len(given) < _SHORTEST or len(found) != 1:
        known = ", ".join(map(short, root.roles["root"].keyids))
        raise SigningError(f"--remove-key {given}: expected the id of one of the root keys: {known}")
    return found[0]


def _check_threshold(root: Root) -> None:
    role = root.roles["root"]
    if not 1 <= role.threshold <= len(role.keyids) <= MAX_ROOT_KEYS:
        raise SigningError(
            f"a threshold of {role.threshold} of {len(role.keyids)} root keys: expected at most {MAX_ROOT_KEYS} keys, "
            f"and a threshold from 1 to their number: give --threshold"
        )


def add_signature(current: Metadata[Root], new: Metadata[Root], signer: Signer, name: str) -> None:
    """Signs the next root. `name`: of the key, for messages. Raises SigningError if it is a root key of neither."""
    key_id = signer.public_key.keyid
    if key_id not in {*current.signed.roles["root"].keyids, *new.signed.roles["root"].keyids}:
        known = ", ".join(map(short, new.signed.roles["root"].keyids))
        raise SigningError(f"{name}: its key id is {short(key_id)}, which is no root key; expected one of {known}")
    try:
        new.sign(signer, append=True)
    except Exception as error:  # each kind of signer has its own errors
        raise SigningError(f"{name}: can't sign ({type(error).__name__}: {error}): check the key") from None


def missing_signatures(current: Metadata[Root], new: Metadata[Root]) -> list[str]:
    """What the next root lacks, a sentence for each root whose threshold is not met; empty if it is complete."""
    result = new.signed.get_root_verification_result(current.signed, new.signed_bytes, new.signatures)
    sentences = []
    for root, found in ((current.signed, result.first), (new.signed, result.second)):
        if not found.verified:
            others = ", ".join(map(short, found.unsigned))
            sentences.append(
                f"{len(found.signed)} of the {found.threshold} signatures that the root keys of version "
                f"{root.version} must give; not signed by {others}"
            )
    return sentences


def check_next(current: Metadata[Root], new: Metadata[Root], where: str, now: datetime) -> None:
    """Raises SigningError unless `new` is a possible next root, signatures apart. `where` names it in messages."""
    old, root = current.signed, new.signed
    if root.version != old.version + 1:
        raise SigningError(
            f"{where}: version {root.version} of root.json, and version {old.version} is the newest here: expected "
            f"version {old.version + 1}: begin with the newest root.json ({SHOW})"
        )
    if root.expires <= now:
        raise SigningError(f"{where}: it expired on {root.expires:%Y-%m-%d}: make it again with a later expiry")
    _check_threshold(root)
    online = root.roles["timestamp"].keyids
    same = all(root.roles[role].keyids == online and root.roles[role].threshold == 1 for role in ONLINE_ROLES)
    if not same or len(online) != 1 or online[0] in root.roles["root"].keyids or not root.consistent_snapshot:
        raise SigningError(
            f"{where}: expected consistent snapshots, and one online key for targets, snapshot and timestamp that is "
            f"no root key: make the file with `blocklistd keys rotate` or `blocklistd keys renew`"
        )


def accept(current: Metadata[Root], new: Metadata[Root], where: str, now: datetime) -> Metadata[Root]:
    """Checks that clients of `current` accept `new`: it meets the threshold of both (TUF 5.3.4). Raises SigningError.

    Returns it without signatures that count for neither.
    """
    check_next(current, new, where, now)
    missing = missing_signatures(current, new)
    if missing:
        raise SigningError(
            f"{where}: version {new.signed.version} has {'; and '.join(missing)}: let the holders sign it with "
            f"`blocklistd keys sign`"
        )
    counted = new.signed.get_root_verification_result(current.signed, new.signed_bytes, new.signatures).signed
    return Metadata(new.signed, {key: one for key, one in new.signatures.items() if key in counted})


def differences(current: Root, new: Root) -> Iterator[tuple[str, str]]:
    """What a holder signs: (name, value) for each part of the next root, with its change."""
    yield "version", f"{new.version}, after {current.version}"
    yield "expires", f"{new.expires:%Y-%m-%d}, before {current.expires:%Y-%m-%d}"
    online, before = online_key_id(new), online_key_id(current)
    yield "online key", short(online) + (f", instead of {short(before)}" if online != before else ", unchanged")
    old, role = current.roles["root"], new.roles["root"]
    changed = f", before {old.threshold} of {len(old.keyids)}"
    same = (old.threshold, len(old.keyids)) == (role.threshold, len(role.keyids))
    yield "threshold", f"{role.threshold} of {len(role.keyids)} root keys" + ("" if same else changed)
    for key_id in role.keyids:
        yield "root key", short(key_id) + ("" if key_id in old.keyids else ", new")
    for key_id in old.keyids:
        if key_id not in role.keyids:
            yield "removed root key", short(key_id)
