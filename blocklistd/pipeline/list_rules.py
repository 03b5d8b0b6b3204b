"""The rules by which a list is composed, from its policy, the corrections in force and the files of names."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from blocklistd.change import Correction, CorrectionKind, Policy
from blocklistd.compose.compose import ListRules, line_of_test
from blocklistd.compose.lifetimes import EntryAges, Terms
from blocklistd.compose.names import NameRules, Names
from blocklistd.lines.exceptions import EXCEPTION, NO_EXCEPTIONS, Excepted
from blocklistd.lines.keys import key_of, type_and_value
from blocklistd.model import Sha256, SourceId
from blocklistd.store.ages import StoredAges, open_ages
from blocklistd.store.files import SealedFiles
from blocklistd.store.lists import ListState
from blocklistd.times import rfc3339


def instant_of(time: datetime | None) -> bytes | None:
    """The time as canonical lines have it."""
    return None if time is None else rfc3339(time).encode()


def corrected(corrections: Iterable[Correction]) -> dict[bytes, str]:
    """The keys of corrections, each with the rule under which its entry is withheld."""
    order = list(CorrectionKind)
    ranked = sorted(corrections, key=lambda one: order.index(one.kind), reverse=True)
    return {one.key: one.kind.value for one in ranked}


@dataclass(frozen=True, slots=True)
class ChangeAges:
    """The ages of a list with its live version, and with a change: of each source. `kept`: as in EntryAges. `is_known`:
    False if a file of the live version's ages is lost, so that the change has to be composed in full."""

    before: Mapping[SourceId, StoredAges]
    after: Mapping[SourceId, StoredAges]
    kept: Mapping[bytes, bytes]
    is_known: bool = True


NO_AGES: Final = ChangeAges({}, {}, {})


def terms_of(policy: Policy) -> Terms:
    """The terms of a policy."""
    return Terms(policy.reverify, policy.max_life)


@contextmanager
def entry_ages(
    files: SealedFiles,
    policy: Policy,
    ages: Mapping[SourceId, StoredAges],
    kept: Mapping[bytes, bytes],
    default: datetime,
) -> Iterator[EntryAges]:
    """When entries end under the terms of a policy. Files stay open. `default`: the time of sources without ages."""
    with ExitStack() as stack:
        stored = [ages.get(source, StoredAges(None, default)) for source in policy.sources]
        opened = [stack.enter_context(open_ages(files, one.file, one.since)) for one in stored]
        yield EntryAges(terms_of(policy), policy.quorum, opened, kept)


@contextmanager
def rules_of(
    files: SealedFiles,
    state: ListState,
    policy: Policy,
    evaluated: datetime | None,
    corrections: Collection[Correction],
    basis: Sha256 | None = None,
    lifetimes: EntryAges | None = None,
    *,
    keeps_live: bool = False,
) -> Iterator[ListRules]:
    """The rules for composing a list under a policy. Its files of names stay open.

    `evaluated`: entries that end by this time have ended. `basis`: of a rollback; it counts as one source, which is
    enough. `lifetimes`: only if entries end by age. `keeps_live`: as in ListRules.
    """
    with ExitStack() as stack:

        def names(digest: Sha256 | None) -> Names | None:
            return None if digest is None else Names(stack.enter_context(files.map(digest)))

        excepted = NO_EXCEPTIONS
        if policy.exceptions is not None:
            excepted = Excepted.from_bytes(bytes(stack.enter_context(files.map(policy.exceptions))))
        tests = {key_of(line): line for line in (line_of_test(host, state.ids) for host in policy.tests)}
        exceptions = [*excepted.keys, *(key for key in tests if state.ids.of(*type_and_value(key)) in excepted.ids)]
        yield ListRules(
            state.ids,
            policy.types,
            policy.allow_public_suffix,
            policy.allow_ip,
            instant_of(evaluated),
            quorum=policy.quorum if basis is None else 1,
            names=NameRules(names(policy.never_block), names(policy.own_names), names(policy.shared_hosts)),
            corrected=dict.fromkeys(exceptions, EXCEPTION) | corrected(corrections),
            excepted=excepted.ids,
            additions=policy.additions,
            pending=NameRules(*map(names, policy.pending)),
            lifetimes=lifetimes,
            keeps_live=keeps_live,
            tests=tests,
        )


@contextmanager
def live_rules(
    files: SealedFiles, state: ListState, policy: Policy, kept: Mapping[bytes, bytes]
) -> Iterator[ListRules]:
    """The rules of the live version under its policy. `kept`: as in EntryAges. Its files stay open."""
    with ExitStack() as stack:
        lifetimes = None
        if policy.ends_by_age and state.basis is None and state.live is not None:
            lifetimes = stack.enter_context(entry_ages(files, policy, state.ages, kept, state.live.time))
        common = files, state, policy, state.evaluated, state.corrections, state.basis, lifetimes
        yield stack.enter_context(rules_of(*common, keeps_live=True))
