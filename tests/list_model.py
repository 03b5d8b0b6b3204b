"""A plain model of a list: dictionaries, and the rules in their order."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from blocklistd.change import CorrectionKind
from tests.versions_of import NOW

Key = tuple[str, str]
"""The type and value of an entry."""
Line = tuple[datetime | None, str]
"""The `expires` and the category of an entry."""
Listing = dict[Key, Line]
"""What a source lists."""

SOURCES: Final = ("a", "b", "c")
NAMES: Final = ("a.example", "b.a.example", "c.test")
SUFFIX: Final = ("domain", "example")
KEYS: Final = [*[(kind, name) for kind in ("domain", "host") for name in NAMES], ("url", "https://a.example/"), SUFFIX]


@dataclass(frozen=True)
class Rules:
    """The configuration of the list. `sources`: in precedence. `protected`: the names of never_block."""

    sources: tuple[str, ...] = SOURCES[:2]
    quorum: int = 1
    types: tuple[str, ...] = ("url", "host", "domain")
    protected: frozenset[str] = frozenset()
    additions: bool = True


@dataclass
class Model:
    """A list. `offers`, `accepted`: the newest listing of each source, and that of the live version. `corrected`: until
    when an entry is withheld by a kind of correction (None: for ever). `time`: entries that end by then have ended."""

    rules: Rules = field(default_factory=Rules)
    offers: dict[str, Listing] = field(default_factory=dict)
    accepted: dict[str, Listing] = field(default_factory=dict)
    corrected: dict[tuple[CorrectionKind, Key], datetime | None] = field(default_factory=dict)
    time: datetime = NOW
    live: dict[Key, Line] | None = None
    withheld: dict[Key, str] = field(default_factory=dict)

    def asserting(self, key: Key) -> list[str]:
        """The sources that assert an entry, in precedence."""
        return [source for source in self.rules.sources if key in self.accepted.get(source, {})]

    def rule(self, key: Key) -> str | None:
        """The rule that withholds an asserted entry, or None."""
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
        for kind in CorrectionKind:
            if (kind, key) in self.corrected:
                return kind.value
        return None if self.rules.additions or key in (self.live or {}) else "additions"

    def lasting(self, key: Key) -> list[Line]:
        """The lines of an entry that have not ended, in precedence."""
        lines = [self.accepted[source][key] for source in self.asserting(key)]
        return [line for line in lines if line[0] is None or line[0] > self.time]

    def compose(self) -> None:
        """Makes the live list from what is accepted. Does nothing before the first version."""
        if self.live is None:
            return
        found = {key: self.rule(key) for key in KEYS if self.asserting(key)}
        self.live = {key: self.lasting(key)[0] for key, rule in found.items() if rule is None}
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


def is_protected(key: Key, names: Collection[str]) -> bool:
    """Whether an entry is one of the names, is below one, or, as a domain, is above one."""
    kind, value = key
    below = any(f".{value}".endswith(f".{name}") for name in names)
    return kind != "url" and (below or (kind == "domain" and any(name.endswith(f".{value}") for name in names)))
