"""Guesses the format of a body whose records were all rejected, so that the error message can name the next step. Pure.

The guess is used only in the message; it never decides how a body is read.
"""

from __future__ import annotations

import re
from typing import Final

from blocklistd.lines.keys import Buffer
from blocklistd.sources.formats.records import LONE_CR, FormatOptions

_SAMPLE: Final = 64 * 1024  # bytes of the body that are examined

UNKNOWN: Final = "check `url` and `format`"
_HTML: Final = "the body contains HTML: check `url`, or ask the hotline if it serves an error page"
_CR: Final = "there are lines that end in CR alone: expected LF, or CR and LF; convert it, for example with `tr`"
_JSON: Final = "this is JSON: set `format: json` for one document, `format: ndjson` for one document a line"
_ADBLOCK: Final = "this is AdBlock syntax: expected a value alone; ask the hotline for a list of names or URLs"
_WILDCARDS: Final = "these are wildcards: set `options.wildcards: domain` to read them as domains, in text and hosts"
_CHECKSUMS: Final = (
    "these are lines of a hash and the name of a file: expected the hash alone, as `cut -d' ' -f1` makes"
)
_HOSTS: Final = "these are lines of a hosts file: set `format: hosts`"
_URLS: Final = "these are URLs: set `defaults.type: url`"
_NAMES: Final = "these are names: set `defaults.type: host` or `domain`"
_POINTER: Final = "no record has a value at `fields.value`: check this pointer or path"
_TYPE: Final = "no record has a type: set `fields.type` or `defaults.type`"
_OF_FORMAT: Final = {
    "action-log": "check `fields`, `options.add` and `options.remove`",
    "xml-pages": "check `options.records` and `fields`",
}
"""Next steps for formats that are rewritten to lines of their own."""
NEXT_STEPS: Final = (
    *(UNKNOWN, _HTML, _CR, _JSON, _ADBLOCK, _WILDCARDS, _CHECKSUMS, _HOSTS, _URLS, _NAMES, _POINTER, _TYPE),
    *_OF_FORMAT.values(),
)
"""Every text that `recognised` can return."""

_HTML_TAG: Final = re.compile(rb"<(?:!doctype|html|head|body|script|div|p|h1)\b", re.I)
_DOCUMENT: Final = re.compile(rb"\s*[\[{]\s*[\n\r\"{}\[]")
_NAME: Final = rb"[\w-]+(?:\.[\w-]+)+\.?"
_LINES: Final[tuple[tuple[str, re.Pattern[bytes]], ...]] = (
    (_CHECKSUMS, re.compile(rb"\\?(?:[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64})[ \t]+\S.*", re.I)),
    (_ADBLOCK, re.compile(rb"!.*|\[adblock.*|(?:@@)?\|.*|.*#@?\??#.*|.*\^(?:\$.*)?", re.I)),
    (_WILDCARDS, re.compile(rb"(?:\S+[ \t]+)?\*\.[^/\s]+")),
    (_HOSTS, re.compile(rb"(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9a-f]*:[0-9a-f:]+)[ \t]+\S.*", re.I)),
)
"""Next steps for a body of which most lines match the pattern, whatever type is configured."""
_OF_TYPE: Final[dict[str, tuple[tuple[str, re.Pattern[bytes]], ...]]] = {
    "url": ((_NAMES, re.compile(_NAME)),),
    "host": ((_URLS, re.compile(rb"https?://\S+", re.I)),),
    "domain": ((_URLS, re.compile(rb"https?://\S+", re.I)),),
    "ip": ((_URLS, re.compile(rb"https?://\S+", re.I)), (_NAMES, re.compile(_NAME))),
}


def recognised(body: Buffer, start: int, format: str, options: FormatOptions, reason: str = "no-value") -> str:
    """One of NEXT_STEPS, for a body of which every record was rejected, most of them for `reason`. `start`: the offset
    of its first line."""
    if reason == "no-type":
        return _TYPE
    if format in _OF_FORMAT:
        return _OF_FORMAT[format]
    sample: bytes = body[start : start + _SAMPLE]
    if _HTML_TAG.search(sample):
        return _HTML
    if LONE_CR.search(sample):
        return _CR
    lines = [line for text in sample.split(b"\n") if (line := text.strip()) and not line.startswith(b"#")]
    if format in ("json", "xml"):  # the body is known to be in this format
        return _POINTER if reason == "no-value" else UNKNOWN
    if format == "ndjson" and lines and all(line.startswith(b"{") and line.endswith(b"}") for line in lines):
        return _POINTER
    if _DOCUMENT.match(sample):
        return _JSON
    for next_step, pattern in (*_LINES, *_OF_TYPE.get(options.defaults.get("type", ""), ())):
        if 2 * sum(pattern.fullmatch(line) is not None for line in lines) > len(lines):
            return next_step
    return UNKNOWN
