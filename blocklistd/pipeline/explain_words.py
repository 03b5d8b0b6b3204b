"""The sentence that says why an entry is not live, for `entry explain` and the refusal of `entry delist`. It names ids
only. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blocklistd.change import Correction
from blocklistd.lines.expiry import expiry_of
from blocklistd.pipeline.correction_words import DONE, ENDED_BY, another_entry, period
from blocklistd.pipeline.list_context import ListContext

if TYPE_CHECKING:
    from blocklistd.pipeline.explain import Explanation

_PLAIN: Final = {
    "ip": "it is an address, or a URL whose host is one, and `allow_ip` of the list is false",
    "public_suffix": (
        "it is a domain under which anybody can register names, and `allow_public_suffix` of the list is false"
    ),
    "never_block": (
        "it hits a name or an address of the list's `never_block` files or warning lists: no approval publishes it; "
        "only a change of these does"
    ),
    "own_name": "it hits a name of the publisher or of a subscriber: no approval publishes it",
    "shared_hosts": (
        "it hits a name of the list's `shared_hosts`, platforms of many customers: the list takes URLs there, not names"
    ),
    "exception": "the list's file of `exceptions` has its name or its id",
    "expired": "the `expires` that its sources gave it has passed",
    "lifetime": "no source has confirmed it within the `lifetime` of the list",
    "additions": (
        "a file of names of the list's guards is unusable, so nothing is added, or it hits a name there that waits for "
        "a release: see `blocklistd status`"
    ),
    "test_entry": (
        "it is a test entry of the configuration, which the list gets with its first version, or with its next change "
        "of policy: see `blocklistd candidate list` and `blocklistd status`"
    ),
    "not_composed": "a source asserts it and no rule withholds it, but the live version is without it: pull the source",
    "no_version": "a source asserts it, but the list has no version yet: see `blocklistd candidate list`",
}


def sentence(rule: str, context: ListContext, found: Explanation, lasting: int) -> str:
    """Why the entry is not live. `rule`: of Explanation, or the reason that explain.py found. `lasting`: the sources
    that assert it and whose `expires` has not passed."""
    if rule in _PLAIN:
        return _PLAIN[rule] + (_ended(found) if rule == "expired" else "")
    if rule.startswith("type "):
        return f"the list takes no entry of the {rule}: see `types` of the list"
    for one in found.corrections:
        if rule == one.kind.value:
            return _correction(one) + ("" if found.assertions or found.is_test else "; no source asserts it now")
    name = context.plan.id
    match rule:
        case "quorum":
            quorum = context.state.policy.quorum if context.state.policy else context.plan.quorum
            known = _sources(found, "accepted")
            return f"the list's `quorum` needs {quorum} sources that assert it; it has {lasting}: {known}"
        case "held":
            adding = [one for one in found.held if one.change == "added"]
            candidates = ", ".join(one.candidate.id for one in adding)
            return f"it is held in candidate {candidates}: reject that, or approve it, with or without the entry"
        case "rejected":
            return "a reviewer rejected the candidate that would add it"
        case "frozen":
            frozen = context.state.frozen
            since = f" since {frozen.time} (by {frozen.user})" if frozen else ""
            return f"list {name} is frozen{since}: sources change it again after `blocklistd list resume {name}`"
        case "rollback":
            return (
                f"list {name} was rolled back to a version without it: sources change it again after "
                f"`blocklistd list resume {name}`"
            )
        case "not_released":
            return (
                f"{_sources(found, 'offered')} asserts it now, but list {name} has not taken those entries yet: see "
                f"`blocklistd candidate list` and `blocklistd source show`"
            )
        case "not_taken":
            return (
                f"{_sources(found, 'not taken')} asserts it, but the policy in force does not take that source: a "
                f"change of policy is held, see `blocklistd candidate list`"
            )
        case "quarantine":
            return f"only {_sources(found, 'quarantine')} asserts it, which is in quarantine"
        case "not_asserted":
            last = found.versions.intervals[-1]
            return f"no source of list {name} asserts it now; version {last.removed_in} removed it"
    return _never(found, name)


def _sources(found: Explanation, state: str) -> str:
    return ", ".join(one.source for one in found.assertions if one.state == state)


def _ended(found: Explanation) -> str:
    times = sorted({expiry.decode() for one in found.assertions if (expiry := expiry_of(one.line)) is not None})
    return f" ({times[-1]})" if times else ""


def _correction(one: Correction) -> str:
    return f"it is {DONE[one.kind]}{period(one)}: `blocklistd {ENDED_BY[one.kind]}` ends that"


def _never(found: Explanation, name: str) -> str:
    known = found.versions.known_from
    since = f", as far as it is known (from version {known} on)" if known is not None else ""
    if found.entry.related:
        return f"it is not listed: {another_entry(found.entry.type, found.entry.related)}"
    return f"no source has asserted it to list {name}{since}, and no candidate has it"
