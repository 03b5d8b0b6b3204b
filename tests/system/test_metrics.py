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
        daemon.wait_for(lambda: scrape(scene)["blocklistd_event_loop_lag_seconds_count"] > 0)
        daemon.wait_for(
            lambda: scrape(scene)["blocklistd_jobs_running"] == 0
        )  # versions are counted after their release
        found = scrape(scene)

    def runs(stage: str, subject: str) -> float:
        return found[f'blocklistd_stage_seconds_count{{stage="{stage}",subject="{subject}"}}']

    assert runs("fetch", "hotline") == 3
    assert runs("intake", "hotline") == 3
    assert found['blocklistd_stage_failures_total{stage="intake",subject="hotline"}'] == 1
    assert runs("store_entries", "hotline") == runs("commit", "national") == 2
    assert runs("sign", "national") >= 2
    assert runs("zone", ZONE) >= 2
    assert runs("database", "write") > 0
    assert runs("database", "wait") > runs("database", "write"), "signatures are written as well"
    assert found['blocklistd_pull_to_live_seconds_count{list="national"}'] == 2
    for job in ("intake", "commit", "advance_all"):
        assert found[f'blocklistd_job_seconds_count{{job="{job}"}}'] >= 2
        assert found[f'blocklistd_job_peak_memory_bytes{{job="{job}"}}'] > 2**20
    assert found['blocklistd_job_failures_total{cause="killed"}'] == 0
    assert 0.5 < found['blocklistd_list_signature_remaining_ratio{list="national"}'] <= 1
    assert found['blocklistd_list_signature_expires_timestamp_seconds{list="national"}'] > time.time()
    assert 0 < found["blocklistd_state_dir_free_bytes"] <= found["blocklistd_state_dir_size_bytes"]
    assert found[f'blocklistd_zone_secondary_lag_seconds{{zone="{ZONE}"}}'] == 0
    assert found['blocklistd_source_fetched_bytes_total{source="hotline"}'] > 0
    assert found['blocklistd_source_records_total{source="hotline"}'] == 3
    assert found['blocklistd_list_entries_added_total{list="national"}'] == 2
    assert found['blocklistd_list_entries_removed_total{list="national"}'] == 0
    assert found['blocklistd_list_entries_changed_total{list="national"}'] == 0
    assert (found["blocklistd_jobs_running"], found["blocklistd_jobs_queued"]) == (0, 0)
    assert found["blocklistd_event_loop_lag_max_seconds"] >= 0
    assert found['blocklistd_feed_requests_total{code="304",resource="status"}'] == 1
    assert found['blocklistd_feed_requests_total{code="401",resource="status"}'] == 1
    assert found['blocklistd_feed_requests_total{code="200",resource="targets"}'] == 1
    assert found['blocklistd_feed_request_seconds_count{resource="status"}'] == 4
    assert found["blocklistd_feed_sent_bytes_total"] > 0
    assert found["blocklistd_feed_long_polls"] == 0
    assert found["blocklistd_feed_connections"] >= 0
    assert found['blocklistd_dns_transfers_total{type="AXFR"}'] == 1
    assert found['blocklistd_dns_transfers_total{type="IXFR"}'] == 1
    assert found["blocklistd_dns_transfer_bytes_total"] > 0
    assert (
        found['blocklistd_dns_transfers_in_progress{type="AXFR"}']
        == found['blocklistd_dns_transfers_in_progress{type="IXFR"}']
        == 0
    )
    assert found['blocklistd_dns_transfer_seconds_count{type="AXFR"}'] == 1
    assert found['blocklistd_dns_transfer_seconds_count{type="IXFR"}'] == 1
    assert found['blocklistd_dns_responses_total{rcode="5",transport="udp",type="SOA"}'] == 1
    assert found['blocklistd_dns_responses_total{rcode="16",transport="udp",type="SOA"}'] == 1
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
        daemon.wait_for(lambda: scrape(scene)["blocklistd_feed_long_polls"] == 1)
        assert scrape(scene)["blocklistd_feed_connections"] >= 1
        scene.write(*(f"n{number}.example" for number in range(10)))
        assert daemon.pull("hotline")["outcome"] == "held"
        found = scrape(scene)
        assert found['blocklistd_guard_trips_total{guard="max_added",list="national"}'] == 1
        assert found['blocklistd_pulls_total{outcome="held",source="hotline"}'] == 1
        assert found['blocklistd_pull_to_live_seconds_count{list="national"}'] == 1
        daemon.approve(daemon.ask("candidate list").json[0]["id"])
        poll.join(60)
        assert not poll.is_alive()
        found = scrape(scene)
        assert found['blocklistd_list_version{list="national"}'] == 2
        assert found['blocklistd_pull_to_live_seconds_count{list="national"}'] == 1, (
            "a person's time is not the pipeline's"
        )
        assert found['blocklistd_feed_requests_total{code="200",resource="wait"}'] == 1
        assert found["blocklistd_feed_long_polls"] == 0


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
