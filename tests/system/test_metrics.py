"""Each station moves its metrics, and none of them says what an entry is."""

from __future__ import annotations

import re
from pathlib import Path

import dns.message

from tests.system.test_zones import ORIGIN, ZONE, Scene


def scrape(scene: Scene) -> dict[str, float]:
    lines = scene.daemon.ops("/metrics").body.decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def test_every_station_counts(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    with scene.daemon as daemon:
        daemon.first_pull("hotline")
        secondary = scene.secondary("isp", notify=["127.0.0.1:9"])
        secondary.refresh("AXFR")
        scene.publish("a.example", "b.example")
        secondary.refresh()
        query = dns.message.make_query(ORIGIN, "SOA")
        scene.ask(query)  # unsigned: refused
        token = daemon.subscriber("provider", "national")
        etag = daemon.get("/v1/lists/national", token).headers["etag"]
        assert daemon.get("/v1/lists/national", token, If_None_Match=etag).status == 304
        assert daemon.get("/v1/lists/national").status == 401
        (tmp_path / "list.ndjson").write_text("<html>")
        assert daemon.pull("hotline")["outcome"] == "failed"
        daemon.wait_for(lambda: scrape(scene)["blocklistd_loop_lag_seconds_count"] > 0)
        found = scrape(scene)

    def took(station: str, subject: str) -> float:
        return found[f'blocklistd_station_seconds_count{{station="{station}",subject="{subject}"}}']

    assert took("fetch", "hotline") == 3
    assert took("intake", "hotline") == 3
    assert found['blocklistd_station_failures_total{station="intake",subject="hotline"}'] == 1
    assert took("seal", "hotline") == took("settle", "national") == 2
    assert took("sign", "national") >= 2
    assert took("zone", ZONE) >= 2
    assert took("database", "write") > 0
    assert found['blocklistd_fetched_bytes_total{source="hotline"}'] > 0
    assert found['blocklistd_records_total{source="hotline"}'] == 3
    assert found['blocklistd_list_added_total{list="national"}'] == 2
    assert found['blocklistd_list_removed_total{list="national"}'] == 0
    assert found['blocklistd_list_changed_total{list="national"}'] == 0
    assert (found["blocklistd_jobs_running"], found["blocklistd_jobs_waiting"]) == (0, 0)
    assert found["blocklistd_loop_lag_max_seconds"] >= 0
    assert found['blocklistd_feed_requests_total{code="304"}'] == 1
    assert found["blocklistd_feed_sent_bytes_total"] > 0
    assert found["blocklistd_feed_waiting"] == 0
    assert found["blocklistd_feed_connections"] >= 0
    assert found['blocklistd_dns_transfers_total{kind="AXFR"}'] == 1
    assert found['blocklistd_dns_transfers_total{kind="IXFR"}'] == 1
    assert found["blocklistd_dns_transferred_bytes_total"] > 0
    assert found["blocklistd_dns_transferring"] == 0
    assert found['blocklistd_dns_answers_total{rcode="5",transport="udp"}'] == 1
    assert found['blocklistd_dns_notifies_total{state="sent"}'] >= 1
    assert found[f'blocklistd_zone_behind{{zone="{ZONE}"}}'] == 0
    assert found["process_resident_memory_bytes"] > 0
    assert not [name for name in found if re.search(r"\b[ab]\.example", name)]
