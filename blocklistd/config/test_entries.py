"""The test entries of a list: hosts that its resolvers are probed with. The operator names them, so only a
correction withholds them. The checks refuse hosts that deliver the list itself, such as the feed's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blocklistd.config.document import ConfigDocument, ConfigNode, InvalidValue, Reader
from blocklistd.config.own_names import configured_names
from blocklistd.config.reader import sequence
from blocklistd.kinds import KINDS, InvalidEntry
from blocklistd.limits import CLIENT_PROBES

if TYPE_CHECKING:
    from blocklistd.config import Config


def _host(node: ConfigNode) -> str:
    try:
        found = KINDS["host"](node.text())
    except InvalidEntry:
        raise InvalidValue from None
    if "." not in found:  # the name above it is the control name of a probe
        raise InvalidValue
    return found


_hosts: Final = sequence(Reader("a host under a name of your own, like blocktest.isp.example", _host))


def _test_entries(node: ConfigNode) -> tuple[str, ...]:
    made = _hosts.convert(node)
    if len(made) > CLIENT_PROBES:
        raise InvalidValue(f"at most {CLIENT_PROBES}: a probe asks for no more", f"{len(made)} hosts")
    return made


test_entries: Final = Reader(_hosts.expected, _test_entries, null_is_absent=True)


def check(document: ConfigDocument, config: Config) -> None:
    """Checks that the test entries are hosts which the list takes, and that none is a name of the publisher's own."""
    own = configured_names(config)
    for name, found in config.lists.items():
        key = f"lists.{name}.test_entries"
        if found.test_entries and "host" not in found.types:
            document.report(key, "`host` among the `types` of the list: test entries are hosts")
        for host in found.test_entries:
            if host in own:
                document.report(
                    key, "another host: the feed, a zone, a source or the webhook has this name", repr(host)
                )
