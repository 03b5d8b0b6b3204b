"""Counts the entries that a delta adds, removes and changes, by last label, for the reviewer of a candidate."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any, Final

from blocklistd.jobs.spread import processes, spread
from blocklistd.lines.snapshot import blocks
from blocklistd.model import Sha256
from blocklistd.store.files import SealedFiles, drop_page_cache

SUFFIXES: Final = 20  # suffixes that a candidate shows to the reviewer
_HOSTS: Final = {
    b"host": re.compile(rb'"value":"([^"]*)[^\n]*\n'),
    b"domain": re.compile(rb'"value":"([^"]*)[^\n]*\n'),
    b"url": re.compile(rb'"value":"https?://(\[[^\]]*\]|[^/:"]*)[^\n]*\n'),
}
"""For each type, finds the hosts in lines that have only this type."""
_REMOVE: Final = b'{"remove":'
_REMOVED_HOSTS: Final = {
    kind: re.compile(rb'%b{"type":"%b",%b' % (_REMOVE, kind, hosts.pattern)) for kind, hosts in _HOSTS.items()
}
"""The same, but only in the lines of a delta that remove an entry."""
_CHANGED: Final = re.compile(rb'(?m)^{"remove":({"type":"[^"]*","value":"[^"]*")[^\n]*\n({"add":\1[^\n]*\n)')
"""The two lines of a changed entry. They have the same key; the line that adds follows the one that removes."""
_COUNTS: Final = ("added", "removed", "changed")
_BLOCK: Final = 1 << 20  # bytes of a delta that one task counts


def suffixes_of(files: SealedFiles, delta: Sha256, *, has_changes: bool = True) -> dict[str, dict[str, int]]:
    """For each of the most frequent last labels, the numbers of entries that a delta adds, removes and changes, under
    `added`, `removed` and `changed`. They show a reviewer, for example, that a change affects the names of one country.
    `has_changes`: False promises that no entry of the delta has changed attributes.

    Suffixes have one label, since two labels can be the complete name of an entry. A name of one label is counted
    under the root (`.`).
    """
    with files.map(delta) as content:
        edges = blocks(content, _BLOCK)
        # keep both lines of a changed entry in one block
        for number in range(1, len(edges) - 1) if has_changes else ():
            if both := _CHANGED.match(content, content.rfind(b"\n", 0, edges[number] - 1) + 1):
                edges[number] = max(edges[number], both.end())

        def count(number: int) -> tuple[dict[str, Any], bytes]:
            found = count_suffixes(content[edges[number] : edges[number + 1]], has_changes=has_changes)
            return {change: dict(by_label) for change, by_label in found.items()}, b""

        total: dict[str, Counter[str]] = {change: Counter() for change in _COUNTS}
        parts = len(edges) - 1
        with spread(count, min(parts, processes())) as results:
            for counts, _ in results(parts):
                for change, by_label in counts.items():
                    total[change].update(by_label)
        drop_page_cache(content)
    most = sum(total.values(), Counter[str]()).most_common(SUFFIXES)
    return {suffix: {change: total[change][suffix] for change in _COUNTS} for suffix, _ in most}


def count_suffixes(delta: bytes, *, has_changes: bool = True) -> dict[str, Counter[str]]:
    """Counts the entries that a delta adds, removes and changes, by the last label of their host. Addresses are counted
    as `address`, entries without a host by their type. `has_changes`: as in `suffixes_of`.

    It works by regular expressions over many lines, for speed: a reviewer waits for a million lines.
    """
    total, lines, removes = _count(delta, _HOSTS), delta.count(b"\n"), delta.count(_REMOVE)
    removed = total if removes == lines else _count(delta, _REMOVED_HOSTS) if removes else Counter[str]()
    changed = Counter[str]()
    if has_changes and 0 < removes < lines:
        changed = _count(b"".join([pair[2] for pair in _CHANGED.finditer(delta)]), _HOSTS)
    return {"added": total - removed - changed, "removed": removed - changed, "changed": changed}


def _count(delta: bytes, hosts_of: Mapping[bytes, re.Pattern[bytes]]) -> Counter[str]:
    """Counts lines by last label: with _HOSTS all lines of a delta, with _REMOVED_HOSTS those that remove."""
    count: Counter[str] = Counter()
    for kind, lines in _by_type(delta):
        if kind not in hosts_of:
            count[kind.decode()] += lines.count(b"\n" if hosts_of is _HOSTS else _REMOVE)
            continue
        # the last label with its dot; a name of one label has none
        ends = Counter([host[host.rfind(b".") :] for host in hosts_of[kind].findall(lines)])
        for end, hosts in ends.items():
            if end[1:].isdigit() or end.endswith(b"]"):  # no canonical name ends in a label of digits only
                count["address"] += hosts
            else:
                count[end[1:].decode() if end.startswith(b".") else "."] += hosts
    return count


def _by_type(delta: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Splits a delta into runs of lines of the same type. Yields the type and the lines."""
    lines = delta.count(b"\n")
    for kind in (b"url", b"domain", b"host"):
        if lines and delta.count(b':{"type":"%b",' % kind) == lines:
            yield kind, delta
            return
    for kind, run in groupby(delta.splitlines(keepends=True), lambda line: line.split(b'"', 6)[5]):
        yield kind, b"".join(run)
