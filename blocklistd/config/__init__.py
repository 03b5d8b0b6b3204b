"""The configuration: what the administrator writes, read whole and checked before anything of it is used.

The dataclasses are the schema. Their fields stand in the order of the contract, each with the reader of its key, and
`load` is the only way from a file to them. `only(...)` marks a key whose feature is not built yet.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

from blocklistd.config import checks, names, net, values
from blocklistd.config.net import Address
from blocklistd.config.page import BAD, Page, Reader, Spot, Wrong, compose
from blocklistd.config.reader import (
    choice,
    given,
    keyed,
    mapping,
    one_of,
    only,
    optional,
    section,
    sequence,
    setting,
    table,
)
from blocklistd.config.secrets import Secret, credential, secret
from blocklistd.config.values import Schedule, duration, integer, text
from blocklistd.errors import ConfigError
from blocklistd.limits import MIB
from blocklistd.model import UNBUILT_TYPES, ListId, SourceId
from blocklistd.sources.formats import FORMATS
from blocklistd.sources.proofs import PROOFS
from blocklistd.sources.transports import transport_of

__all__ = ["Address", "Config", "Schedule", "Secret", "control_socket", "load"]

TYPES: Final = ("url", "host", "domain", "md5", "sha1", "sha256")
"""The kinds of entries that are built."""
entry_type: Final = choice(*TYPES, unbuilt=UNBUILT_TYPES)


class Role(enum.StrEnum):
    """What an operator may do. reviewer: decide on candidates. editor: pull sources, manage subscribers. admin: all."""

    REVIEWER = "reviewer"
    EDITOR = "editor"
    ADMIN = "admin"


@keyed
class Control:
    """The control socket, and who may do what over it, by user name."""

    socket: Path = setting(values.socket_path, default=Path("/run/blocklistd/control.sock"))
    operators: Mapping[str, tuple[Role, ...]] = setting(
        mapping(values.user, sequence(choice(*Role), least=1)), default_factory=lambda: {"root": (Role.ADMIN,)}
    )


def _signer(spot: Spot) -> Path | Secret | str:
    if spot.node is not None and spot.node.id == "scalar":
        if ":" not in spot.text():
            raise Wrong(found="something else")  # not shown: it may be the key itself
        return spot.text()
    return _signer_file.convert(spot)


_signer_file: Final[Reader[Path | Secret]] = one_of({"file": values.path, "credential": credential})
signer: Final = Reader("{file: PATH}, {credential: NAME} or a signer URI", _signer)


@keyed
class Keys:
    """The online key (a file that `keys init` makes, that file as systemd hands it over, or a securesystemslib signer
    URI) and how long roles live."""

    online: Path | Secret | str = setting(signer, default=Path("keys/online.pem"))
    root_expires: timedelta = setting(duration, default=timedelta(days=365))
    timestamp_expires: timedelta = setting(duration, default=timedelta(days=1))


@keyed
class Bearer:
    """Authorization: Bearer (RFC 6750)."""

    token: Secret


@keyed
class Basic:
    """Authorization: Basic (RFC 7617)."""

    user: str = setting(values.text)
    password: Secret = setting(secret)


@keyed
class ClientCert:
    """A TLS client certificate and its key, in PEM."""

    cert: Path = setting(values.certificates)
    key: Secret = setting(secret)


Auth = Bearer | Basic | ClientCert
_bearer: Final[Reader[Auth]] = Reader(secret.expected, lambda spot: Bearer(token=secret.convert(spot)))
_basic: Final[Reader[Auth]] = section(Basic)
_client_cert: Final[Reader[Auth]] = section(ClientCert)
_auth: Final = one_of({"bearer": _bearer, "basic": _basic, "client_cert": _client_cert})


@keyed
class Verify:
    """How a body proves its origin. Some methods have a `key`; `{url}` in `signature` is the body's."""

    method: str = setting(choice(*PROOFS, unbuilt=("openpgp", "tuf")))
    key: Path | None = setting(optional(values.file), default=None)
    signature: str = setting(values.text, default="{url}.minisig")


_FIELDS: Final = ("value", "type", "ref", "category", "verified_at", "verifiers", "expires")
_verifiers: Final = Reader(values.integer(1).expected, lambda spot: str(values.integer(1).convert(spot)))
_DEFAULTS: Final = {
    "type": entry_type,
    "ref": values.text,
    "category": values.text,
    "verified_at": values.moment,
    "verifiers": _verifiers,
    "expires": values.moment,
}


@keyed
class Source:
    """A hotline's list: where it is, what it looks like, how it proves its origin. Sizes are in bytes."""

    id: SourceId = given(lambda spot: SourceId(spot.name))
    folder: Path = given(lambda spot: spot.page.folder)
    url: str = setting(net.url)
    format: str = setting(choice(*FORMATS, unbuilt=("json", "xml-pages", "rpz")))
    fields: Mapping[str, str] = setting(table(dict.fromkeys(_FIELDS, values.text)), default_factory=dict)
    defaults: Mapping[str, str] = setting(table(_DEFAULTS), default_factory=dict)
    schedule: Schedule = setting(values.schedule, default=Schedule(every=timedelta(minutes=30)))
    timeout: timedelta = setting(duration, default=timedelta(seconds=60))
    max_bytes: int = setting(values.size, default=512 * MIB)
    auth: Auth | None = setting(optional(_auth), default=None)
    ca: Path | None = setting(optional(values.certificates), default=None)
    verify: Verify = setting(section(Verify, checks.verify))
    max_age: timedelta = setting(duration, default=timedelta(days=2))
    quarantine: bool = setting(values.boolean, default=False)

    @property
    def location(self) -> str:
        """Its URL, absolute."""
        return transport_of(self.url).absolute(self.url, self.folder)

    @property
    def signature(self) -> str | None:
        """Where the signature is, or a template for it: of a drop folder it is known once a file was taken from it.
        None where the body has none."""
        written = self.verify.signature
        if not PROOFS[self.verify.method].needs_signature:
            return None
        return written if "{url}" in written else transport_of(written).absolute(written, self.folder)


@keyed
class Guards:
    """What holds a candidate for review; shares are fractions of the live entries (0.2 is 20 %)."""

    max_added: float = setting(values.share, default=0.2)
    max_removed: float = setting(values.share, default=0.1)
    daily: None = setting(only("off", None), default=None)
    min_change: int = setting(values.integer(), default=10)
    min_entries: int = setting(values.integer(), default=1)
    max_rejected: float = setting(values.share, default=0.01)
    never_block: tuple[Path, ...] = setting(only([], ()), default=())
    shared_hosts: tuple[Path, ...] = setting(only([], ()), default=())
    allow_public_suffix: bool = setting(values.boolean, default=False)
    allow_ip: bool = setting(values.boolean, default=False)


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
class Notify:
    """How secondaries are told: the first pause, doubled each time, and when a target is left to its refresh."""

    retry: timedelta = setting(duration, default=timedelta(seconds=5))
    give_up: timedelta = setting(duration, default=timedelta(minutes=10))


@keyed
class Dns:
    """Where secondaries ask, over UDP and TCP."""

    listen: tuple[Address, ...] = setting(sequence(net.address, least=1), default=(Address("::", 53),))
    tls: None = setting(only(None, None), default=None)
    catalog: None = setting(only(None, None), default=None)
    notify: Notify = setting(section(Notify), default_factory=Notify)


@keyed
class FeedTls:
    """The feed's certificate chain and its key, in PEM."""

    cert: Path = setting(values.certificates)
    key: Secret = setting(secret)
    client_ca: None = setting(only(None, None), default=None)


@keyed
class Feed:
    """The HTTPS feed for subscribers; without TLS only on loopback."""

    listen: tuple[Address, ...] = setting(sequence(net.address, least=1), default=(Address("::", 8443),))
    tls: FeedTls | None = setting(optional(section(FeedTls)), default=None)
    public_url: str | None = setting(optional(net.public_url), default=None)
    public_dir: None = setting(only("off", None), default=None)
    rate_limit: None = setting(only("off", None), default=None)

    @property
    def url(self) -> str:
        """Where subscribers find it, as far as this is known."""
        first = self.listen[0]
        where = f"FEED:{first.port}" if first.host in ("::", "0.0.0.0") else str(first)
        return self.public_url or f"{'https' if self.tls else 'http'}://{where}"


@keyed
class Log:
    """`auto` is the journal under systemd, coloured text on a terminal, else JSON lines."""

    level: str = setting(choice("debug", "info", "warning", "error"), default="info")
    format: str = setting(choice("auto", "journal", "text", "json"), default="auto")


@keyed
class Ops:
    """Metrics, health, dashboard and log: what the operators of the host see."""

    listen: tuple[Address, ...] = setting(sequence(net.address, least=1), default=(Address("127.0.0.1", 9153),))
    log: Log = setting(section(Log), default_factory=Log)


@keyed
class Config:
    """A whole configuration; `path` is that of its file, absolute."""

    path: Path = given(lambda spot: spot.page.file.absolute())
    state_dir: Path = setting(values.path, default=Path("/var/lib/blocklistd"))
    database: str = setting(only("sqlite", "sqlite"), default="sqlite")
    language: str = setting(only("en", "en"), default="en")
    control: Control = setting(section(Control), default_factory=Control)
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
    def serves_dns(self) -> Dns | None:
        """The DNS side, where there is anything for it to serve."""
        return (self.dns or Dns()) if self.zones else None


_whole: Final = section(Config, checks.document)


def load(path: Path) -> Config:
    """Reads and checks a configuration file. Raises ConfigError with everything that is wrong in it, by line."""
    page = Page(path)
    config = _document(page).read(_whole)
    if page.problems or config is BAD:
        raise _wrong(page)
    return config


def control_socket(path: Path) -> Path:
    """Where the daemon of this configuration answers, whatever else is wrong in the file or closed to who asks.

    The daemon goes on with what it read before. Raises ConfigError.
    """
    page = Page(path)
    _document(page).read(_whole)
    socket = page.parts.get("control", {}).get("socket")
    if not isinstance(socket, Path):
        raise _wrong(page)
    return socket


def _document(page: Page) -> Spot:
    return Spot(page, "", "", 1, compose(page))


def _wrong(page: Page) -> ConfigError:
    return ConfigError(sorted(page.problems, key=lambda problem: problem.line))
