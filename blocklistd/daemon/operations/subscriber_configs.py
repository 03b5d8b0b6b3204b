"""Makes the configurations to paste for a subscriber. Refuses software that can't use its lists or zones."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass

from blocklistd.config import Config
from blocklistd.daemon.name_server import tls_primary
from blocklistd.daemon.profiles import PROGRAMS, PublisherAddresses, configurations
from blocklistd.daemon.profiles.request import SECRET, Tsig
from blocklistd.daemon.profiles.versions import FIRST_WITH_ZONEMD, LISTS_ONLY, Software, dotted, software, software_of
from blocklistd.errors import SubscriberError
from blocklistd.serve.dns.server import DnsServer
from blocklistd.serve.dns.zones import Zones
from blocklistd.store.credentials import TsigKey
from blocklistd.store.subscribers import Registration, Subscriber

Holder = Registration | Subscriber
"""Who has lists, zones, addresses and certificates."""


@dataclass(frozen=True, slots=True)
class ServedBy:
    """What a subscriber's configurations say of the publisher. `private_ca`: whether it needs the certificate of the
    feed's authority."""

    publisher: PublisherAddresses
    private_ca: bool


class SubscriberConfigs:
    """Order of calls: `check` before a write, `served_by` before it too, since an error after it would lose a token;
    then `made`."""

    def __init__(
        self, config: Callable[[], Config], dns: DnsServer | None, served: Zones, private_ca: Callable[[], bool]
    ) -> None:
        self._config = config
        self._dns = dns
        self._served = served
        self._private_ca = private_ca

    async def served_by(self) -> ServedBy:
        """Reads the certificates, in a thread."""
        return await asyncio.to_thread(self._served_by)

    def _served_by(self) -> ServedBy:
        config = self._config()
        dns = config.serves_dns
        publisher = PublisherAddresses(
            config.feed.url,
            dns.listen[0] if dns else None,
            tls_primary(self._dns, config),
            dns.catalog if dns else None,
            {view.plan.name: view.records for view in self._served.views().values() if view is not None},
        )
        return ServedBy(publisher, self._private_ca())

    def made(self, who: Holder, tsig: Tsig, served_by: ServedBy, given: str | None = None) -> dict[str, str]:
        """The configurations by program. `given`: the software for which one of them is made, which `check` has seen;
        None: the registered one."""
        zones = [shard for zone in self._config().zones.values() if zone.name in who.zones for shard in zone.served]
        return configurations(
            served_by.publisher,
            zones,
            None if who.addresses else tsig,
            lists=sorted(who.lists),
            chosen=_software(who, given),
            client_certificate=bool(who.certificates),
        )

    def check(self, who: Holder, given: str | None = None) -> None:
        """Raises SubscriberError if the software can't use what the subscriber has, and RefusedError if it is unknown
        or too old. `given`: as for `made`."""
        one = _software(who, given)
        given = given or who.software
        if given and one.name == LISTS_ONLY and not who.lists:
            raise SubscriberError(f"--software {given}: it reads lists only: add one with --list")
        if given and one.name != LISTS_ONLY and not who.zones:
            raise SubscriberError(f"--software {given} needs a zone: add one with --zone")
        if who.zones and one.name in PROGRAMS and not PROGRAMS[one.name].signs and not who.addresses:
            raise SubscriberError("Unbound can't use TSIG: add its address with --address")
        zonemd = [zone.name for zone in self._config().zones.values() if zone.zonemd and zone.name in who.zones]
        if zonemd and one.breaks_on_zonemd:
            raise SubscriberError(
                f"--software {one.name}:{dotted(one.version)}: the ZONEMD record of zone {zonemd[0]} breaks this "
                f"version (its queries for the root fail): grant a zone of the same list without `zonemd`, or name the "
                f"program that transfers the zone, like `--software bind` or `--software "
                f"{one.name}:{FIRST_WITH_ZONEMD[one.name]}`"
            )


def _software(who: Holder, given: str | None) -> Software:
    return software(given) if given else software_of(who.software, unsigned=bool(who.addresses))


def issued(key: TsigKey) -> dict[str, str]:
    """A new TSIG key, with its secret."""
    return {"name": key.name, "algorithm": key.algorithm, "secret": base64.b64encode(key.secret).decode()}


def shown(key: TsigKey) -> dict[str, str]:
    """A TSIG key that was shown before: with a placeholder for its secret."""
    return issued(key) | {"secret": SECRET}
