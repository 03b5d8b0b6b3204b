"""The words for the reasons to reject a record: one sentence for each, for the hotline that made the list.

docs/publisher.md has the same reasons, with examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from blocklistd.kinds.name import MAX_NAME
from blocklistd.limits import KIB, MAX_LINE, MAX_URL

WORDS: Final[Mapping[str, str]] = {
    # of the formats
    "too-long": f"The record has more than {MAX_LINE // KIB} KiB.",
    "not-utf8": "The record has bytes that are not UTF-8.",
    "not-json": "The record is not JSON.",
    "duplicate-key": "An object in the record has a key twice.",
    "malformed": "The quotes of the CSV row do not close or have text after them, or the record of the zone is wrong.",
    "short-row": "The row has no cell for a column that is read.",
    "long-row": "The row has more cells than the header: a delimiter in its value may not be quoted.",
    "no-value": "The record has no value.",
    "no-type": "The record does not say the type of its value.",
    "unknown-type": "The type of the record is not one that blocklistd knows.",
    "type-not-built": "Records of this type can't be in a list of blocklistd; nothing is wrong with the record.",
    "no-address": "The line does not begin with an IP address.",
    "no-name": "The line has an IP address and no name.",
    "other-host": "The record gives a host that is not the host of its URL.",
    "not-a-date": "A date of the record is no ISO 8601 date.",
    "unknown-action": "The action of the row is neither of the two that are agreed, or the row has several values.",
    "exception": "The zone has an exception below this domain, which no entry can express.",
    "outside-zone": "The name of the record is outside the zone.",
    "subdomains-only": "The zone lists the names below this one but not the name itself, which no entry can express.",
    "trigger": "The rule has a trigger other than a name: an address of a client or of a name server.",
    # of the kinds
    "empty": "The value is empty.",
    "character": "The name, or the host of the URL, has a character that is not allowed there.",
    "address": "The value is an IP address: a name is expected.",
    "wildcard": "The value is a wildcard: a name is expected.",
    "rpz-label": "The last label of the name begins with rpz-, which has a meaning of its own in DNS zones.",
    "not-a-name": "The name is not one that IDNA allows.",
    "not-a-url": "The value is no URL.",
    "scheme": "The URL does not begin with http: or https:.",
    "empty-label": "The name has two dots in a row, or begins with a dot.",
    "label-too-long": "A label of the name has more than 63 characters.",
    "name-too-long": f"The name has more than {MAX_NAME} characters.",
    "url-too-long": f"The URL has more than {MAX_URL // KIB} KiB.",
    "hash-length": "The hash has another length than hashes of its type.",
    "hash-digits": "The hash has characters other than hex digits.",
    "fragment": "The URL has a fragment and neither path nor query: without the fragment it would be the front page.",
    "not-an-address": "The value is no IPv4 or IPv6 address, and no prefix of such addresses.",
    "host-bits": "The address has bits beyond the length of its prefix: one of the two is wrong.",
    "local-address": "The address is of no host on the Internet: unspecified, loopback, or in ::/80.",
    "special-address": "The address is of a special-purpose range, like those of NAT64 and multicast.",
    "too-wide": "The prefix contains more addresses than a /16 of IPv4 or a /32 of IPv6.",
    "one-label": "The host of the URL has one label only.",
}
"""One sentence for each of REJECTS (sources/intake/findings.py)."""


def words_of(code: str) -> str:
    """The sentence for a reason; a general one for a reason that has none."""
    return WORDS.get(code, "The record can't be read.")
