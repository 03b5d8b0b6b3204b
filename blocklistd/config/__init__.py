"""The configuration: what the administrator writes, read whole and checked before anything of it is used.

The dataclasses are the schema. Their fields stand in the order of the contract, each with the reader of its key, and
`load` is the only way from a file to them. `only(...)` marks a key whose feature is not built yet.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from blocklistd.config import checks, files, names, values
from blocklistd.config.document import INVALID, ConfigDocument, ConfigNode, InvalidValue, NamedFile, Reader, compose
from blocklistd.config.guards import GuardSettings
from blocklistd.config.net import Address, Network
from blocklistd.config.reader import (
    choice,
    config_section,
    derived,
    mapping,
    not_built,
    one_of,
    optional,
    section,
    sequence,
    setting,
)
from blocklistd.config.secrets import Secret, credential
from blocklistd.config.serving import ConnectionBounds, DnsSettings, FeedSettings, FeedTlsSettings, OpsSettings
from blocklistd.config.sources import (
    Auth,
    Basic,
    Bearer,
    ClientCert,
    EvidenceSettings,
    SourceOptions,
    SourceSettings,
    VerifySettings,
    entry_type,
)
from blocklistd.config.values import Schedule, duration, integer, text
from blocklistd.errors import ConfigError, ConfigProblem
from blocklistd.model import ListId, SourceId

__all__ = [
    "Address",
    "Auth",
    "Basic",
    "Bearer",
    "CheckedConfig",
    "ClientCert",
    "Config",
    "ConnectionBounds",
    "DnsSettings",
    "EvidenceSettings",
    "FeedTlsSettings",
    "ListSettings",
    "Network",
    "Schedule",
    "Secret",
    "SourceOptions",
    "SourceSettings",
    "VerifySettings",
    "ZoneSettings",
    "check",
    "control_socket",
    "load",
    "status_socket_of",
]


class Role(enum.StrEnum):
    """What an operator may do. reviewer: decide on candidates. editor: pull sources, manage subscribers. admin: all."""

    REVIEWER = "reviewer"
    EDITOR = "editor"
    ADMIN = "admin"


@config_section
class ControlSettings:
    """The operators' socket, the group that may open it (None: `blocklistd`, if it exists and the daemon's user is in
    it), and the roles of users, by user name."""

    socket: Path = setting(values.socket_path, default=Path("/run/blocklistd/control.sock"))
    group: str | None = setting(values.group, default=None)
    operators: Mapping[str, tuple[Role, ...]] = setting(
        mapping(values.user, sequence(choice(*Role), minimum=1)), default_factory=lambda: {"root": (Role.ADMIN,)}
    )


def _signer(node: ConfigNode) -> Path | Secret | str:
    if node.yaml_node is not None and node.yaml_node.id == "scalar":
        if ":" not in node.text():
            raise InvalidValue(found="something else")  # not shown: it may be the key itself
        return node.text()
    return _signer_file.convert(node)


def _online_key(node: ConfigNode) -> Path:
    made = values.path.convert(node)
    node.document.files.append(
        NamedFile(node.key, node.line, made, private=True)
    )  # it may not exist yet: `keys init` makes it
    return made


_signer_file: Final[Reader[Path | Secret]] = one_of(
    {"file": Reader(values.path.expected, _online_key), "credential": credential}
)
signer: Final = Reader("{file: PATH}, {credential: NAME} or a signer URI", _signer)


@config_section
class KeySettings:
    """The online key (a file that `keys init` makes, that file as systemd hands it over, or a securesystemslib signer
    URI) and how long roles live."""

    online: Path | Secret | str = setting(signer, default=Path("keys/online.pem"))
    root_expires: timedelta = setting(duration, default=timedelta(days=365))
    timestamp_expires: timedelta = setting(duration, default=timedelta(days=1))


@config_section
class ListSettings:
    """A list that subscribers get: its sources in order of precedence, and what stands before a release."""

    id: ListId = derived(lambda node: ListId(node.name))
    sources: tuple[SourceId, ...] = setting(sequence(values.identifier(SourceId), minimum=1))
    quorum: int = setting(not_built("1", 1), default=1)
    types: tuple[str, ...] = setting(sequence(entry_type, minimum=1), default=("url", "host", "domain"))
    release: str = setting(choice("auto", "review", unbuilt=("two-person",)), default="auto")
    expires: timedelta = setting(duration, default=timedelta(days=14))
    retention: timedelta = setting(duration, default=timedelta(days=90))
    guards: GuardSettings = setting(section(GuardSettings), default_factory=GuardSettings)


@config_section
class SoaSettings:
    """A zone's SOA record (RFC 1035 3.3.13); its minimum is the zone's TTL."""

    mname: str = setting(names.name, default="localhost")
    rname: str = setting(names.name, default="hostmaster.invalid")
    refresh: timedelta = setting(duration, default=timedelta(seconds=60))
    retry: timedelta = setting(duration, default=timedelta(seconds=30))
    expire: timedelta = setting(duration, default=timedelta(days=28))


@config_section
class ZoneSettings:
    """A Response Policy Zone of a list. `action` is the name that every rule's CNAME points to."""

    name: str = derived(lambda node: names.zone_name(node.name))
    list: ListId = setting(values.identifier(ListId))
    categories: tuple[str, ...] = setting(sequence(text), default=())
    action: str = setting(names.action, default=".")
    ttl: int = setting(integer(1), default=60)
    soa: SoaSettings = setting(section(SoaSettings), default_factory=SoaSettings)
    ns: tuple[str, ...] = setting(sequence(names.name, minimum=1), default=("localhost",))
    zonemd: bool = setting(not_built("false", False), default=False)
    shards: int = setting(not_built("1", 1), default=1)
    serial_start: int = setting(names.serial, default=1)


@config_section
class Config:
    """A whole configuration; `path` is that of its file, absolute."""

    path: Path = derived(lambda node: node.document.file.absolute())
    state_dir: Path = setting(values.path, default=Path("/var/lib/blocklistd"))
    database: str = setting(not_built("sqlite", "sqlite"), default="sqlite")
    language: str = setting(not_built("en", "en"), default="en")
    high_water: Path | None = setting(optional(values.path), default=None)
    control: ControlSettings = setting(section(ControlSettings, checks.control), default_factory=ControlSettings)
    keys: KeySettings = setting(section(KeySettings), default_factory=KeySettings)
    sources: Mapping[SourceId, SourceSettings] = setting(
        mapping(values.identifier(SourceId), section(SourceSettings, checks.source)), default_factory=dict
    )
    lists: Mapping[ListId, ListSettings] = setting(
        mapping(values.identifier(ListId), section(ListSettings, checks.block_list)), default_factory=dict
    )
    zones: Mapping[str, ZoneSettings] = setting(
        mapping(names.zone, section(ZoneSettings, checks.zone)), default_factory=dict
    )
    feed: FeedSettings = setting(section(FeedSettings, checks.feed), default_factory=FeedSettings)
    dns: DnsSettings | None = setting(optional(section(DnsSettings)), default=None)
    ops: OpsSettings = setting(section(OpsSettings), default_factory=OpsSettings)

    @property
    def status_socket(self) -> Path:
        """The socket on which everybody on the host may ask for the status."""
        return status_socket_of(self.control.socket)

    @property
    def taken(self) -> dict[ListId, tuple[SourceId, ...]]:
        """The sources that each list takes: its `sources` without those in quarantine."""
        return {
            name: tuple(one for one in found.sources if one in self.sources and not self.sources[one].quarantine)
            for name, found in self.lists.items()
        }

    @property
    def serves_dns(self) -> DnsSettings | None:
        """The DNS side, where there is anything for it to serve."""
        return (self.dns or DnsSettings()) if self.zones else None


_configuration: Final = section(Config, checks.configuration)


@dataclass(frozen=True, slots=True)
class CheckedConfig:
    """A configuration that was read. For `problems`, mostly of the files that it names, a check and a reload refuse it;
    a start raises alarms and serves what it can. `warnings` refuse nothing. By key: `contents` has the SHA-256 of each
    named file, `lines` the line of each key."""

    config: Config
    problems: tuple[ConfigProblem, ...]
    warnings: tuple[ConfigProblem, ...]
    contents: Mapping[str, str]
    lines: Mapping[str, int]

    def require(self) -> Config:
        """The configuration. Raises ConfigError where there is any problem."""
        if self.problems:
            raise ConfigError(list(self.problems))
        return self.config


def check(path: Path) -> CheckedConfig:
    """Reads and checks a configuration file. Raises ConfigError with every error, by line, unless all of them are such
    as a start tolerates."""
    document = ConfigDocument(path)
    config = _root(document).read(_configuration)
    if document.problems or config is INVALID:
        raise _config_error(document)
    lines = {key: node.line for key, node in document.nodes.items()}
    return CheckedConfig(
        config, _sorted(document.nonfatal), _sorted(document.warnings), files.contents(document), lines
    )


def load(path: Path) -> Config:
    """Reads a configuration file. Raises ConfigError with every error, those included that a start tolerates."""
    return check(path).require()


def control_socket(path: Path) -> Path:
    """Where the daemon of this configuration answers, whatever else is wrong in the file or closed to who asks.

    The daemon goes on with what it read before. Raises ConfigError.
    """
    document = ConfigDocument(path, check_files=False)
    _root(document).read(_configuration)
    socket = document.sections.get("control", {}).get("socket")
    if not isinstance(socket, Path):
        raise _config_error(document)
    return socket


def status_socket_of(control: Path) -> Path:
    """The path of everybody's status socket: in the folder of the control socket."""
    return control.with_name(checks.STATUS_SOCKET)


def _root(document: ConfigDocument) -> ConfigNode:
    return ConfigNode(document, "", "", 1, compose(document))


def _config_error(document: ConfigDocument) -> ConfigError:
    return ConfigError(list(_sorted([*document.problems, *document.nonfatal])))


def _sorted(problems: list[ConfigProblem]) -> tuple[ConfigProblem, ...]:
    return tuple(sorted(problems, key=lambda problem: problem.line))
