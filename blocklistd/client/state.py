"""The contents of state.json: which version the folder has, and what `sync` still has to do with it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """`outcome`: "blocked", "resolves", or None if that is not known. `why`: a phrase for a message."""

    outcome: str | None
    why: str

    @property
    def is_failure(self) -> bool:
        """Whether the resolver does not block, or that is not known for a reason."""
        return self.outcome != "blocked" and bool(self.why)


@dataclass(frozen=True, slots=True)
class SentReceipt:
    """A receipt as it is sent to the publisher (docs/feed.md), and whether the publisher has taken it.

    `state`: "applied", "partial" or "failed", with `reason`. `applied_at`: RFC 3339. `probe`: "blocked", "resolves", or
    None if that is not known.
    """

    session: str
    version: int
    node: str
    state: str
    reason: str | None
    applied_at: str
    probe: str | None
    taken: bool = False

    def document(self) -> dict[str, object]:
        """The JSON that is sent."""
        document = asdict(self)
        del document["taken"]
        return document


@dataclass(frozen=True, slots=True)
class State:
    """The version in the folder.

    `sha256`: the snapshot's. `pending`: --exec has not succeeded since the last change. `rendered`: the SHA-256 of this
    version's renderings by format; the folder may have files of other formats from older versions. `omitted`: the
    number of entries that each of these formats can't express. `exceptions`: a SHA-256 of the local exceptions that
    each was made with, "" for none; `excepted`: the number of entries that these took out. `verified`: the time (RFC
    3339) when this version was last verified to be the newest signed one, "" if that is not known. `receipt`: the last
    one.
    """

    list: str
    session: str
    version: int
    entries: int
    sha256: str
    pending: bool = False
    rendered: dict[str, str] = field(default_factory=dict)
    omitted: dict[str, int] = field(default_factory=dict)
    exceptions: dict[str, str] = field(default_factory=dict)
    excepted: dict[str, int] = field(default_factory=dict)
    verified: str = ""
    receipt: SentReceipt | None = None

    def dump(self) -> bytes:
        """The text of state.json."""
        return orjson.dumps(asdict(self)) + b"\n"

    @classmethod
    def parse(cls, text: bytes) -> State:
        """Parses state.json; unknown keys, of a newer program, are ignored. Raises ValueError or TypeError."""
        document = orjson.loads(text)
        if not isinstance(document, dict):
            raise ValueError("not an object")
        receipt = document.get("receipt")
        document["receipt"] = SentReceipt(**_known(SentReceipt, receipt)) if isinstance(receipt, dict) else None
        state = cls(**_known(cls, document))
        tables = (state.rendered, state.omitted, state.exceptions, state.excepted)
        if not (
            all(isinstance(one, dict) for one in tables)
            and isinstance(state.version, int)
            and isinstance(state.verified, str)
        ):
            raise ValueError("not a state")
        return state


def _known(kind: type, document: dict[str, Any]) -> dict[str, Any]:
    names = {one.name for one in fields(kind)}
    return {name: value for name, value in document.items() if name in names}
