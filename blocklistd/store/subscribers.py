"""Subscribers: their tokens and TSIG keys, and the lists and zones that each may have.

In the database: a row of `subscribers`, and rows of the tables `tsig_keys` and `subscriber_…`. A token is shown once;
only its SHA-256 is kept. States: `add` registers a subscriber, `revoke` revokes it for good. `add` with the id of a
revoked one removes that one first.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, Table, delete, select, update

from blocklistd.errors import SubscriberError
from blocklistd.kinds import InvalidEntry
from blocklistd.kinds.hash import DIGITS
from blocklistd.kinds.name import name as canonical_name
from blocklistd.model import ListId, SubscriberId
from blocklistd.sources.reject_words import words_of
from blocklistd.store.credentials import (
    TOKEN_BYTES,
    OldToken,
    TsigKey,
    add_certificate,
    add_key,
    digest,
    load_old_tokens,
)
from blocklistd.store.schema_served import (
    nodes,
    old_tokens,
    receipts,
    subscriber_addresses,
    subscriber_certificates,
    subscriber_lists,
    subscriber_names,
    subscriber_notify,
    subscriber_zones,
    subscribers,
    tsig_keys,
)

LONGEST_ID: Final = 54  # characters: with its suffix of 9, a key's name is a label of 63 octets (RFC 1035, 2.3.4)
ID: Final = re.compile(rf"[a-z0-9][a-z0-9-]{{0,{LONGEST_ID - 1}}}")
HEX: Final = re.compile(r"[0-9a-f]+")
CERTIFICATE: Final = re.compile(r"sha256:([0-9A-Fa-f]{64})")
WIDE: Final = {4: 24, 6: 48}  # bits: by version of IP, a prefix that is shorter counts as wide
ALGORITHMS: Final = ("hmac-sha256", "hmac-sha512")


@dataclass(frozen=True, slots=True)
class Registration:
    """A request to register a subscriber. `notify`: ADDRESS:PORT of each secondary that gets NOTIFY. `addresses`:
    prefixes that may transfer without TSIG. `wide`: these prefixes may be shorter than WIDE. `own_names`: names of its
    own services, which no list may block. `certificates`: public keys of its client certificates, as `sha256:HEX`.
    `software`: of its name servers, as NAME or NAME:VERSION. `objective`: in which each version is to be live at each
    of its nodes."""

    id: str
    lists: tuple[str, ...] = ()
    zones: tuple[str, ...] = ()
    notify: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    algorithm: str = "hmac-sha256"
    wide: bool = False
    own_names: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()
    software: str | None = None
    objective: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Subscriber:
    """A subscriber (an ISP), the lists and zones that it may have, and its resolvers' keys, addresses and certificates.

    `keys`: the newest one is last; the others expire, as do `old_tokens`. `certificates`: SHA-256 (hex) of their public
    keys. `objective`: in which each version is to be live at each node; None: no node is late.
    """

    id: SubscriberId
    lists: frozenset[ListId]
    zones: frozenset[str]
    keys: tuple[TsigKey, ...]
    notify: tuple[str, ...]
    addresses: tuple[str, ...]
    created: datetime
    created_by: str
    revoked: datetime | None
    own_names: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()
    software: str | None = None
    old_tokens: tuple[OldToken, ...] = ()
    objective: timedelta | None = None

    @property
    def sends_no_alpn(self) -> bool:
        """Whether its name servers may use TLS without ALPN: Unbound never sends it. A subscriber by address without a
        registered software got the configuration of Unbound."""
        return self.software.partition(":")[0] == "unbound" if self.software else bool(self.addresses)


def add(
    connection: Connection,
    registration: Registration,
    *,
    lists: Collection[str],
    zones: Collection[str],
    now: datetime,
    created_by: str,
) -> tuple[str, TsigKey]:
    """Registers a subscriber; returns its token, which is not kept, and its TSIG key.

    `lists`, `zones`: those in the configuration. The id of a revoked subscriber can be given again: its rows and keys
    are removed; the audit keeps its history. Raises SubscriberError if the request can't be used.
    """
    _check(registration, lists, zones)
    before = connection.execute(select(subscribers.c.revoked).where(subscribers.c.id == registration.id)).first()
    if before is not None and before.revoked is None:
        raise SubscriberError(
            f"subscriber {registration.id} exists already: choose another id, or revoke it first: "
            f"`blocklistd subscriber revoke {registration.id}`"
        )
    if before is not None:
        _forget(connection, registration.id)
    token = secrets.token_urlsafe(TOKEN_BYTES)
    row = {"id": registration.id, "token": digest(token), "created": now, "created_by": created_by}
    objective = _seconds(registration.objective)
    connection.execute(subscribers.insert().values(**row, software=registration.software, objective=objective))
    key = add_key(connection, registration.id, registration.algorithm, now)
    for text in dict.fromkeys(map(certificate, registration.certificates)):
        add_certificate(connection, registration.id, text)
    for table, column, values in (
        (subscriber_lists, "list", registration.lists),
        (subscriber_zones, "zone", registration.zones),
        (subscriber_notify, "address", map(notify_address, registration.notify)),
        (subscriber_addresses, "prefix", map(plain_prefix, registration.addresses)),
        (subscriber_names, "name", map(own_name, registration.own_names)),
    ):
        for value in dict.fromkeys(values):
            connection.execute(table.insert().values({"subscriber": registration.id, column: value}))
    return token, key


def _forget(connection: Connection, subscriber: str) -> None:
    """Removes all rows of a revoked subscriber, so that the next one with the id gets none of its keys and rights."""
    for table in (
        tsig_keys,
        old_tokens,
        subscriber_certificates,
        subscriber_lists,
        subscriber_zones,
        subscriber_notify,
        subscriber_addresses,
        subscriber_names,
        nodes,
        receipts,
    ):
        connection.execute(delete(table).where(table.c.subscriber == subscriber))
    connection.execute(delete(subscribers).where(subscribers.c.id == subscriber))


def set_objective(connection: Connection, subscriber: str, objective: timedelta | None) -> None:
    """Replaces the objective of a subscriber; None: it has none."""
    mine = update(subscribers).where(subscribers.c.id == subscriber)
    connection.execute(mine.values(objective=_seconds(objective)))


def _seconds(objective: timedelta | None) -> int | None:
    return None if objective is None else int(objective.total_seconds())


def _check(registration: Registration, lists: Collection[str], zones: Collection[str]) -> None:
    if not ID.fullmatch(registration.id):
        expected = f"expected an id of a-z, 0-9 and -, at most {LONGEST_ID} characters, not starting with -"
        raise SubscriberError(f"the subscriber: {expected}")
    # logs and the audit must not seem to name an entry
    if len(registration.id) in DIGITS.values() and HEX.fullmatch(registration.id):
        raise SubscriberError("the subscriber: expected an id that can't be taken for the hash of a file")
    if not registration.lists and not registration.zones:
        raise SubscriberError(f"subscriber {registration.id}: expected at least one --list or --zone")
    check_known("list", registration.lists, lists)
    check_known("zone", registration.zones, zones)
    if (registration.notify or registration.addresses) and not registration.zones:
        raise SubscriberError(
            f"subscriber {registration.id}: --notify and --address are for zones; name one with --zone"
        )
    for text in registration.certificates:
        certificate(text)
    if registration.algorithm not in ALGORITHMS:
        raise SubscriberError(f"--tsig-algorithm: expected {' or '.join(ALGORITHMS)}")
    for text in registration.notify:
        endpoint(text)
    for text in registration.own_names:
        own_name(text)
    check_wide(registration.addresses, registration.wide)


def check_known(what: str, names: Iterable[str], known: Collection[str]) -> None:
    """Raises SubscriberError unless the configuration has these lists or zones, as `what` says; `known` are all."""
    for name in names:
        if name not in known:
            raise SubscriberError(f"there is no such {what}: expected one of: {', '.join(sorted(known)) or 'none'}")


def check_wide(prefixes: Iterable[str], wide: bool) -> None:
    """Raises SubscriberError if a prefix is none, or is shorter than WIDE and `wide` is false."""
    for text in prefixes:
        if is_wide(text) and not wide:
            raise SubscriberError(
                f"--address {text}: everybody there could take the zone without a key: expected a prefix of at least "
                f"/{WIDE[4]} (IPv6: /{WIDE[6]}), or --wide as well"
            )


def certificate(text: str) -> str:
    """Parses `sha256:HEX`, the SHA-256 of a client certificate's public key (SPKI); returns the hex in lower case.
    Raises SubscriberError."""
    found = CERTIFICATE.fullmatch(text)
    if found is None:
        raise SubscriberError(
            "--cert: expected sha256: and 64 hex digits, the SHA-256 of the certificate's public key: run `openssl "
            "x509 -in CERT -noout -pubkey | openssl pkey -pubin -outform der | sha256sum`"
        )
    return found[1].lower()


def own_name(text: str) -> str:
    """The canonical form of the name of a subscriber's own service. Raises SubscriberError; its text has not the name,
    which may be an entry."""
    try:
        return canonical_name(text)
    except InvalidEntry as error:
        reason = words_of(error.code)
    raise SubscriberError(f"--own-name: {reason} Expected a name, like www.isp.example")


def own_names(connection: Connection) -> frozenset[str]:
    """The names of the own services of all subscribers that are not revoked."""
    mine = subscriber_names.c.subscriber == subscribers.c.id
    found = select(subscriber_names.c.name).join(subscribers, mine).where(subscribers.c.revoked.is_(None))
    return frozenset(connection.execute(found).scalars())


def endpoint(text: str) -> tuple[str, int]:
    """Parses ADDRESS:PORT, with an IPv6 address in brackets; returns address and port. An IPv4-mapped address becomes
    one of IPv4. Raises SubscriberError."""
    host, _, port = text.rpartition(":")
    try:
        address = ipaddress.ip_address(host[1:-1] if host.startswith("[") and host.endswith("]") else host)
        if (
            not port.isascii()
            or not port.isdigit()
            or not 0 < int(port[:6]) < 65536
            or host.startswith("[") != (address.version == 6)
        ):
            raise ValueError
    except ValueError:
        raise SubscriberError("--notify: expected ADDRESS:PORT, like 192.0.2.1:53 or [2001:db8::1]:53") from None
    return str(getattr(address, "ipv4_mapped", None) or address), int(port)


def notify_address(text: str) -> str:
    """The stored form of ADDRESS:PORT. Raises SubscriberError."""
    host, port = endpoint(text)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Parses an address or a prefix. IPv4-mapped addresses become ones of IPv4. Raises SubscriberError."""
    try:
        found = ipaddress.ip_network(text)
        if found.version == 6 and found.network_address.ipv4_mapped and found.prefixlen >= 96:
            return ipaddress.ip_network((found.network_address.ipv4_mapped, found.prefixlen - 96))
        return found
    except ValueError:
        raise SubscriberError(
            "--address: expected an address, or a prefix with no bits set below it, like 192.0.2.0/24"
        ) from None


def plain_prefix(prefix: str) -> str:
    """The stored form of a prefix: without the length for a single address, IPv4 for IPv4-mapped addresses. Raises
    SubscriberError."""
    found = network(prefix)
    return str(found.network_address if found.prefixlen == found.max_prefixlen else found)


def is_wide(prefix: str) -> bool:
    """Whether a prefix is shorter than WIDE: it may have more addresses than one subscriber. Raises SubscriberError."""
    found = network(prefix)
    return found.prefixlen < WIDE[found.version]


def revoke(connection: Connection, subscriber: str, *, now: datetime, revoked_by: str) -> None:
    """Revokes a subscriber: its token and keys are refused from now on.

    Raises SubscriberError if there is no such subscriber, or if it is revoked already.
    """
    done = connection.execute(
        update(subscribers)
        .where(subscribers.c.id == subscriber, subscribers.c.revoked.is_(None))
        .values(revoked=now, revoked_by=revoked_by)
    )
    if not done.rowcount:
        raise SubscriberError("there is no such subscriber, or it is revoked already: run `blocklistd subscriber list`")


def load(connection: Connection) -> dict[str, Subscriber]:
    """All subscribers, revoked ones included, by the digest of their token."""

    def by_subscriber(table: Table, column: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for owner, value in connection.execute(select(table.c.subscriber, table.c[column])):
            found.setdefault(owner, []).append(value)
        return found

    lists, zones = by_subscriber(subscriber_lists, "list"), by_subscriber(subscriber_zones, "zone")
    notify = by_subscriber(subscriber_notify, "address")
    addresses, names = by_subscriber(subscriber_addresses, "prefix"), by_subscriber(subscriber_names, "name")
    keys: dict[str, list[TsigKey]] = {}
    for row in connection.execute(select(tsig_keys).order_by(tsig_keys.c.created)):
        key = TsigKey(row.name, row.algorithm, row.secret, row.expires, row.used)
        keys.setdefault(row.subscriber, []).append(key)
    certificates, replaced = by_subscriber(subscriber_certificates, "public_key"), load_old_tokens(connection)
    return {
        row.token: Subscriber(
            id=row.id,
            lists=frozenset(map(ListId, lists.get(row.id, ()))),
            zones=frozenset(zones.get(row.id, ())),
            keys=tuple(keys.get(row.id, ())),
            notify=tuple(notify.get(row.id, ())),
            addresses=tuple(addresses.get(row.id, ())),
            own_names=tuple(sorted(names.get(row.id, ()))),
            certificates=tuple(certificates.get(row.id, ())),
            software=row.software,
            objective=timedelta(seconds=row.objective) if row.objective is not None else None,
            old_tokens=tuple(replaced.get(row.id, ())),
            created=row.created,
            created_by=row.created_by,
            revoked=row.revoked,
        )
        for row in connection.execute(select(subscribers).order_by(subscribers.c.id))
    }
