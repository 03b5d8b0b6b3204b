"""A zone's sealed files: the names that its list gives it, the rules of these, and the rules compiled.

Made of the whole list, or from those of the serial before and what has changed in the list since: the same files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain

from blocklistd.model import Sha256
from blocklistd.outputs.rules import entries_of, names, revise, rules
from blocklistd.outputs.snapshot import changed_lines, lines, splice
from blocklistd.outputs.wire import Action, compile_rules, recompile, wire_name
from blocklistd.versions.compose import identifier
from blocklistd.versions.files import SealedFiles


@dataclass(frozen=True, slots=True)
class Ruling:
    """What of a list is in a zone, and what its records say."""

    zone: str
    categories: tuple[str, ...]
    action: Action


@dataclass(frozen=True, slots=True)
class ZoneFiles:
    """The files, and what is said of them. `omitted` are ids of entries, once for each rule that does not fit."""

    names: Sha256
    rules: Sha256
    wire: Sha256
    records: int
    covered: int
    omitted: Sequence[str]


Steps = tuple[list[bytes], list[bytes]]
"""The rules that go and that come, each sorted."""


def make(files: SealedFiles, ruling: Ruling, snapshot: Sha256, secret: bytes) -> ZoneFiles:
    """All of it, from the list's snapshot; `secret` is the list's, for ids."""
    with files.map(snapshot) as content:
        found = names(lines(content), ruling.categories)
    made = rules(found, ruling.zone)
    return ZoneFiles(
        names=_seal_lines(files, found),
        rules=_seal_lines(files, made.lines),
        wire=_seal(files, compile_rules(made.lines, wire_name(ruling.zone), ruling.action)),
        records=len(made.lines),
        covered=made.covered,
        omitted=_ids(made.omitted, secret),
    )


def steps_between(files: SealedFiles, before: Sha256, after: Sha256) -> Steps:
    """What lies between two files of rules."""
    with files.map(before) as old, files.map(after) as new:
        return changed_lines(old, new)


def follow(
    files: SealedFiles, ruling: Ruling, before: ZoneFiles, changed: Sequence[tuple[bytes, int]], secret: bytes
) -> tuple[ZoneFiles, Steps]:
    """The same from the files before and the list's (line, +1 | -1) since; what that changes of the rules."""
    gone = names((line for line, op in changed if op < 0), ruling.categories)
    come = names((line for line, op in changed if op > 0), ruling.categories)
    both = set(gone) & set(come)  # another attribute is no other name
    gone, come = ([name for name in some if name not in both] for some in (gone, come))
    if not gone and not come:
        return before, ([], [])
    with ExitStack() as stack:
        old_names = stack.enter_context(files.map(before.names))
        now = _seal(files, splice(old_names, gone, come))
        found = revise(old_names, stack.enter_context(files.map(now)), [*gone, *come], ruling.zone)
        steps = sorted(found.removes), sorted(found.adds)
        omitted = Counter(before.omitted)
        omitted.update(_ids(found.omitted, secret))
        omitted.subtract(_ids(found.unomitted, secret))
        sealed, wire = before.rules, before.wire
        if steps != ([], []):
            old_rules, compiled = (stack.enter_context(files.map(digest)) for digest in (sealed, wire))
            sealed = _seal(files, splice(old_rules, *steps))
            new_rules = stack.enter_context(files.map(sealed))
            again = recompile(compiled, new_rules, sorted(chain(*steps)), wire_name(ruling.zone), ruling.action)
            wire = _seal(files, again)
    return ZoneFiles(
        names=now,
        rules=sealed,
        wire=wire,
        records=before.records + len(steps[1]) - len(steps[0]),
        covered=before.covered + found.covered,
        omitted=sorted(omitted.elements()),
    ), steps


def _ids(omitted: list[bytes], secret: bytes) -> list[str]:
    return sorted(identifier(kind, value, secret) for kind, value in entries_of(omitted))


def _seal_lines(files: SealedFiles, found: list[bytes]) -> Sha256:
    starts = range(0, len(found), 1 << 14)
    return _seal(files, (b"".join(line + b"\n" for line in found[at : at + (1 << 14)]) for at in starts))


def _seal(files: SealedFiles, pieces: Iterable[bytes | memoryview]) -> Sha256:
    with files.create() as draft:
        for piece in pieces:
            draft.write(piece)
    assert draft.sealed is not None
    return draft.sealed
