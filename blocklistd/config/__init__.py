"""The configuration file: its schema, and how it is read and checked.

The dataclasses are the schema: a field is a key, with its reader and its default. The class of a section is named
`…Settings`. Sections that other packages use as plain values keep the name of the value: ConnectionBounds,
SourceOptions, Bearer, Basic, ClientCert.

Order of calls: `check(path)` reads the file and reports every problem; `CheckedConfig.require()` returns the Config;
`load(path)` does both. Nothing else makes a Config from a file. A Config never changes; a reload reads a new one.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from blocklistd.config import alarms, checks, files, names, public_folder, serving, test_entries, values
from blocklistd.config.alarms import AlarmSettings
from blocklistd.config.document import INVALID, ConfigDocument, ConfigNode, InvalidValue, NamedFile, Reader, compose
from blocklistd.config.guards import GuardSettings, exceptions_file
from blocklistd.config.net import Address, Network, postgresql_url
from blocklistd.config.public_folder import PublicDirSettings
from blocklistd.config.reader import (
    choice,
    config_section,
    derived,
    mapping,
    one_of,
    optional,
    section,
    sequence,
    setting,
)
from blocklistd.config.secrets import Secret, credential, secret
from blocklistd.config.serving import (
    ConnectionBounds,
    DnsSettings,
    DnsTlsSettings,
    FeedSettings,
    FeedTlsSettings,
    OpsSettings,
)
from blocklistd.config.sources import (
    Auth,
    Basic,
    Bearer,
    ClientCert,
    EvidenceSettings,
    SourceOptions,
    SourceSettings,
    Tsig,
    VerifySettings,
    entry_type,
)
from blocklistd.config.values import RateLimit, Schedule, duration, integer, text
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
    "DnsTlsSettings",
    "EvidenceSettings",
    "FeedTlsSettings",
    "ListSettings",
    "Network",
    "PublicDirSettings",
    "RateLimit",
    "Schedule",
    "Secret",
    "SourceOptions",
    "SourceSettings",
    "Tsig",
    "VerifySettings",
    "ZoneSettings",
    "check",
    "control_socket",
    "load",
    "status_socket_of",
]


class Role(enum.StrEnum):
    """A role of an operator. A reviewer decides on candidates, an editor pulls sources and manages subscribers, an
    examiner sees entries and rejects."""

    REVIEWER = "reviewer"
    EDITOR = "editor"
    EXAMINER = "examiner"
    ADMIN = "admin"


@config_section
class ControlSettings:
    """The control socket, and the operators who may use it.

    `group` may open the socket; None is the group `blocklistd`, if it exists and the daemon's user is a member.
    `operators` are the roles of each user, by user name.
    """

    socket: Path = setting(values.socket_path, default=Path("/run/blocklistd/control.sock"))
    group: str | None = setting(values.group, default=None)
    operators: Mapping[str, tuple[Role, ...]] = setting(
        mapping(values.user, sequence(choice(*Role), minimum=1)), default_factory=lambda: {"root": (Role.ADMIN,)}
    )


def _signer(node: ConfigNode) -> Path | Secret | str:
    if node.yaml_node is not None and node.yaml_node.id == "scalar":
        if ":" not in node.text():
            raise InvalidValue(found="something else")  # the text is not shown: it may be the key itself
        if re.search("[?&]pin", node.text(), re.IGNORECASE):
            raise InvalidValue(found="a URI with a PIN in it: remove it there, and name it in keys.pin")
        return node.text()
    return _signer_file.convert(node)


def _online_key(node: ConfigNode) -> Path:
    made = values.path.convert(node)
    # Not `node.add_file`, which reports a missing file: `keys init` makes this one later.
    node.document.files.append(NamedFile(node.key, node.line, made, private=True))
    return made


_signer_file: Final[Reader[Path | Secret]] = one_of(
    {"file": Reader(values.path.expected, _online_key), "credential": credential}
)
signer: Final = Reader("{file: PATH}, {credential: NAME} or a signer URI", _signer)


@config_section
class KeySettings:
    """The online key (a file that `keys init` makes, that file as systemd hands it over, or a securesystemslib signer
    URI) and how long roles live. `next`: the key that `keys rotate online` puts in its place; None: a file beside it.
    `pin`: of the HSM that a signer URI names."""

    online: Path | Secret | str = setting(signer, default=Path("keys/online.pem"))
    next: Path | Secret | str | None = setting(optional(signer), default=None)
    pin: Secret | None = setting(optional(secret), default=None)
    root_expires: timedelta = setting(duration, default=timedelta(days=365))
    timestamp_expires: timedelta = setting(duration, default=timedelta(days=1))


@config_section
class LifetimeSettings:
    """How long entries live. `reverify`: they are due so long after their source has confirmed them; `max_life`: so
    long after it first asserted them; None: off. `at_end`: `review` lists what is due, `expire` ends it.
    """

    reverify: timedelta | None = setting(values.duration_or_off, default=None)
    max_life: timedelta | None = setting(values.duration_or_off, default=None)
    at_end: str = setting(choice("review", "expire"), default="review")


@config_section
class ListSettings:
    """A list that subscribers get.

    `sources` are in order of precedence, `quorum` of them must assert an entry. `release` is `auto`, `review` (a person
    approves each version) or `two-person` (two persons do). `expires` is the lifetime of the list's TUF metadata,
    `retention` the time for which old versions are kept. `test_entries` are hosts.
    """

    id: ListId = derived(lambda node: ListId(node.name))
    sources: tuple[SourceId, ...] = setting(sequence(values.identifier(SourceId), minimum=1))
    quorum: int = setting(integer(1), default=1)
    types: tuple[str, ...] = setting(sequence(entry_type, minimum=1), default=("url", "host", "domain"))
    release: str = setting(choice("auto", "review", "two-person"), default="auto")
    expires: timedelta = setting(duration, default=timedelta(days=14))
    retention: timedelta = setting(duration, default=timedelta(days=90))
    test_entries: tuple[str, ...] = setting(test_entries.test_entries, default=())
    lifetime: LifetimeSettings = setting(section(LifetimeSettings, checks.lifetime), default_factory=LifetimeSettings)
    guards: GuardSettings = setting(section(GuardSettings), default_factory=GuardSettings)
    exceptions: Path | None = setting(optional(exceptions_file), default=None)


@config_section
class SoaSettings:
    """A zone's SOA record (RFC 1035 section 3.3.13). Its MINIMUM field is the zone's TTL."""

    mname: str = setting(names.name, default="localhost")
    rname: str = setting(names.name, default="hostmaster.invalid")
    refresh: timedelta = setting(duration, default=timedelta(seconds=60))
    retry: timedelta = setting(duration, default=timedelta(seconds=30))
    expire: timedelta = setting(duration, default=timedelta(days=28))


@config_section
class ZoneSettings:
    """A Response Policy Zone of a list. With `shards`, its rules are spread over so many zones (rpz/shards.py).

    `action` is the CNAME target of every rule. `ttl` is in seconds. Empty `categories` select all entries of the list.
    """

    name: str = derived(lambda node: names.zone_name(node.name))
    list: ListId = setting(values.identifier(ListId))
    categories: tuple[str, ...] = setting(sequence(text), default=())
    action: str = setting(names.action, default=".")
    ttl: int = setting(integer(1), default=60)
    soa: SoaSettings = setting(section(SoaSettings), default_factory=SoaSettings)
    ns: tuple[str, ...] = setting(sequence(names.name, minimum=1), default=("localhost",))
    zonemd: bool = setting(values.boolean, default=False)
    shards: int = setting(names.shards, default=1)
    serial_start: int = setting(names.serial, default=1)

    @property
    def served(self) -> tuple[ZoneSettings, ...]:
        """The zones that are served: this one, or one with the name of each shard."""
        if self.shards == 1:
            return (self,)
        return tuple(replace(self, name=names.shard_name(self.name, shard)) for shard in range(self.shards))


@config_section
class Config:
    """The configuration: all sections of one file. `path` is the absolute path of the file."""

    path: Path = derived(lambda node: node.document.file.absolute())
    state_dir: Path = setting(values.path, default=Path("/var/lib/blocklistd"))
    database: str | None = setting(postgresql_url, default=None)
    language: str = setting(values.language, default="en")
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
    feed: FeedSettings = setting(section(FeedSettings, serving.check_feed), default_factory=FeedSettings)
    dns: DnsSettings | None = setting(optional(section(DnsSettings)), default=None)
    alarms: AlarmSettings = setting(section(AlarmSettings, alarms.check), default_factory=AlarmSettings)
    ops: OpsSettings = setting(section(OpsSettings), default_factory=OpsSettings)

    @property
    def status_socket(self) -> Path:
        """Path of the status socket, which every user of this host may open."""
        return status_socket_of(self.control.socket)

    @property
    def active_sources(self) -> dict[ListId, tuple[SourceId, ...]]:
        """The sources of each list that are configured and not in quarantine."""
        return {
            name: tuple(one for one in found.sources if one in self.sources and not self.sources[one].quarantine)
            for name, found in self.lists.items()
        }

    @property
    def served_zones(self) -> list[ZoneSettings]:
        """The zones that are served: each shard of a zone by its own name."""
        return [shard for zone in self.zones.values() for shard in zone.served]

    @property
    def serves_dns(self) -> DnsSettings | None:
        """The DNS settings; None if there is no zone to serve."""
        return (self.dns or DnsSettings()) if self.zones else None


_configuration: Final = section(Config, checks.configuration, public_folder.check)


@dataclass(frozen=True, slots=True)
class CheckedConfig:
    """A configuration without fatal errors.

    `problems` are errors with which the daemon can still start: most are about files that the configuration names. A
    start raises an alarm for each; `blocklistd check-config` and a reload reject the configuration. `warnings` never
    reject it. `contents` has the SHA-256 (hex) of each named file, `lines` the line number of each key; both by key.
    """

    config: Config
    problems: tuple[ConfigProblem, ...]
    warnings: tuple[ConfigProblem, ...]
    contents: Mapping[str, str]
    lines: Mapping[str, int]

    def require(self) -> Config:
        """Returns the configuration. Raises ConfigError with all `problems` if there are any."""
        if self.problems:
            raise ConfigError(list(self.problems))
        return self.config


def check(path: Path) -> CheckedConfig:
    """Reads and checks a configuration file.

    Raises ConfigError if the daemon can't start with it; the error has every problem, in the order of the lines.
    """
    document = ConfigDocument(path)
    config = _root(document).read(_configuration)
    if config is not INVALID:
        test_entries.check(document, config)
    if document.problems or config is INVALID:
        raise _config_error(document)
    lines = {key: node.line for key, node in document.nodes.items()}
    return CheckedConfig(
        config, _sorted(document.nonfatal), _sorted(document.warnings), files.checksums(document), lines
    )


def load(path: Path) -> Config:
    """Reads a configuration file. Raises ConfigError with every problem, the nonfatal ones included."""
    return check(path).require()


def control_socket(path: Path) -> Path:
    """Path of the control socket, even if the rest of the file has errors or names files that the caller can't read.

    A daemon keeps running after such an edit, so its operators must still reach it. Raises ConfigError if the file is
    no YAML or `control.socket` itself can't be read.
    """
    document = ConfigDocument(path, check_files=False)
    _root(document).read(_configuration)
    socket = document.sections.get("control", {}).get("socket")
    if not isinstance(socket, Path):
        raise _config_error(document)
    return socket


def status_socket_of(control: Path) -> Path:
    """Path of the status socket: beside the control socket, in the same folder."""
    return control.with_name(checks.STATUS_SOCKET)


def _root(document: ConfigDocument) -> ConfigNode:
    return ConfigNode(document, "", "", 1, compose(document))


def _config_error(document: ConfigDocument) -> ConfigError:
    return ConfigError(list(_sorted([*document.problems, *document.nonfatal])))


def _sorted(problems: list[ConfigProblem]) -> tuple[ConfigProblem, ...]:
    return tuple(sorted(problems, key=lambda problem: problem.line))
