"""Checks that a file contains canonical lines: sorted, one for each (type, value), each as intake writes it. Pure.

A file is checked in blocks of complete lines. One regular expression matches most lines of a block at once. A line that
it does not match is parsed and canonicalised again, and compared.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from functools import cache, lru_cache
from itertools import islice
from operator import eq, lt
from typing import Final

import orjson

from blocklistd.kinds import DIGITS, KINDS, InvalidEntry
from blocklistd.kinds.ip import PLAIN_IPV4
from blocklistd.kinds.name import MAX_NAME
from blocklistd.limits import KIB, MAX_URL
from blocklistd.lines.ids import FORM
from blocklistd.model import ATTRIBUTES, ID, Entry
from blocklistd.sources.formats.records import fitting_attributes
from blocklistd.sources.intake.canonical import HEADS

_HEAD: Final = re.compile(rb'\{"type":"(?P<kind>[a-z0-9]{1,16})","value":"(?P<value>[^"\\]*(?:\\.[^"\\]*)*)"')

# Patterns of values that are canonical; what they do not match is checked by `check_line`.
_NAME: Final = r"(?:[a-z0-9_-]{1,63}+\.)*+(?!rpz-)[a-z][a-z0-9_-]{0,62}+"
_HOST: Final = _NAME.replace("*+", "++", 1)
_PATH: Final = r"[-A-Za-z0-9._~!$&'()*+,;=:@]"
_QUERY: Final = r"[A-Za-z0-9._~!$&()*+,;=:@/?-]"
_TRIPLET: Final = "%(?!2D|2E|3[0-9]|[46][1-9A-F]|[57][0-9A]|5F|7E)[0-9A-F]{2}"  # of no unreserved character
_NO_A_LABEL: Final = r'(?![^"\n]*xn--)'
_IN_BOUNDS: Final = {"url": rf'(?=[^"\n]{{1,{MAX_URL}}}+")(?=https?://[^/"]{{1,{MAX_NAME}}}+/)'}
_TEXT: Final = r'"(?! )[ !#-\[\]-~]{1,256}+(?<! )"'
SMALL: Final = 256 * KIB  # bytes of a block that is checked line by line faster than numpy is loaded
_RARE: Final = (b"xn--", b"%", b"/.")
"""Most blocks contain none of these; a simpler pattern is then enough (`_plain`)."""
_LEADING: Final = 24
"""Leading bytes of values that are compared as numbers, a multiple of 8. They may reach into the next line."""
_NUMBER: Final = "(?:0|[1-9][0-9]{0,8})"
_DAY: Final = (
    "(?!0000)[0-9]{4}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
)
_INSTANT: Final = f"{_DAY}T(?:[01][0-9]|2[0-3])(?::[0-5][0-9]){{2}}Z"
_FORMS: Final = {
    "verifiers": _NUMBER,
    "expires": f'"{_INSTANT}"',
    "verified_at": f'"(?:{_INSTANT}|{_DAY})"',
    ID: f'"{FORM.pattern}"',
}
_KNOWN: Final = sorted((ID, *ATTRIBUTES))
_ATTRIBUTES: Final = "".join(rf'(?:,"{name}":{_FORMS.get(name, _TEXT)})?' for name in _KNOWN)
_HAS_ID: Final = f',"{ID}":"'.encode()  # in no other place of a canonical line, since a quote in a text has a backslash
# Patterns for the rest of a line after its value.
_NO_ATTRIBUTES: Final = r'"\}'
_ANYTHING: Final = r'"[^\n]*+'
_PLAIN_ATTRIBUTES: Final = rf'"(?:\}}|{_ATTRIBUTES}\}})'


def count(block: bytes) -> Counter[str]:
    """The number of entries by type. Raises ValueError unless the block is complete canonical lines in order."""
    if not block:
        return Counter()
    if not block.endswith(b"\n"):
        raise ValueError("the last line is cut short")
    kind = _head(block[: block.find(b"\n")])["kind"].decode()
    plain = 0
    if kind in HEADS and len(block) > SMALL:
        plain = _count_hashes(kind, block) if kind in DIGITS else _count_plain(kind, block)
    if plain:
        return Counter({kind: plain})
    lines = block.split(b"\n")
    lines.pop()
    if not all(map(lt, lines, islice(lines, 1, None))):
        raise ValueError("lines are out of order, or occur twice")
    found: Counter[str] = Counter()
    at = 0
    while at < len(lines):
        kind = _head(lines[at])["kind"].decode()
        head = HEADS.get(kind, "").encode()
        end = bisect_left(lines, head + b"\xff", at)
        some = lines if end - at == len(lines) else lines[at:end]
        _check(head, kind, some, block if some is lines else b"\n".join([*some, b""]))
        found[kind] = end - at
        at = end
    return found


def has_ids(block: bytes) -> bool:
    """Whether an entry in canonical lines has an id."""
    return _HAS_ID in block


def check_neighbours(last: bytes, first: bytes) -> None:
    """Raises ValueError unless the line `first` of a block may follow the line `last` of the block before."""
    if not (last < first and _head(last).groups() != _head(first).groups()):
        raise ValueError("lines are out of order, or occur twice")


def check_line(line: bytes) -> str:
    """The type of the entry in a line, which has no newline. Raises ValueError unless the line is canonical."""
    head = _head(line)
    kind, written = head["kind"].decode(), head["value"]
    value = orjson.loads(b'"%b"' % written) if b"\\" in written else written.decode()
    try:
        canonical = KINDS[kind](value)
    except (KeyError, InvalidEntry):
        raise ValueError("not an entry") from None
    if Entry(kind, canonical).line() != b'{"type":"%b","value":"%b"}' % (kind.encode(), written):
        raise ValueError("a value is not canonical, or written otherwise")
    _check_tail(line[head.end() :])
    return kind


def _count_hashes(kind: str, block: bytes) -> int:
    """The number of lines, if all are hashes of one type with the same attributes. 0 if they are not: `count` then
    checks them one by one. Raises ValueError as `count`."""
    import numpy as np  # here, so that the daemon does not load it

    width, digits, head = block.index(b"\n") + 1, DIGITS[kind], len(HEADS[kind])
    if len(block) % width:
        return 0
    rows = np.frombuffer(block, np.uint8).reshape(-1, width)
    if not ((rows[:, :head] == rows[0, :head]).all() and (rows[:, head + digits :] == rows[0, head + digits :]).all()):
        return 0
    values = rows[:, head : head + digits].tobytes()
    if values.translate(None, b"0123456789abcdef"):
        return 0
    check_line(block[: width - 1])
    leading = np.frombuffer(values, f">u8,V{digits - 8}")["f0"]
    for at in np.flatnonzero(leading[1:] <= leading[:-1]).tolist():
        if not values[at * digits : (at + 1) * digits] < values[(at + 1) * digits : (at + 2) * digits]:
            raise ValueError("lines are out of order, or occur twice")
    return len(rows)


def _count_plain(kind: str, block: bytes) -> int:
    """The number of lines, if all are of one type and match the patterns above. 0 if they do not: `count` then checks
    them one by one. Raises ValueError as `count`."""
    import numpy as np

    rows = np.frombuffer(block + bytes(_LEADING), np.uint8)
    ends = np.flatnonzero(rows == ord("\n"))
    starts = np.concatenate(([0], ends[:-1] + 1)) + len(HEADS[kind])
    properties = bool((ends - starts).max() > MAX_NAME), *(rare in block for rare in _RARE)
    bare = _matches(_plain(kind, _NO_ATTRIBUTES, *properties), block)
    if not bare and not _matches(_plain(kind, _ANYTHING, *properties), block):
        return 0
    leading = rows[starts[:, None] + np.arange(_LEADING)]
    words = leading.view(">u8").astype(np.uint64)
    lower = np.zeros(len(ends) - 1, bool)
    for word in reversed(range(_LEADING // 8)):
        before, after = words[:-1, word], words[1:, word]
        lower = (before < after) | ((before == after) & lower)
    if not bare:
        quotes = np.flatnonzero(rows == ord('"'))
        quotes = quotes[np.searchsorted(quotes, starts)]
        tails = {block[at + 1 : end] for at, end in zip(quotes.tolist(), ends.tolist(), strict=True)}
        if len(tails) < len(ends) // 8 or not _matches(_plain(kind, _PLAIN_ATTRIBUTES, *properties), block):
            for tail in tails:
                _check_tail(tail)
        # the comparison may have reached into the attributes: the values must differ, too
        values = np.where(np.arange(_LEADING) < (quotes - starts)[:, None], leading, 0).view(np.uint64)
        lower &= (values[:-1] != values[1:]).any(axis=1)
    for at in np.flatnonzero(~lower).tolist():
        one, other = block[starts[at] : ends[at]], block[starts[at + 1] : ends[at + 1]]
        if not one < other or one[: one.index(b'"') + 1] == other[: one.index(b'"') + 1]:
            raise ValueError("lines are out of order, or occur twice")
    return len(ends)


def _matches(plain: re.Pattern[bytes], block: bytes) -> bool:
    found = plain.match(block)
    return found is not None and found.end() == len(block)


def _check(head: bytes, kind: str, lines: list[bytes], block: bytes) -> None:
    """Raises ValueError if one of these lines, all of one type, is not canonical, or a value occurs twice. `block`
    contains exactly these lines, and `head` is the text before their values."""
    long = max(map(len, lines)) > MAX_NAME
    plain = _plain(kind, _PLAIN_ATTRIBUTES, long, *(rare in block for rare in _RARE)) if head else None
    at, size = 0, len(block)
    while at < size:
        found = plain.match(block, at) if plain is not None else None
        at = found.end() if found is not None else at
        if at < size:
            end = block.index(b"\n", at)
            check_line(block[at:end])
            at = end + 1
    keys = [line[: line.index(b'"', len(head))] for line in lines]
    if any(map(eq, keys, islice(keys, 1, None))):
        raise ValueError("an entry occurs twice")


@cache
def _plain(kind: str, end: str, long: bool, a_labels: bool, percents: bool, dots: bool) -> re.Pattern[bytes]:
    """The pattern of any number of consecutive canonical lines, with `end` after the value. The other arguments:
    whether lines may have more characters than a name, A-labels, percent-encoding, and segments that begin with a dot.
    """
    if kind in DIGITS:
        value = f"[0-9a-f]{{{DIGITS[kind]}}}"
    elif kind == "ip":
        value = PLAIN_IPV4
    else:
        path, query = ((rf"(?:{one}++|{_TRIPLET})*+" if percents else f"{one}*+") for one in (_PATH, _QUERY))
        path = rf"(?:/(?!\.){path})++" if dots or percents else f"/{_PATH[:-1]}/]*+"
        value = rf"https?://{_HOST}{path}(?:\?{query})?" if kind == "url" else _NAME
        value = (_NO_A_LABEL if a_labels else "") + value
        value = (_IN_BOUNDS.get(kind, rf'(?=[^"\n]{{1,{MAX_NAME}}}+")') if long else "") + value
    return re.compile(rf"(?:{re.escape(HEADS[kind])}{value}{end}\n)*+".encode())


def _head(line: bytes) -> re.Match[bytes]:
    """Match the beginning of a line: the groups `kind` and `value`, which still has its JSON escapes. Raises ValueError
    if the line does not begin as a canonical line."""
    head = _HEAD.match(line)
    if head is None:
        raise ValueError("not a canonical line")
    return head


@lru_cache(maxsize=4096)
def _check_tail(tail: bytes) -> None:
    """Raises ValueError unless the tail of a line has known attributes, sorted, valid, and written as intake writes
    them."""
    if tail == b"}":
        return
    written = b"{" + tail[1:]
    attributes = orjson.loads(written)
    fits, _ = fitting_attributes(attributes.items(), "UTC")
    unchanged = fits and list(fits.items()) == list(attributes.items()) and fits.keys() <= set(_KNOWN)
    if not unchanged or b"," + orjson.dumps(dict(sorted(fits.items())))[1:] != tail:
        raise ValueError("attributes that do not fit, or are written otherwise")
