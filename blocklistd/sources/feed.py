"""The TUF metadata of another blocklistd, as the signature of a body that its feed serves.

A body is a list's snapshot, or the diff from the last one. Its signature (`SignedMetadata`) is all metadata files that
lead from the trusted root.json to the signed description of the snapshot, one after another, each below a line with its
name and its length in bytes:

    2.root.json 2177
    {…}
    timestamp.json 431
    {…}
    snapshot.json 433
    {…}
    targets.json 702
    {…}
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_HEAD: Final = re.compile(rb"(?:([1-9][0-9]{0,8})\.)?(root|timestamp|snapshot|targets)\.json ([0-9]{1,8})")


@dataclass(frozen=True, slots=True)
class SignedMetadata:
    """The metadata files of a list as they arrived, not verified. `roots`: those after the trusted root.json, by their
    version, in order."""

    roots: dict[int, bytes]
    timestamp: bytes
    snapshot: bytes
    targets: bytes

    def to_bytes(self) -> bytes:
        """The signature of the list's body."""
        files = [(f"{version}.root.json", root) for version, root in self.roots.items()]
        files += [(f"{role}.json", getattr(self, role)) for role in ("timestamp", "snapshot", "targets")]
        return b"".join(b"%b %d\n%b\n" % (name.encode(), len(content), content) for name, content in files)

    @classmethod
    def from_bytes(cls, data: bytes) -> SignedMetadata:
        """Read `data`, a result of `to_bytes`. Raises ValueError for anything else."""
        roots: dict[int, bytes] = {}
        others: dict[str, bytes] = {}
        at = 0
        while at < len(data):
            end = data.find(b"\n", at, at + 64)
            head = _HEAD.fullmatch(data, at, end) if end >= 0 else None
            if head is None:
                raise ValueError("not the name and the length of a metadata file")
            version, role, length = head.groups()
            at = end + 1 + int(length) + 1
            content = data[end + 1 : at - 1]
            if data[at - 1 : at] != b"\n" or (version is not None) != (role == b"root"):
                raise ValueError("a metadata file is cut short, or its name is another one")
            if version is not None:
                roots[int(version)] = content
            else:
                others[role.decode()] = content
        if others.keys() != {"timestamp", "snapshot", "targets"}:
            raise ValueError("a metadata file is missing")
        found = cls(roots, **others)
        if found.to_bytes() != data:
            raise ValueError("metadata files in another order, or twice")
        return found
