"""Checks that the state, the online key and the high-water file are where the configuration says.

A wrong `state_dir`, or one whose disk is not mounted, looks like that of a new publisher. So a start makes nothing in
an empty one, and the high-water file, which may be elsewhere, tells whether there was a state before.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from blocklistd.config import CheckedConfig, Config
from blocklistd.config.files import as_user, daemon_user, user_name
from blocklistd.errors import ConfigProblem, StoreError
from blocklistd.signing.trust import no_root, roots_dir
from blocklistd.store.high_water import HighestNumbers
from blocklistd.store.store import Store


def require_state(config: Config) -> None:
    """Raises SigningError if the state_dir is missing or empty, before a start makes anything in it; StoreError if a
    restore was interrupted."""
    store = Store(config.state_dir)
    if store.restoring.exists():
        raise StoreError(
            f"{store.restoring}: a restore was interrupted while it exchanged the state: run the same `blocklistd "
            f"restore` again"
        )
    if _is_new(config.state_dir):
        witnessed = witnessed_lists(config)
        but = f", but {config.high_water} has numbers of {', '.join(witnessed)}" if witnessed else ""
        raise no_root(roots_dir(config.state_dir), but)


def witnessed_lists(config: Config) -> list[str]:
    """The lists of which the high-water file has a version; none if it is not configured or can't be read."""
    with suppress(OSError, ValueError):
        if config.high_water is not None:
            found = HighestNumbers.parse(config.high_water.read_bytes()).lists
            return sorted(name for name, numbers in found.items() if numbers.get("version"))
    return []


def problems_of(checked: CheckedConfig) -> list[ConfigProblem]:
    """What a start would report of a configuration that has no other error. Empty if this process can't look with the
    rights of the daemon's user."""
    uid = daemon_user(checked.config.state_dir)
    if uid is None:
        return []
    with as_user(uid):
        return list(_problems(checked, user_name(uid)))


def warnings_of(checked: CheckedConfig) -> list[ConfigProblem]:
    """A warning for a publisher without keys: the first start needs them."""
    config = checked.config
    if not _is_new(config.state_dir) or witnessed_lists(config):
        return []
    expected = "the folder of the state: a new publisher runs `blocklistd keys init --root-out DIR` next"
    return [problem_at(checked, "state_dir", f"{config.state_dir}, which is missing or empty", expected)]


def problem_at(checked: CheckedConfig, key: str, found: str, expected: str) -> ConfigProblem:
    """A problem at the line of the key, or of the nearest section that is written."""
    written = key.partition(" ")[0]
    while written and written not in checked.lines:
        written = written.rpartition(".")[0]
    return ConfigProblem(checked.config.path, checked.lines.get(written, 1), key, found, expected)


def _problems(checked: CheckedConfig, user: str) -> Iterator[ConfigProblem]:
    config = checked.config
    witnessed = witnessed_lists(config)
    if witnessed and _is_new(config.state_dir):
        expected = f"the folder of the state, since {config.high_water} has numbers of {', '.join(witnessed)}"
        yield problem_at(checked, "state_dir", f"{config.state_dir}, which is missing or empty", expected)
    if config.high_water is not None:
        folder = config.high_water.parent
        writable = os.access(folder, os.W_OK | os.X_OK, effective_ids=True)
        if not os.path.isdir(folder) or not writable:
            why = f"the folder {folder} {'can not be written' if os.path.isdir(folder) else 'does not exist'}"
            yield problem_at(
                checked, "high_water", f"{config.high_water}: {why}", f"a file in a folder that {user} can write"
            )
    online = config.keys.online
    if isinstance(online, Path) and any(roots_dir(config.state_dir).glob("*.root.json")):
        expected = "the online key that `blocklistd keys init` made with this root.json"
        if not os.path.exists(online):
            yield problem_at(checked, "keys.online", f"{online}, which does not exist", expected)
        elif not os.access(online, os.R_OK, effective_ids=True):
            yield problem_at(checked, "keys.online", f"{online}, which {user} can't read", expected)


def _is_new(state_dir: Path) -> bool:
    """Whether the state_dir is missing or empty. False if it can't be read: the start reports that."""
    try:
        return all(one.name == "lost+found" for one in state_dir.iterdir())
    except FileNotFoundError:
        return True
    except OSError:
        return False
