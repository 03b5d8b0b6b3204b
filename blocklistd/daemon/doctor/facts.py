"""The facts that `blocklistd doctor` judges: values without behaviour. None contains anything of an entry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from blocklistd.config import Config
from blocklistd.errors import ConfigProblem
from blocklistd.model import ListId, SourceId
from blocklistd.store.evidence import Usage

Document = Mapping[str, Any]
Alarms = Mapping[tuple[str, str], str]
"""The text of each alarm, by kind and subject (telemetry.ALARMS)."""


@dataclass(frozen=True, slots=True)
class FileSystem:
    """A file system. `used_for`: the keys of the configuration whose files are on it. Sizes are bytes that the daemon's
    user can use; `inodes` is 0 on a file system that does not count them."""

    path: Path
    used_for: tuple[str, ...]
    total: int
    free: int
    inodes: int
    free_inodes: int


@dataclass(frozen=True, slots=True)
class CertificateFile:
    """The certificate of a listener. `names`: its DNS names and addresses. `ordered`: whether each certificate of the
    file is signed by the next one."""

    key: str
    path: Path
    names: tuple[str, ...]
    ordered: bool


@dataclass(frozen=True, slots=True)
class GuardFile:
    """A file of names of a guard. `changed`: its modification time."""

    list: ListId
    guard: str
    path: Path
    changed: datetime


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What the machine says. `synchronised`: whether the kernel's clock is; None: unknown. `unit`: properties of
    blocklistd.service; None where systemd does not run or does not know it. `inaccessible`: files in the state_dir that
    the daemon can't use; `open_to_others`: those that other users can read."""

    disks: tuple[FileSystem, ...] = ()
    synchronised: bool | None = None
    unit: Mapping[str, str] | None = None
    inaccessible: tuple[str, ...] = ()
    open_to_others: tuple[Path, ...] = ()
    certificates: tuple[CertificateFile, ...] = ()
    guard_files: tuple[GuardFile, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredFacts:
    """What the state_dir says. `revision`: of the schema. Everything else is empty if that is not the one of this
    program. `alarms`: those that a daemon would raise for this state. `audit`: why the audit is not complete."""

    revision: str | None
    alarms: Alarms = field(default_factory=dict)
    sources: Mapping[SourceId, Document] = field(default_factory=dict)
    held: Mapping[ListId, int] = field(default_factory=dict)
    audit: str | None = None
    oldest_receipt: datetime | None = None
    evidence: Mapping[SourceId, Usage] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that is known. `version`: of this program. `problems`, `warnings`: of the configuration file.
    `config`: None if the file can't be used. `daemon`: the answer of the running daemon; None if it does not answer,
    then `unreachable` says why. `host` and `stored` are None if this user can't look; `skipped` says why."""

    now: datetime
    version: str
    config: Config | None = None
    problems: tuple[ConfigProblem, ...] = ()
    warnings: tuple[ConfigProblem, ...] = ()
    daemon: Document | None = None
    unreachable: str = ""
    host: HostFacts | None = None
    stored: StoredFacts | None = None
    skipped: tuple[str, ...] = ()

    @property
    def alarms(self) -> Alarms:
        """The alarms that the running daemon has raised; without one, those that it would raise for this state."""
        if self.daemon is not None:
            return {(one["kind"], one["subject"]): one["text"] for one in self.daemon["alarms"]}
        return self.stored.alarms if self.stored is not None else {}

    @property
    def sources(self) -> Mapping[SourceId, Document]:
        """The state of each source, as in the document of `status`."""
        if self.daemon is not None:
            return self.daemon["status"]["sources"]  # type: ignore[no-any-return]
        return self.stored.sources if self.stored is not None else {}
