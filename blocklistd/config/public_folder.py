"""`feed.public_dir`: the folder of the static tree, which a web server of this machine reads.

The check needs state_dir too, so it is one of the whole configuration.
"""

from __future__ import annotations

import grp
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from blocklistd.config import values
from blocklistd.config.files import as_user, daemon_user, group_ids, user_name
from blocklistd.config.reader import SectionValues, config_section, setting

_KEY: Final = "feed.public_dir"
_OWN: Final = "a folder of its own: the web server reads all of it"


@config_section
class PublicDirSettings:
    """The folder of the static tree, and the group that may read it."""

    path: Path = setting(values.path)
    group: str = setting(values.group)


def check(section: SectionValues) -> None:
    """Checks that the folder is no other one of the daemon's, and that the daemon's user can write it for its group."""
    state_dir, feed = section.values.get("state_dir"), section.values.get("feed")
    settings = getattr(feed, "public_dir", None)
    if not isinstance(settings, PublicDirSettings) or not isinstance(state_dir, Path):
        return
    document = section.document
    folder, state, etc = (path.absolute().resolve() for path in (settings.path, state_dir, document.folder))
    for other in (state, etc):
        if other.is_relative_to(folder):
            document.report(f"{_KEY}.path", _OWN, f"{settings.path}, which contains {other}")
            return
    if folder.is_relative_to(state) and folder.relative_to(state).parts[0] != "public":
        expected = f"{state_dir}/public, or a folder outside state_dir, where the daemon's own files are"
        document.report(f"{_KEY}.path", expected, f"{settings.path}")
        return
    uid = daemon_user(state_dir) if document.check_files else None
    if uid is None:
        return
    missing = not folder.exists() and not folder.parent.exists() and not folder.is_relative_to(state)
    if missing:
        expected = "a folder in one that exists: make it, or mount its disk"
        document.report_nonfatal(f"{_KEY}.path", expected, f"{settings.path}: there is no folder {folder.parent}")
    gid = grp.getgrnam(settings.group).gr_gid
    if uid and gid not in group_ids(uid):
        expected = f"a group of {user_name(uid)}, who runs the daemon: `usermod -aG {settings.group} {user_name(uid)}`"
        document.report_nonfatal(f"{_KEY}.group", expected, settings.group)
    if missing:
        return
    with suppress(PermissionError), as_user(uid):
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK, effective_ids=True):
            expected = f"a folder that {user_name(uid)}, who runs the daemon, can write"
            document.report_nonfatal(f"{_KEY}.path", expected, f"{existing}, which is not one")
