"""A plain model of a list: dictionaries, and the rules in their order."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from blocklistd.change import CorrectionKind
from tests.versions_of import NOW

Key = tuple[str, str]
"""The type and value of an entry."""
Line = tuple[datetime | None, str]
"""The `expires` and the category of an entry; TEST in the place of the category for a test entry."""
Listing = dict[Key, Line]
"""What a source lists."""

TEST: Final = "test"
SOURCES: Final = ("a", "b", "c")
NAMES: Final = ("a.example", "b.a.example", "c.test")
SUFFIX: Final = ("domain", "example")
KEYS: Final = [*[(kind, name) for kind in ("domain", "host") for name in NAMES], ("url", "https://a.example/"), SUFFIX]


@dataclass(frozen=True)
class Rules:
    """The configuration of the list. `sources`: in precedence. `protected`: the names of never_block; `pending`: those
    that wait for a release. `terms`: those of the lifetime, at whose end entries end. `tests`: hosts that the list has
    whatever its sources say."""

    sources: tuple[str, ...] = SOURCES[:2]
    quorum: int = 1
    types: tuple[str, ...] = ("url", "host", "domain")
    protected: frozenset[str] = frozenset()
    additions: bool = True
    pending: frozenset[str] = frozenset()
    terms: tuple[timedelta, ...] = ()
    tests: tuple[str, ...] = ()

    @property
    def test_keys(self) -> set[Key]:
        """The test entries."""
        return {("host", name) for name in self.tests}


@dataclass
class Model:
    """A list. `offers`, `accepted`: the newest listing of each source, and that of the live version. `corrected`: until
    when an entry is withheld by a kind of correction (None: for ever). `time`: entries that end by then have ended.
    `ages`: since when each source asserts its entries. `kept`: when a person confirmed an entry."""

    rules: Rules = field(default_factory=Rules)
    offers: dict[str, Listing] = field(default_factory=dict)
    accepted: dict[str, Listing] = field(default_factory=dict)
    corrected: dict[tuple[CorrectionKind, Key], datetime | None] = field(default_factory=dict)
    time: datetime = NOW
    live: dict[Key, Line] | None = None
    withheld: dict[Key, str] = field(default_factory=dict)
    ages: dict[str, dict[Key, datetime]] = field(default_factory=dict)
    kept: dict[Key, datetime] = field(default_factory=dict)

    def asserting(self, key: Key) -> list[str]:
        """The sources that assert an entry, in precedence."""
        return [source for source in self.rules.sources if key in self.accepted.get(source, {})]

    def age(self, now: datetime) -> None:
        """The sources assert what is accepted; what they did not assert before, they assert since now."""
        if not self.rules.terms:
            self.ages = {}
            return
        known = self.ages
        self.ages = {
            source: {key: known.get(source, {}).get(key, now) for key in listing}
            for source, listing in self.accepted.items()
        }

    def has_outlived(self, key: Key, time: datetime) -> bool:
        """Whether fewer than `quorum` of the sources that assert an entry at this time are within the terms."""
        begun = [
            max(self.ages[source][key], self.kept.get(key, self.ages[source][key]))
            for source in self.asserting(key)
            if source in self.ages and lasts(self.accepted[source][key], time)
        ]
        ends = sorted((since + min(self.rules.terms) for since in begun), reverse=True) if self.rules.terms else []
        return len(ends) >= self.rules.quorum and ends[self.rules.quorum - 1] <= time

    def rule(self, key: Key, *, ends_live: bool) -> str | None:
        """The rule that withholds an entry, or None. `ends_live`: live entries end by their age, too."""
        if key in self.rules.test_keys:
            return self.correction(key)
        lasting = self.lasting(key)
        if key[0] not in self.rules.types:
            return f"type {key[0]}"
        if key == SUFFIX:
            return "public_suffix"
        if is_protected(key, self.rules.protected):
            return "never_block"
        if not lasting:
            return "expired"
        if len(lasting) < self.rules.quorum:
            return "quorum"
        is_live = key in (self.live or {})
        if self.has_outlived(key, self.time) and (ends_live or not is_live):
            return "lifetime"
        stops = not self.rules.additions or is_protected(key, self.rules.pending)
        return self.correction(key) or ("additions" if stops and not is_live else None)

    def correction(self, key: Key) -> str | None:
        """The correction that withholds an entry, or None."""
        return next((kind.value for kind in CorrectionKind if (kind, key) in self.corrected), None)

    def lasting(self, key: Key) -> list[Line]:
        """The lines of an entry that have not ended, in precedence."""
        lines = [self.accepted[source][key] for source in self.asserting(key)]
        return [line for line in lines if lasts(line, self.time)]

    def compose(self, *, ends_live: bool = False) -> None:
        """Makes the live list from what is accepted. Does nothing before the first version. `ends_live`: as in `rule`,
        in an expiry."""
        if self.live is None:
            return
        tests = self.rules.test_keys
        found = {key: self.rule(key, ends_live=ends_live) for key in KEYS if key in tests or self.asserting(key)}
        live = [key for key, rule in found.items() if rule is None]
        self.live = {key: (None, TEST) if key in tests else self.lasting(key)[0] for key in live}
        self.withheld = {key: rule for key, rule in found.items() if rule is not None}

    def offer(self, source: str, rules: Rules) -> None:
        """The list takes the newest listing of a source. `rules`: those of a first version."""
        if self.live is None:
            self.rules, self.accepted, self.live = rules, dict(self.offers), {}
        self.accepted[source] = self.offers[source]
        self.compose()

    def reload(self, rules: Rules) -> None:
        """The list gets other rules, then the newest listing of each source."""
        if self.live is not None:
            self.compose()
            self.rules, self.accepted = rules, {name: self.accepted.get(name, {}) for name in rules.sources}
            self.compose()
        for source in SOURCES:
            if source in rules.sources:
                self.offer(source, rules)


def lasts(line: Line, time: datetime) -> bool:
    """Whether the `expires` of a line has not passed."""
    return line[0] is None or line[0] > time


def is_protected(key: Key, names: Collection[str]) -> bool:
    """Whether an entry is one of the names, is below one, or, as a domain, is above one."""
    kind, value = key
    below = any(f".{value}".endswith(f".{name}") for name in names)
    return kind != "url" and (below or (kind == "domain" and any(name.endswith(f".{value}") for name in names)))
