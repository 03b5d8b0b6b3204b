"""Finds the entry that a command names, by its value or its id: whether it is live, who asserts it, what withholds it.

For commands about one entry. Nothing of it is logged. Reads sealed files: call it in a thread.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from blocklistd.change import Candidate, Correction
from blocklistd.errors import RefusedError, StoreError
from blocklistd.kinds import WITH_HOST, InvalidEntry, readings
from blocklistd.kinds.ip import containing
from blocklistd.lines.delta import ENTRIES
from blocklistd.lines.ids import FORM
from blocklistd.lines.keys import Buffer, type_and_value
from blocklistd.lines.snapshot import find
from blocklistd.model import ID, CandidateId, Entry, ListId, Sha256, SourceId
from blocklistd.store import candidates, figures
from blocklistd.store.ages import UNKNOWN, open_ages
from blocklistd.store.asserted import open_assertion
from blocklistd.store.entry_versions import change_of
from blocklistd.store.figures import CountedAges
from blocklistd.store.files import SealedFiles
from blocklistd.store.lists import ListState, list_state
from blocklistd.store.schema import corrections, guard_hits, sources

EXPECTED = "expected a URL, a name, an address or a hash as a hotline writes it, or an id (e-…)"
_LIKE_ID = re.compile("[ec]-[0-9a-f]*", re.I)
"""A part of an id, or the id of a candidate. It could be a name, of one label, that nobody lists."""


@dataclass(frozen=True, slots=True)
class FoundEntry:
    """An entry in a list. `id`: as subscribers see it.

    - `live`: its line in the live version; None if it is not live.
    - `accepted`, `offered`: its line in what the live version was composed from, and in what the sources offer now, for
      each source that asserts it.
    - `corrections`: those in force. `held`: candidates that would add, change or remove it. `rule`: of the guard file
      that withholds it; None if none does.
    - `related`: ids of live entries that are not this one: those of the URL's host, or a URL of this host.
    """

    type: str
    value: str
    id: str
    live: bytes | None
    accepted: Mapping[SourceId, bytes]
    offered: Mapping[SourceId, bytes]
    corrections: tuple[Correction, ...]
    held: tuple[CandidateId, ...]
    rule: str | None
    related: tuple[str, ...] = ()

    @property
    def key(self) -> bytes:
        """The key of the entry's line (lines.keys.key_of)."""
        return _key(self.type, self.value)

    @property
    def is_known(self) -> bool:
        """Whether the list knows the entry: it is live, asserted, corrected, held or withheld."""
        return bool(self.live or self.accepted or self.offered or self.corrections or self.held or self.rule)


def find_entry(files: SealedFiles, connection: Connection, list_id: ListId, text: str) -> list[FoundEntry]:
    """The entries of a list that `text` names: every type that the value can have, or the one entry with this id.

    An entry that the list does not know is returned too, unless it is named by an id. Raises RefusedError if the text
    is no entry, or if no entry or more than one has this id; the error does not repeat an entry. StoreError for a
    damaged file.
    """
    state = list_state(connection, list_id)
    held = [case.candidate for case in candidates.held(connection, list_id)]
    return [describe(files, connection, state, held, *one) for one in _named(files, connection, state, held, text)]


def _named(
    files: SealedFiles, connection: Connection, state: ListState, held: list[Candidate], text: str
) -> list[tuple[str, str]]:
    if FORM.fullmatch(text):
        found = _of_id(files, connection, state, held, text)
        if len(found) > 1:
            raise RefusedError(
                f"list {state.id}: the id {text} is ambiguous, as two entries have it (another publisher's entry keeps "
                f"its id): nothing was changed: give the entry itself on stdin instead of its id"
            )
        if not found:
            raise RefusedError(
                f"no entry of list {state.id} has the id {text}: it is not live, under no correction, and in no held "
                f"candidate: check the id, or give the entry itself"
            )
        return found
    if _LIKE_ID.fullmatch(text):
        raise RefusedError("the text on stdin is no id of an entry: expected e- and 32 hex digits in lower case")
    try:
        return readings(text)
    except InvalidEntry as error:
        reason = error.code
    raise RefusedError(f"the text on stdin is no entry ({reason}): {EXPECTED}")


def find_same_names(
    files: SealedFiles, connection: Connection, list_id: ListId, found: Sequence[FoundEntry]
) -> list[FoundEntry]:
    """For each host of `found` the domain with its name, and for each domain the host, unless it is in `found`."""
    state = list_state(connection, list_id)
    held = [case.candidate for case in candidates.held(connection, list_id)]
    other = {"host": "domain", "domain": "host"}
    named = {(entry.type, entry.value) for entry in found}
    same = {(other[kind], value) for kind, value in named if kind in other} - named
    return [describe(files, connection, state, held, *one) for one in sorted(same)]


def describe(
    files: SealedFiles, connection: Connection, state: ListState, held: list[Candidate], kind: str, value: str
) -> FoundEntry:
    """The entry with this type and value in a list. `held`: the list's held candidates."""
    key = _key(kind, value)
    live = _in_snapshot(files, state, key)
    policy = state.policy.sources if state.policy else ()
    names = list(dict.fromkeys([*policy, *state.accepted]))
    accepted = {name: line for name in names if (line := _asserted(files, state.accepted.get(name), key))}
    offered = offered_lines(files, connection, names, key)
    known = live or next(iter(accepted.values()), None) or next(iter(offered.values()), None)
    own = Entry.from_line(known).attributes.get(ID) if known else None
    entry = str(own or state.ids.of(kind.encode(), value.encode()))
    hit = select(guard_hits.c.rule).where(
        guard_hits.c.list == state.id, guard_hits.c.type == kind, guard_hits.c.value == value
    )
    return FoundEntry(
        type=kind,
        value=value,
        id=entry,
        live=live,
        accepted=accepted,
        offered=offered,
        corrections=tuple(one for one in state.corrections if (one.type, one.value) == (kind, value)),
        held=tuple(one.id for one in held if _in_delta(files, one.delta, key)),
        rule=connection.execute(hit).scalar(),
        related=tuple(_related(files, state, kind, value)) if live is None else (),
    )


def offered_lines(
    files: SealedFiles, connection: Connection, names: Sequence[SourceId], key: bytes
) -> dict[SourceId, bytes]:
    """The line with this key in what each of the sources offers now; without the sources that do not assert it."""
    rows = connection.execute(select(sources.c.id, sources.c.offered).where(sources.c.id.in_(names)))
    offers = {row.id: row.offered for row in rows}
    return {name: line for name in names if (line := _asserted(files, offers.get(name), key))}


def asserted_since(
    files: SealedFiles, connection: Connection, state: ListState, entry: FoundEntry, names: Iterable[SourceId]
) -> Mapping[SourceId, datetime]:
    """Since when each of the sources asserts the entry, as far as it is known: by the ages of its accepted entries in a
    list with a `lifetime`, else by those of the newest counted version. An entry that these do not have is asserted
    since the source's newest body."""
    ages = {name: (state.accepted.get(name), CountedAges(one.file, one.since)) for name, one in state.ages.items()}
    if not ages:
        counted = figures.counted_assertions(connection, state.id)
        ages = {name: (counted.get(name), one) for name, one in figures.asserted_since(connection, state.id).items()}
    query = select(sources.c.id, sources.c.last_accepted).where(sources.c.id.in_(list(names)))
    newest = {row.id: row.last_accepted for row in connection.execute(query)}
    found: dict[SourceId, datetime] = {}
    for name in names:
        entries, stored = ages.get(name, (None, None))
        since = newest.get(name)
        if stored is not None and _asserted(files, entries, entry.key) is not None:
            since = _since(files, stored, entry.key)
        if since is not None:
            found[name] = since
    return found


def _since(files: SealedFiles, stored: CountedAges, key: bytes) -> datetime | None:
    """The time of an entry; None if it is not known."""
    try:
        with open_ages(files, stored.file, stored.since or UNKNOWN) as ages:
            since = ages.since(key)
    except (StoreError, ValueError):
        return None
    return None if since == UNKNOWN else since


def covering(files: SealedFiles, state: ListState, kind: str, value: str) -> list[str]:
    """The ids of other live entries that block the name of this one: its host, and the domains that include it; of an
    address the prefixes that contain it."""
    if kind == "ip":
        above = [("ip", prefix) for prefix in containing(value)]
    elif kind in WITH_HOST:
        host = value.partition("://")[2].partition("/")[0].partition(":")[0] if kind == "url" else value
        labels = host.split(".")
        above = [("host", host), *(("domain", ".".join(labels[start:])) for start in range(len(labels)))]
    else:
        return []
    found = (_in_snapshot(files, state, _key(*other)) for other in above if other != (kind, value))
    return [_id_of(line) for line in found if line is not None]


def _related(files: SealedFiles, state: ListState, kind: str, value: str) -> Iterator[str]:
    if kind == "url":
        yield from covering(files, state, kind, value)
    if kind == "host":
        for scheme in ("http", "https"):
            line = _in_snapshot(files, state, _key("url", f"{scheme}://{value}/").removesuffix(b'"'))
            if line is not None:
                yield _id_of(line)


def _id_of(line: bytes) -> str:
    return str(Entry.from_line(line).attributes[ID])


def _of_id(
    files: SealedFiles, connection: Connection, state: ListState, held: list[Candidate], entry: str
) -> list[tuple[str, str]]:
    """The type and value of the entry with this id; empty if none is found, and two if more than one has it."""
    found: set[tuple[str, str]] = set()
    for table in (corrections, guard_hits):
        here = table.c.list == state.id, table.c.entry == entry
        rows = connection.execute(select(table.c.type, table.c.value).where(*here).distinct().limit(2))
        found |= {(row.type, row.value) for row in rows}
    needle = f'"{ID}":"{entry}"'.encode()
    for line in _lines_with(files, state, held, needle):
        if len(found) > 1:
            break
        kind, value = type_and_value(line)
        found.add((kind.decode(), value.decode()))
    return sorted(found)[:2]


def _lines_with(files: SealedFiles, state: ListState, held: list[Candidate], needle: bytes) -> Iterator[bytes]:
    """The lines with this text in the live snapshot, and in the deltas of held candidates. A candidate whose file is
    lost must not delay a correction: it is composed again before anybody can release it."""
    if state.live is not None:
        with files.map(state.live.sha256) as snapshot:
            yield from _lines_of_buffer(snapshot, needle)
    for candidate in held:
        with suppress(StoreError), files.map(candidate.delta) as delta:
            yield from map(ENTRIES.item, _lines_of_buffer(delta, needle))


def _lines_of_buffer(buffer: Buffer, needle: bytes) -> Iterator[bytes]:
    at = buffer.find(needle)
    while at >= 0:
        start, end = buffer.rfind(b"\n", 0, at) + 1, buffer.find(b"\n", at)
        yield bytes(buffer[start:end])
        at = buffer.find(needle, end)


def _key(kind: str, value: str) -> bytes:
    return Entry(kind, value).line().removesuffix(b"}")


def _in_snapshot(files: SealedFiles, state: ListState, key: bytes) -> bytes | None:
    if state.live is None:
        return None
    with files.map(state.live.sha256) as snapshot:
        line = find(snapshot, key)
    return None if line is None else bytes(line)


def _asserted(files: SealedFiles, digest: Sha256 | None, key: bytes) -> bytes | None:
    try:
        with open_assertion(files, digest) as (_, lines):
            line = lines.find(key)
            return None if line is None else bytes(line)
    except (StoreError, ValueError):
        return None  # a lost file of a source must not delay a correction; the next pull reads the body again


def _in_delta(files: SealedFiles, digest: Sha256, key: bytes) -> bool:
    try:
        return change_of(files, digest, key) is not None
    except (StoreError, ValueError):
        return False  # as in _asserted: the candidate is composed again before anybody can release it
