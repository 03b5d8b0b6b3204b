"""Each stage updates its metrics, and no metric contains an entry."""

from __future__ import annotations

import re
import signal
import threading
import time
from pathlib import Path

import dns.message

from tests.system.test_zones import ORIGIN, ZONE, Scene


def scrape(scene: Scene) -> dict[str, float]:
    lines = scene.daemon.ops("/metrics").body.decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def test_every_stage_is_measured(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    with scene.daemon as daemon:
        daemon.first_pull("hotline")
        secondary = scene.secondary("isp", notify=["127.0.0.1:9"])
        secondary.refresh("AXFR")
        scene.publish("a.example", "b.example")
        secondary.refresh()
        secondary.refresh()  # asks from 2: it has it
        query = dns.message.make_query(ORIGIN, "SOA")
        scene.ask(query)  # unsigned: refused
        query.use_edns(1)
        scene.ask(query)  # BADVERS
        token = daemon.subscriber("provider", "national")
        etag = daemon.get("/v1/lists/national", token).headers["etag"]
        assert daemon.get("/v1/lists/national", token, If_None_Match=etag).status == 304
        assert daemon.get("/v1/lists/national").status == 401
        daemon.snapshot("national", token)
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
    assert took("database", "wait") > took("database", "write"), "signatures are written as well"
    assert found['blocklistd_publish_seconds_count{list="national"}'] == 2
    for job in ("intake", "settle", "advance"):
        assert found[f'blocklistd_job_seconds_count{{job="{job}"}}'] >= 2
        assert found[f'blocklistd_job_peak_memory_bytes{{job="{job}"}}'] > 2**20
    assert found['blocklistd_job_deaths_total{cause="killed"}'] == 0
    assert 0.5 < found['blocklistd_list_signatures_left_ratio{list="national"}'] <= 1
    assert found['blocklistd_list_signatures_expire_timestamp_seconds{list="national"}'] > time.time()
    assert 0 < found["blocklistd_state_free_bytes"] <= found["blocklistd_state_size_bytes"]
    assert found[f'blocklistd_zone_secondary_lag_seconds{{zone="{ZONE}"}}'] == 0
    assert found['blocklistd_fetched_bytes_total{source="hotline"}'] > 0
    assert found['blocklistd_records_total{source="hotline"}'] == 3
    assert found['blocklistd_list_added_total{list="national"}'] == 2
    assert found['blocklistd_list_removed_total{list="national"}'] == 0
    assert found['blocklistd_list_changed_total{list="national"}'] == 0
    assert (found["blocklistd_jobs_running"], found["blocklistd_jobs_waiting"]) == (0, 0)
    assert found["blocklistd_loop_lag_max_seconds"] >= 0
    assert found['blocklistd_feed_requests_total{code="304",resource="status"}'] == 1
    assert found['blocklistd_feed_requests_total{code="401",resource="status"}'] == 1
    assert found['blocklistd_feed_requests_total{code="200",resource="targets"}'] == 1
    assert found['blocklistd_feed_request_seconds_count{resource="status"}'] == 4
    assert found["blocklistd_feed_sent_bytes_total"] > 0
    assert found["blocklistd_feed_waiting"] == 0
    assert found["blocklistd_feed_connections"] >= 0
    assert found['blocklistd_dns_transfers_total{kind="AXFR"}'] == 1
    assert found['blocklistd_dns_transfers_total{kind="IXFR"}'] == 1
    assert found["blocklistd_dns_transferred_bytes_total"] > 0
    assert found['blocklistd_dns_transferring{kind="AXFR"}'] == found['blocklistd_dns_transferring{kind="IXFR"}'] == 0
    assert found['blocklistd_dns_transfer_seconds_count{kind="AXFR"}'] == 1
    assert found['blocklistd_dns_transfer_seconds_count{kind="IXFR"}'] == 1
    assert found['blocklistd_dns_answers_total{asked="SOA",rcode="5",transport="udp"}'] == 1
    assert found['blocklistd_dns_answers_total{asked="SOA",rcode="16",transport="udp"}'] == 1
    assert found['blocklistd_dns_notifies_total{state="sent"}'] >= 1
    assert found[f'blocklistd_zone_behind{{zone="{ZONE}"}}'] == 0
    assert found["process_resident_memory_bytes"] > 0
    assert not [name for name in found if re.search(r"\b[ab]\.example", name)]


def test_metrics_count_jobs_under_way_and_held_candidates(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.daemon.config["lists"]["national"]["guards"] = {"min_change": 2}
    scene.daemon.write_config()
    with scene.daemon as daemon:
        daemon.first_pull("hotline")
        token = daemon.subscriber("provider", "national")
        etag = daemon.get("/v1/lists/national", token).headers["etag"]
        poll = threading.Thread(
            target=daemon.get, args=("/v1/lists/national?wait=30", token), kwargs={"If_None_Match": etag}
        )
        poll.start()
        daemon.wait_for(lambda: scrape(scene)["blocklistd_feed_waiting"] == 1)
        assert scrape(scene)["blocklistd_feed_connections"] >= 1
        scene.write(*(f"n{number}.example" for number in range(10)))
        assert daemon.pull("hotline")["outcome"] == "held"
        found = scrape(scene)
        assert found['blocklistd_held_total{guard="max_added",list="national"}'] == 1
        assert found['blocklistd_pulls_total{outcome="held",source="hotline"}'] == 1
        assert found['blocklistd_publish_seconds_count{list="national"}'] == 1
        daemon.approve(daemon.ask("candidate list").json[0]["id"])
        poll.join(60)
        assert not poll.is_alive()
        found = scrape(scene)
        assert found['blocklistd_list_version{list="national"}'] == 2
        assert found['blocklistd_publish_seconds_count{list="national"}'] == 1, "a person's time is not the pipeline's"
        assert found['blocklistd_feed_requests_total{code="200",resource="wait"}'] == 1
        assert found["blocklistd_feed_waiting"] == 0


def test_a_removed_source_or_list_raises_no_alarm(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.daemon.config["sources"]["gone"] = {**scene.daemon.config["sources"]["hotline"], "url": f"file:{tmp_path}/no"}
    scene.daemon.config["sources"]["gone"]["max_age"] = "1s"
    scene.daemon.write_config()
    overdue = 'blocklistd_source_overdue{source="gone"}'
    with scene.daemon as daemon:
        daemon.wait_for(lambda: scrape(scene).get(overdue) == 1)
        daemon.first_pull("gone")
        assert scrape(scene)['blocklistd_pulls_total{outcome="failed",source="gone"}'] <= 1
        del scene.daemon.config["sources"]["gone"]
        daemon.write_config()
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for(lambda: overdue not in scrape(scene))
        assert not [name for name in scrape(scene) if '"gone"' in name], "reloads add up to nothing"
        assert 'blocklistd_source_overdue{source="hotline"}' in scrape(scene)


def test_metrics_show_a_list_that_is_not_served(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    with scene.daemon as daemon:
        daemon.first_pull("hotline")
        assert scrape(scene)["blocklistd_ready"] == 1
        daemon.stop()
        sealed = tmp_path / "state" / "sealed"
        sealed.rename(tmp_path / "kept")
        daemon.start()
        daemon.wait_for(lambda: "keeps its last serial" in daemon.log)
        found = scrape(scene)
        assert found["blocklistd_ready"] == 0
        assert found[f'blocklistd_zone_behind{{zone="{ZONE}"}}'] == 1


def test_metrics_show_a_secondary_that_is_behind(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    lag = f'blocklistd_zone_secondary_lag_seconds{{zone="{ZONE}"}}'

    with scene.daemon as daemon:
        daemon.first_pull("hotline")
        secondary = scene.secondary("isp")
        secondary.refresh("AXFR")
        scene.publish("a.example", "b.example")
        secondary.refresh()  # asks from 1, is sent 2
        assert scrape(scene)[lag] > 0, "it has not said that it has it"
        secondary.refresh()
        assert scrape(scene)[lag] == 0
        scene.publish("a.example", "b.example", "c.example")
        assert scrape(scene)[lag] > 0
        secondary.refresh()
        secondary.refresh()
        assert scrape(scene)[lag] == 0
