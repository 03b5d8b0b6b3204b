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
from blocklistd.config.guards import Guards
from blocklistd.config.net import Address, Network
from blocklistd.config.page import BAD, NamedFile, Page, Reader, Spot, Wrong, compose
from blocklistd.config.reader import choice, given, keyed, mapping, one_of, only, optional, section, sequence, setting
from blocklistd.config.secrets import Secret, credential
from blocklistd.config.serving import ConnectionBounds, Dns, Feed, FeedTls, Ops
from blocklistd.config.sources import (
    Auth,
    Basic,
    Bearer,
    ClientCert,
    Evidence,
    Source,
    SourceOptions,
    Verify,
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
    "Checked",
    "ClientCert",
    "Config",
    "ConnectionBounds",
    "Dns",
    "Evidence",
    "FeedTls",
    "Network",
    "Schedule",
    "Secret",
    "Source",
    "SourceOptions",
    "Verify",
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


@keyed
class Control:
    """The operators' socket, the group that may open it (None: `blocklistd`, if it exists and the daemon's user is in
    it), and the roles of users, by user name."""

    socket: Path = setting(values.socket_path, default=Path("/run/blocklistd/control.sock"))
    group: str | None = setting(values.group, default=None)
    operators: Mapping[str, tuple[Role, ...]] = setting(
        mapping(values.user, sequence(choice(*Role), least=1)), default_factory=lambda: {"root": (Role.ADMIN,)}
    )


def _signer(spot: Spot) -> Path | Secret | str:
    if spot.node is not None and spot.node.id == "scalar":
        if ":" not in spot.text():
            raise Wrong(found="something else")  # not shown: it may be the key itself
        return spot.text()
    return _signer_file.convert(spot)


def _online_key(spot: Spot) -> Path:
    made = values.path.convert(spot)
    spot.page.files.append(
        NamedFile(spot.key, spot.line, made, private=True)
    )  # it may not exist yet: `keys init` makes it
    return made


_signer_file: Final[Reader[Path | Secret]] = one_of(
    {"file": Reader(values.path.expected, _online_key), "credential": credential}
)
signer: Final = Reader("{file: PATH}, {credential: NAME} or a signer URI", _signer)


@keyed
class Keys:
    """The online key (a file that `keys init` makes, that file as systemd hands it over, or a securesystemslib signer
    URI) and how long roles live."""

    online: Path | Secret | str = setting(signer, default=Path("keys/online.pem"))
    root_expires: timedelta = setting(duration, default=timedelta(days=365))
    timestamp_expires: timedelta = setting(duration, default=timedelta(days=1))


@keyed
class BlockList:
    """A list that subscribers get: its sources in order of precedence, and what stands before a release."""

    id: ListId = given(lambda spot: ListId(spot.name))
    sources: tuple[SourceId, ...] = setting(sequence(values.identifier(SourceId), least=1))
    quorum: int = setting(only("1", 1), default=1)
    types: tuple[str, ...] = setting(sequence(entry_type, least=1), default=("url", "host", "domain"))
    release: str = setting(choice("auto", "review", unbuilt=("two-person",)), default="auto")
    expires: timedelta = setting(duration, default=timedelta(days=14))
    retention: timedelta = setting(duration, default=timedelta(days=90))
    guards: Guards = setting(section(Guards), default_factory=Guards)


@keyed
class Soa:
    """A zone's SOA record (RFC 1035 3.3.13); its minimum is the zone's TTL."""

    mname: str = setting(names.name, default="localhost")
    rname: str = setting(names.name, default="hostmaster.invalid")
    refresh: timedelta = setting(duration, default=timedelta(seconds=60))
    retry: timedelta = setting(duration, default=timedelta(seconds=30))
    expire: timedelta = setting(duration, default=timedelta(days=28))


@keyed
class Zone:
    """A Response Policy Zone of a list. `action` is the name that every rule's CNAME points to."""

    name: str = given(lambda spot: names.zone_name(spot.name))
    list: ListId = setting(values.identifier(ListId))
    categories: tuple[str, ...] = setting(sequence(text), default=())
    action: str = setting(names.action, default=".")
    ttl: int = setting(integer(1), default=60)
    soa: Soa = setting(section(Soa), default_factory=Soa)
    ns: tuple[str, ...] = setting(sequence(names.name, least=1), default=("localhost",))
    zonemd: bool = setting(only("false", False), default=False)
    shards: int = setting(only("1", 1), default=1)
    serial_start: int = setting(names.serial, default=1)


@keyed
class Config:
    """A whole configuration; `path` is that of its file, absolute."""

    path: Path = given(lambda spot: spot.page.file.absolute())
    state_dir: Path = setting(values.path, default=Path("/var/lib/blocklistd"))
    database: str = setting(only("sqlite", "sqlite"), default="sqlite")
    language: str = setting(only("en", "en"), default="en")
    high_water: Path | None = setting(optional(values.path), default=None)
    control: Control = setting(section(Control, checks.control), default_factory=Control)
    keys: Keys = setting(section(Keys), default_factory=Keys)
    sources: Mapping[SourceId, Source] = setting(
        mapping(values.identifier(SourceId), section(Source, checks.source)), default_factory=dict
    )
    lists: Mapping[ListId, BlockList] = setting(
        mapping(values.identifier(ListId), section(BlockList, checks.block_list)), default_factory=dict
    )
    zones: Mapping[str, Zone] = setting(mapping(names.zone, section(Zone, checks.zone)), default_factory=dict)
    feed: Feed = setting(section(Feed, checks.feed), default_factory=Feed)
    dns: Dns | None = setting(optional(section(Dns)), default=None)
    ops: Ops = setting(section(Ops), default_factory=Ops)

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
    def serves_dns(self) -> Dns | None:
        """The DNS side, where there is anything for it to serve."""
        return (self.dns or Dns()) if self.zones else None


_whole: Final = section(Config, checks.document)


@dataclass(frozen=True, slots=True)
class Checked:
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


def check(path: Path) -> Checked:
    """Reads and checks a configuration file. Raises ConfigError with every error, by line, unless all of them are such
    as a start tolerates."""
    page = Page(path)
    config = _document(page).read(_whole)
    if page.problems or config is BAD:
        raise _wrong(page)
    lines = {key: spot.line for key, spot in page.spots.items()}
    return Checked(config, _sorted(page.tolerable), _sorted(page.warnings), files.contents(page), lines)


def load(path: Path) -> Config:
    """Reads a configuration file. Raises ConfigError with every error, those included that a start tolerates."""
    return check(path).require()


def control_socket(path: Path) -> Path:
    """Where the daemon of this configuration answers, whatever else is wrong in the file or closed to who asks.

    The daemon goes on with what it read before. Raises ConfigError.
    """
    page = Page(path, looks=False)
    _document(page).read(_whole)
    socket = page.parts.get("control", {}).get("socket")
    if not isinstance(socket, Path):
        raise _wrong(page)
    return socket


def status_socket_of(control: Path) -> Path:
    """The path of everybody's status socket: in the folder of the control socket."""
    return control.with_name(checks.STATUS_SOCKET)


def _document(page: Page) -> Spot:
    return Spot(page, "", "", 1, compose(page))


def _wrong(page: Page) -> ConfigError:
    return ConfigError(list(_sorted([*page.problems, *page.tolerable])))


def _sorted(problems: list[ConfigProblem]) -> tuple[ConfigProblem, ...]:
    return tuple(sorted(problems, key=lambda problem: problem.line))
