"""The configuration for Knot Resolver, which transfers no zones: it reads files that `blocklistd sync` makes.

Version 5 is configured in Lua, version 6 in YAML. Both ignore rules for addresses.
"""

from __future__ import annotations

from typing import Final

from blocklistd.daemon.profiles.request import blocked_by
from blocklistd.daemon.profiles.versions import Software

FOLDER: Final = "/var/lib/blocklistd-sync"

_SYNC: Final = """\
{comment} Keep the file of each list up to date, as a service of its own:
{comment}   blocklistd sync {feed} {list} \\
{comment}     --root root.json --token-file token --format rpz --watch \\
{comment}     --group knot-resolver --dir {folder}/{list}
"""

_LUA: Final = """\
policy.add(policy.rpz(
    policy.DENY_MSG("{text}",
        kres.extended_error.CENSORED),
    "{folder}/{list}/{list}.rpz",
    true))  -- reads a changed file; this needs lua-cqueues
"""

_YAML: Final = """\
local-data:
  rpz:
"""

_YAML_LIST: Final = """\
    - file: {folder}/{list}/{list}.rpz
      watchdog: true     # reads a changed file; this needs python3-watchdog
"""


def text(software: Software, feed: str, lists: tuple[str, ...]) -> str:
    """The command that fetches each list, and the settings that read its file. `feed`: the URL of the feed."""
    comment = "--" if software.in_lua else "#"
    sync = _SYNC.format(comment=comment, feed=feed, folder=FOLDER, list=lists[0])
    if software.in_lua:
        return sync + "".join(_LUA.format(folder=FOLDER, list=one, text=blocked_by(one)) for one in lists)
    return sync + _YAML + "".join(_YAML_LIST.format(folder=FOLDER, list=one) for one in lists)
