"""A daemon with several zones and a catalog, for tests of catalog zones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.xfr
import dns.zone

from tests.system.test_operations import reload
from tests.system.test_zones import ZONE, Scene

CATALOG = "catalog.blocklist.example"
SECOND = "second.blocklist.example"


class CatalogScene(Scene):
    """A list with the zones ZONE and SECOND, and a catalog."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.daemon.config["dns"]["catalog"] = CATALOG
        self.daemon.config["zones"][SECOND] = {"list": "national", "ttl": 61}
        self.daemon.write_config()

    def add(self, name: str, *zones: str, **more: Any) -> dict[str, Any]:
        answer = self.daemon.ask("subscriber add", id=name, zones=list(zones), **more)
        assert answer.status == 200, answer.body
        made: dict[str, Any] = answer.json
        return made

    def configure(self, *zones: str) -> None:
        """Reloads with these zones only."""
        self.daemon.config["zones"] = {zone: {"list": "national"} for zone in zones}
        self.daemon.write_config()
        reload(self.daemon)

    def has_catalog(self, made: dict[str, Any] | None, *zones: str, source: str = "127.0.0.1") -> bool:
        """Whether the subscriber's catalog has these zones; False before it is made."""
        try:
            return self.catalog(made, source=source)[1].keys() == set(zones)
        except dns.xfr.TransferError:
            return False

    def catalog(self, made: dict[str, Any] | None, *, source: str = "127.0.0.1") -> tuple[int, dict[str, str]]:
        """The serial of the subscriber's catalog, and its zones with the labels of the members. None: unsigned."""
        more = {} if made is None else {"keyring": self.key(made)}
        zone: Any = dns.zone.Zone(dns.name.from_text(CATALOG), relativize=False)
        query = dns.message.make_query(CATALOG, "AXFR")
        if more:
            query.use_tsig(more["keyring"])
        dns.query.inbound_xfr("127.0.0.1", zone, query, port=self.port, lifetime=10, source=source)
        (version,) = zone.find_rdataset(f"version.{CATALOG}.", "TXT")
        assert version.strings == (b"2",)
        members = {}
        for name, _, data in zone.iterate_rdatas("PTR"):
            assert name.parent() == dns.name.from_text(f"zones.{CATALOG}")
            members[data.target.to_text(omit_final_dot=True)] = name.labels[0].decode()
        assert [data.target.to_text() for _, _, data in zone.iterate_rdatas("NS")] == ["invalid."]
        (soa,) = zone.find_rdataset(f"{CATALOG}.", "SOA")
        return soa.serial, members


def serves(port: int, zone: str = ZONE, source: str = "127.0.0.2") -> bool:
    """Whether a name server has the zone."""
    query = dns.message.make_query(zone, "SOA")
    answer = dns.query.tcp(query, "127.0.0.1", port=port, source=source, timeout=5)
    return bool(answer.get_rrset(answer.answer, dns.name.from_text(zone), dns.rdataclass.IN, dns.rdatatype.SOA))
