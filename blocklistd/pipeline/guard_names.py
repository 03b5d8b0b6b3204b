"""The job that reads the names which the guards of lists refer to, and seals a file of them for each guard.

It runs in a process of its own: a list of a million names takes seconds and memory that the serving process needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from blocklistd.compose.names import names_file
from blocklistd.errors import GuardFileError
from blocklistd.model import Sha256
from blocklistd.sources.guard_files import check_count, path_of, read_names
from blocklistd.store.files import SealedFiles, fingerprint
from blocklistd.store.store import Store


@dataclass(frozen=True, slots=True)
class ListNames:
    """The sealed files of names of a list, and of its local exceptions; None: it has no such names. `additions`: False
    while a file or a warning list of its guards is unusable."""

    never_block: Sha256 | None = None
    own_names: Sha256 | None = None
    shared_hosts: Sha256 | None = None
    additions: bool = True
    exceptions: Sha256 | None = None


@dataclass(frozen=True, slots=True)
class ReadGuard:
    """The names of one guard. `digest`: of the sealed file of the names that could be read; None if there are none.
    `problems`: why a reference is unusable, by reference."""

    digest: Sha256 | None
    count: int
    problems: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReadGuards:
    """The result of the job: a ReadGuard for each group of references, and the fingerprint of each reference's file
    before it was read."""

    guards: list[ReadGuard]
    fingerprints: dict[str, str | None]

    @classmethod
    def from_json(cls, answer: dict[str, Any]) -> ReadGuards:
        """Reads the JSON that `read_guards_job` returns."""
        return cls([ReadGuard(**guard) for guard in answer["guards"]], answer["fingerprints"])


def read_guards_job(store: Store, groups: Sequence[Sequence[str]]) -> ReadGuards:
    """Reads the names of each group of references (sources/guard_files.py), and seals a file for each group."""
    fingerprints: dict[str, str | None] = {}
    guards: list[ReadGuard] = []
    with store.opened() as (_, files):
        for group in groups:
            for reference in group:
                fingerprints.setdefault(reference, fingerprint(path_of(reference)))
            names, problems = read_group(group)
            guards.append(ReadGuard(seal_names(files, names), len(names), problems))
    return ReadGuards(guards, fingerprints)


def read_group(references: Sequence[str]) -> tuple[frozenset[str], dict[str, str]]:
    """The names of all references that can be read, and why the others can't be."""
    names: set[str] = set()
    problems: dict[str, str] = {}
    for reference in references:
        try:
            names |= read_names(reference)
            check_count(len(names))
        except GuardFileError as error:
            problems[reference] = str(error)
            names |= error.names
    return frozenset(names), problems


def seal_names(files: SealedFiles, names: frozenset[str]) -> Sha256 | None:
    """Seals a file of names; None for no name. Raises StoreError."""
    if not names:
        return None
    with files.create() as draft:
        draft.write(names_file(names))
    return draft.sealed
