"""The settings of a list's guards: when a candidate is held for review."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from blocklistd.config import values
from blocklistd.config.document import ConfigNode, NamedFile, Reader, shorten
from blocklistd.config.reader import config_section, or_off, section, sequence, setting
from blocklistd.sources.guard_files import WARNINGLIST, nearest, warninglists


def _reference(node: ConfigNode) -> str:
    text = node.text()
    if not text.startswith(WARNINGLIST):
        path = values.path.convert(node).absolute()
        # Not `node.add_file`: a missing file has an alarm of its own (daemon/guard_names.py).
        node.document.files.append(NamedFile(node.key, node.line, path, private=False))
        return str(path)
    listed = text.removeprefix(WARNINGLIST)
    if node.document.check_files and listed not in warninglists():
        near = ", ".join(nearest(listed)) or "tranco10k"
        expected = f"{WARNINGLIST}NAME with a list of pymispwarninglists, like {near}"
        node.document.report_nonfatal(node.key, expected, repr(shorten(text)), node.line)
    return text


def _exceptions(node: ConfigNode) -> Path:
    path = values.path.convert(node).absolute()
    # Not `node.add_file`, as above (daemon/exception_files.py).
    node.document.files.append(NamedFile(node.key, node.line, path, private=False))
    return path


exceptions_file: Final = Reader("a JSON file of local exceptions", _exceptions)
reference: Final = Reader("a file with one name a line, or warninglist:NAME", _reference)


@config_section
class DailyGuardSettings:
    """Limits for the sum of a candidate and the unreviewed changes of the 24 h before it, as fractions."""

    max_added: float = setting(values.share, default=0.4)
    max_removed: float = setting(values.share, default=0.2)


@config_section
class GuardSettings:
    """Limits above which a candidate is held for review.

    `max_added` and `max_removed` are fractions of the live entries (0.2 is 20 %), `max_rejected` of the entries of a
    pull. `min_change` and `min_entries` are numbers of entries. `daily` is None if it is off. `never_block` and
    `shared_hosts` are absolute paths of files, and `warninglist:NAME` (sources/guard_files.py).
    """

    max_added: float = setting(values.share, default=0.2)
    max_removed: float = setting(values.share, default=0.1)
    daily: DailyGuardSettings | None = setting(or_off(section(DailyGuardSettings)), default_factory=DailyGuardSettings)
    min_change: int = setting(values.integer(), default=10)
    min_entries: int = setting(values.integer(), default=1)
    max_rejected: float = setting(values.share, default=0.01)
    never_block: tuple[str, ...] = setting(sequence(reference), default=())
    shared_hosts: tuple[str, ...] = setting(sequence(reference), default=())
    allow_public_suffix: bool = setting(values.boolean, default=False)
    allow_ip: bool = setting(values.boolean, default=False)
