"""Lists as registers publish them, in JSON and XML, through the daemon: the right entries, and again after a change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.system.daemon import Daemon

WARNING_JSON = [
    {"RegisterPositionId": 1, "DomainAddress": "a.example", "InsertDate": "2026-01-02T10:00:00", "DeleteDate": None},
    {
        "RegisterPositionId": 2,
        "DomainAddress": "b.example",
        "InsertDate": "2025-01-02T10:00:00",
        "DeleteDate": "2025-07-02T10:00:00",
    },
    {"RegisterPositionId": 3, "DomainAddress": "b.example", "InsertDate": "2026-02-02T10:00:00", "DeleteDate": None},
    {
        "RegisterPositionId": 4,
        "DomainAddress": "c.example",
        "InsertDate": "2025-01-02T10:00:00",
        "DeleteDate": "2025-07-02T10:00:00",
    },
]
WARNING_XML = """\
<?xml version="1.0" encoding="utf-8"?>
<ArrayOfPozycjaRejestru xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <Pozycja><Id>1</Id><DomainAddress>a.example</DomainAddress><DeleteDate xsi:nil="true" /></Pozycja>
  <Pozycja><Id>2</Id><DomainAddress>b.example</DomainAddress><DeleteDate>2025-07-02T10:00:00</DeleteDate></Pozycja>
  <Pozycja><Id>3</Id><DomainAddress>b.example</DomainAddress></Pozycja>
  <Pozycja><Id>4</Id><DomainAddress>c.example</DomainAddress><DeleteDate>2025-07-02T10:00:00</DeleteDate></Pozycja>
</ArrayOfPozycjaRejestru>
"""
REGISTER = """\
<?xml version="1.0" encoding="UTF-8"?>
<Rejestr xmlns="http://register.example/ns">
  <PozycjaRejestru Lp="1">
    <AdresDomeny>a.example</AdresDomeny><DataWpisu>2026-11-02T10:11:12</DataWpisu>
  </PozycjaRejestru>
  <PozycjaRejestru Lp="2">
    <AdresDomeny>żółw.example</AdresDomeny><DataWpisu>2026-11-02T10:11:12</DataWpisu>
  </PozycjaRejestru>
</Rejestr>
"""
TICKETS = {
    "data": [
        {"ticket_id": "t-1", "fqdn": ["a.example", "b.example"], "ipv4": ["192.0.2.1"], "ipv6": []},
        {"ticket_id": "t-2", "fqdn": [], "ipv4": ["192.0.2.2"], "ipv6": ["2001:db8::1"]},
        {"ticket_id": "t-3", "fqdn": ["c.example"], "ipv4": [], "ipv6": []},
    ]
}
SOURCES: dict[str, tuple[str, dict[str, Any], dict[str, str | None]]] = {
    "warning list, JSON": (
        json.dumps(WARNING_JSON, indent=1),
        {
            "format": "json",
            "fields": {"value": "/DomainAddress", "ref": "/RegisterPositionId"},
            "options": {"where": {"/DeleteDate": None}},
        },
        {"a.example": "1", "b.example": "3"},
    ),
    "warning list, XML": (
        WARNING_XML,
        {
            "format": "xml",
            "fields": {"value": "DomainAddress", "ref": "Id"},
            "options": {"records": "ArrayOfPozycjaRejestru/Pozycja", "where": {"DeleteDate": None}},
        },
        {"a.example": "1", "b.example": "3"},
    ),
    "gambling register": (
        REGISTER,
        {
            "format": "xml",
            "fields": {"value": "AdresDomeny", "ref": "@Lp"},
            "options": {"records": "Rejestr/PozycjaRejestru"},
        },
        {"a.example": "1", "xn--w-uga1v8h.example": "2"},
    ),
    "tickets": (
        json.dumps(TICKETS),
        {"format": "json", "fields": {"value": "/fqdn", "ref": "/ticket_id"}, "options": {"records": "/data"}},
        {"a.example": "t-1", "b.example": "t-1", "c.example": "t-3"},
    ),
    "names": (
        json.dumps(["a.example", "B.example."]),
        {"format": "json", "fields": {"value": ""}},
        {"a.example": None, "b.example": None},
    ),
}


@pytest.mark.parametrize("shape", SOURCES)
def test_a_register_is_published(tmp_path: Path, shape: str) -> None:
    body, settings, expected = SOURCES[shape]
    file = tmp_path / "list"
    file.write_text(body)
    source = {"url": f"file:{file}", "defaults": {"type": "domain"}, "schedule": "every 1d"}
    source |= {"verify": {"method": "none"}, **settings}
    guards = {"max_added": "100%", "max_removed": "100%"}
    lists = {"national": {"sources": ["hotline"], "guards": guards}}
    with Daemon(tmp_path, {"sources": {"hotline": source}, "lists": lists}) as daemon:
        daemon.first_pull("hotline")
        token = daemon.subscriber("isp", "national")

        def live() -> dict[str, str | None]:
            entries = map(json.loads, daemon.snapshot("national", token).splitlines())
            return {entry["value"]: entry.get("ref") for entry in entries}

        assert live() == expected
        assert daemon.ask("source show", source="hotline").json["rejected"] == {}
        file.write_text(body.replace("a.example", "z.example"))
        assert daemon.pull("hotline")["outcome"] == "published"
        changed = {name.replace("a.example", "z.example"): ref for name, ref in expected.items()}
        assert live() == changed
        file.write_text(body[: -len(body) // 4])
        failed = daemon.pull("hotline")
        assert failed["outcome"] == "failed"
        assert "is not complete" in failed["reason"] or "is not XML" in failed["reason"]
        assert live() == changed
        assert not any(name in daemon.log for name in (*expected, *changed))
