"""Changes what a registered subscriber has: its lists, zones, NOTIFY addresses, address prefixes, client certificates,
the software of its name servers, its objective and its nodes. A change is made whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from sqlalchemy import Connection, Table, delete, update

from blocklistd.errors import SubscriberError
from blocklistd.store import receipts
from blocklistd.store.credentials import add_certificate
from blocklistd.store.schema_served import (
    subscriber_addresses,
    subscriber_certificates,
    subscriber_lists,
    subscriber_notify,
    subscriber_zones,
    subscribers,
)
from blocklistd.store.subscribers import (
    Subscriber,
    certificate,
    check_known,
    check_wide,
    load,
    notify_address,
    plain_prefix,
    set_objective,
)

Values = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rights:
    """What a subscriber has, or gets, or loses; the fields as in Registration."""

    lists: Values = ()
    zones: Values = ()
    notify: Values = ()
    addresses: Values = ()
    certificates: Values = ()

    def by_option(self) -> dict[str, Values]:
        """The values by the name of their option, without the empty ones."""
        values = {option: getattr(self, name) for option, (name, _, _, _) in _KINDS.items()}
        return {option: found for option, found in values.items() if found}


@dataclass(frozen=True, slots=True)
class SubscriberChange:
    """A request to change the subscriber `id`. `wide`: added prefixes may be shorter than WIDE. `software`: NAME or
    NAME:VERSION; None keeps it. `objective`: None keeps it, zero removes it. `nodes`: names of nodes to forget."""

    id: str
    added: Rights = field(default_factory=Rights)
    removed: Rights = field(default_factory=Rights)
    wide: bool = False
    software: str | None = None
    objective: timedelta | None = None
    nodes: Values = ()


@dataclass(frozen=True, slots=True)
class Changed:
    """A subscriber after a change. `added` and `removed`: what it did not have before, and what it has no more.
    `nodes`: the nodes that were forgotten."""

    subscriber: Subscriber
    added: Rights
    removed: Rights
    nodes: Values = ()


_KINDS: Final[dict[str, tuple[str, Table, str, Callable[[str], str]]]] = {
    "list": ("lists", subscriber_lists, "list", str),
    "zone": ("zones", subscriber_zones, "zone", lambda name: name.lower().removesuffix(".")),
    "notify": ("notify", subscriber_notify, "address", notify_address),
    "address": ("addresses", subscriber_addresses, "prefix", plain_prefix),
    "cert": ("certificates", subscriber_certificates, "public_key", certificate),
}
"""By the end of the options: the field of Rights and of Subscriber, the table and its column, and what makes a value's
stored form, which raises SubscriberError."""


def change(
    connection: Connection, request: SubscriberChange, *, lists: Collection[str], zones: Collection[str]
) -> Changed:
    """Changes a subscriber. `lists`, `zones`: those in the configuration.

    Raises SubscriberError if there is no such subscriber, if it is revoked, if it does not have what is removed, if the
    request can't be used, or if nothing would change. The caller then rolls the transaction back.
    """
    before = next((one for one in load(connection).values() if one.id == request.id and one.revoked is None), None)
    if before is None:
        raise SubscriberError("there is no such subscriber, or it is revoked: run `blocklistd subscriber list`")
    check_known("list", request.added.lists, lists)
    check_known("zone", _stored("zone", request.added), zones)
    check_wide(request.added.addresses, request.wide)
    kinds = {option: _change_one(connection, before, request, option) for option in _KINDS}
    added, removed = (
        Rights(**{_KINDS[option][0]: changed[which] for option, changed in kinds.items()}) for which in (0, 1)
    )
    software = request.software or before.software
    objective = before.objective if request.objective is None else request.objective or None
    if software != before.software:
        connection.execute(update(subscribers).where(subscribers.c.id == request.id).values(software=software))
    set_objective(connection, request.id, objective)
    for name in request.nodes:
        if not receipts.forget_nodes(connection, request.id, name):
            raise SubscriberError(
                f"--remove-node: {before.id} has no such node: `blocklistd subscriber show {before.id}` lists them"
            )
    if (software, objective, added, removed) == (before.software, before.objective, Rights(), Rights()) and (
        not request.nodes
    ):
        raise SubscriberError(
            f"{request.id} has all that already: name something to add that it lacks, or something to remove"
        )
    after = next(one for one in load(connection).values() if one.id == request.id)
    _check_left(after)
    return Changed(after, added, removed, request.nodes)


def _stored(option: str, given: Rights) -> Values:
    name, _, _, stored = _KINDS[option]
    return tuple(dict.fromkeys(map(stored, getattr(given, name))))


def _change_one(
    connection: Connection, before: Subscriber, request: SubscriberChange, option: str
) -> tuple[Values, Values]:
    """Changes the values of one option; returns the added and the removed ones."""
    name, table, column, _ = _KINDS[option]
    has, added, removed = getattr(before, name), _stored(option, request.added), _stored(option, request.removed)
    for value in removed:
        if value in added:
            raise SubscriberError(f"{value} is added and removed at once: give only one of the two options")
        if value not in has:
            raise SubscriberError(
                f"--remove-{option} {value}: {before.id} does not have it; it has: {', '.join(sorted(has)) or 'none'}"
            )
        connection.execute(delete(table).where(table.c.subscriber == before.id, table.c[column] == value))
    new = tuple(value for value in added if value not in has)
    for value in new:
        if option == "cert":
            add_certificate(connection, before.id, value)
        else:
            connection.execute(table.insert().values({"subscriber": before.id, column: value}))
    return new, removed


def _check_left(after: Subscriber) -> None:
    """Raises SubscriberError if the subscriber has nothing left, or what it has makes no sense without a zone."""
    if not after.lists and not after.zones:
        raise SubscriberError(
            f"{after.id} would have no list and no zone: to end its access, run `blocklistd subscriber revoke "
            f"{after.id}`"
        )
    if (after.notify or after.addresses) and not after.zones:
        raise SubscriberError(
            f"{after.id} would have no zone, for which its NOTIFY addresses and prefixes are: remove them too, with "
            f"--remove-notify and --remove-address"
        )
