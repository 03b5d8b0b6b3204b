"""Incidents that begin at a hotline: what its body becomes at the provider, and what the operator reads and does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from tests.sim.hotline import Fault
from tests.system.incident import Entries, Incident, domains
from tests.system.test_zones import ZONE

NAMES = domains(*(f"n{number}.example" for number in range(100)))
NEW = domains("new.example")


def test_denmark_2012_eight_thousand_names_and_a_search_engine(incident: Callable[..., Incident]) -> None:
    """In one update the police's list grew by 8,000 names, a search engine among them, and stayed so for hours."""
    scene = incident()
    # 09:00
    isp = scene.begin(NAMES)
    # 10:00 the update
    wrong = domains(*(f"x{number}.test" for number in range(8_000)))
    engine = domains("search.example") | {("host", "www.search.example")}
    text = scene.pull(NAMES | wrong | engine, code=4)
    assert f"held: run `blocklistd candidate show {scene.held}`" in text, text
    assert isp.blocks(NAMES)
    # 10:05 a reviewer looks
    shown = scene.cli("candidate", "show", scene.held)
    assert "max_added: found 8000.0% (8000 of 100), limit 20%" in shown
    assert "under .test" in shown
    assert "+8000 -0" in shown
    assert "withheld\tnever_block: 2" in shown
    assert "hits of never_block\te-" in shown
    # 10:20 the police say that it was a mistake
    assert "rejected" in scene.cli("candidate", "reject", scene.held, "--why", "the police sent a wrong file")
    assert "was rejected" in scene.pull(code=1)
    assert isp.blocks(NAMES)
    # 11:00 the corrected update; the search engine is still in it
    scene.pull(NAMES | NEW | engine)
    assert isp.blocks(NAMES | NEW)
    assert scene.holds_nothing
    # 12:00 even a reviewer who is tired can't block it
    scene.pull(NAMES | NEW | engine | wrong | domains("y.test"), code=4)
    assert "released as version 3" in scene.cli("candidate", "approve", scene.held)
    assert isp.blocks(NAMES | NEW | wrong | domains("y.test"))
    scene.is_quiet_about("search.example", "x1.test")


def test_wikipedia_2008_one_page_of_an_encyclopedia(incident: Callable[..., Incident]) -> None:
    """One page was listed, and filters at providers slowed down the whole encyclopedia."""
    scene = incident()
    isp = scene.begin(NAMES)
    page = {("url", "https://en.wiki.example/wiki/Album"), ("url", "http://other.test/a?b=1")}
    # 10:00 the page, and its host by mistake
    scene.pull(NAMES | page | {("host", "en.wiki.example")})
    assert isp.entries == NAMES | page
    assert isp.rules == {rule for name in NAMES for rule in (name[1], f"*.{name[1]}")}, "no page is in the zone"
    status = scene.daemon.ask("status").json
    assert status["lists"]["national"]["withheld"] == {"shared_hosts": 1}
    assert status["zones"][ZONE]["records"] == 200
    # 10:05 a proxy's copy as plain values
    (scene.folder / "token").write_text(isp.token)
    done = scene.daemon.cli(
        *("sync", f"https://127.0.0.1:{scene.daemon.feed_port}", "national", "--root", str(scene.daemon.root)),
        *("--token-file", str(scene.folder / "token"), "--ca", str(scene.folder / "feed.pem")),
        *("--dir", str(scene.folder / "proxy"), "--format", "plain"),
    )
    assert b"102 entries" in done.stdout
    plain = (scene.folder / "proxy" / "national.plain").read_text().splitlines()
    assert set(plain) == {value for _, value in NAMES | page}, "its value is the page, never the host alone"
    assert not {"en.wiki.example", "wiki.example", "other.test"} & set(plain)


def test_google_drive_2024_a_subdomain_of_a_whitelisted_service(incident: Callable[..., Incident]) -> None:
    """A service on the whitelist was blocked by the name of one of its hosts; the registry noticed from the news."""
    scene = incident()
    isp = scene.begin(NAMES)
    wrong: Entries = {("host", "drive.cloud.example"), ("domain", "user.drive.cloud.example"), ("domain", "drive.test")}
    # 10:00 the names arrive at night: the rest of the update goes on, nobody has to be woken
    text = scene.pull(NAMES | NEW | wrong)
    assert "withheld from national: 3 (never_block 2, shared_hosts 1)" in text, text
    assert isp.blocks(NAMES | NEW)
    # 10:30 the source is away, and the daemon starts again: the whitelist holds offline
    scene.hotline.fault = Fault.UNAVAILABLE
    scene.restart()
    scene.pull(code=1)
    assert isp.blocks(NAMES | NEW)
    # 11:00 a person can't release it by hand either
    assert "it hits a name or an address of the list's `never_block` files" in scene.cli(
        *("entry", "delist", "national", "--stdin", "--why", "ticket 12"), stdin="drive.cloud.example\n", code=1
    )
    scene.is_quiet_about("drive.cloud.example", "drive.test")


@pytest.mark.parametrize("form", ["ndjson", "text"])
def test_a_hotline_that_comes_empty_halved_and_doubled(incident: Callable[..., Incident], form: str) -> None:
    scene = incident(form=form)
    # 09:00
    isp = scene.begin(NAMES)
    # 09:30 nothing, then blank lines, then an error, then a page of HTML with status 200
    for publish, fault in ((None, Fault.EMPTY), (b"\n \r\n\n", None), (None, Fault.UNAVAILABLE), (None, Fault.HTML)):
        if publish is not None:
            scene.hotline.publish(publish)
        scene.hotline.fault = fault
        text = scene.pull(code=1)
        assert "failed" in text, text
        assert isp.blocks(NAMES)
        assert scene.holds_nothing
    assert "failed" in scene.cli("source", "list")
    # 10:00 half of it
    scene.hotline.fault = None
    half = set(sorted(NAMES)[:50])
    scene.pull(half, code=4)
    first = scene.held
    assert "max_removed: found 50.0% (50 of 100), limit 10%" in scene.cli("candidate", "show", first)
    assert isp.blocks(NAMES)
    # 10:05 the machine loses power while the candidate is held
    scene.restart()
    assert scene.held == first
    assert isp.blocks(NAMES)
    # 10:30 everything again, twice
    doubled = NAMES | domains(*(f"d{number}.example" for number in range(100)))
    scene.pull(doubled, code=4)
    second = scene.held
    assert second != first
    assert "max_added: found 100.0% (100 of 100), limit 20%" in scene.cli("candidate", "show", second)
    assert isp.blocks(NAMES)
    # 10:40 the reviewer had opened the first one before lunch
    text = scene.cli("candidate", "approve", first, code=1)
    assert "superseded" in text, text
    assert isp.blocks(NAMES)
    # 11:00 the hotline confirms the second one
    assert "released as version 2" in scene.cli("candidate", "approve", second)
    assert isp.blocks(doubled)
    # 12:00
    scene.pull(doubled | NEW)
    assert isp.blocks(doubled | NEW)


@pytest.mark.parametrize("changed", ["csv", "json", "uris"])
def test_a_hotline_that_changes_its_format(incident: Callable[..., Incident], changed: str) -> None:
    """A list of names, one a line, becomes a table, a document, or URLs: nothing is added and nothing lost."""
    scene = incident(form="text")
    isp = scene.begin(NAMES)
    names = sorted(value for _, value in NAMES)
    body = {
        "csv": "domain;date\n" + "".join(f"{name};2026-01-01\n" for name in names),
        "json": '[{"domain": "' + '"},\n{"domain": "'.join(names) + '"}]\n',
        "uris": "".join(f"https://{name}/\n" for name in names),
    }[changed]
    # 10:00
    scene.hotline.publish(body.encode())
    text = scene.pull(code=1)
    assert "failed: none of 10" in text, text
    assert {"csv": "check `url` and `format`", "json": "this is JSON", "uris": "these are URLs"}[changed] in text
    assert isp.blocks(NAMES)
    # 10:05 the operator looks for the reason
    assert "none of 10" in scene.cli("source", "show", "hotline")
    # 11:00 the hotline goes back to what was agreed
    scene.pull(NAMES | NEW)
    assert isp.blocks(NAMES | NEW)
    scene.is_quiet_about("n5.example")


def test_the_key_of_a_hotline_is_changed_without_a_word_and_then_announced(incident: Callable[..., Incident]) -> None:
    scene = incident()
    isp = scene.begin(NAMES)
    # 09:00 another key
    scene.hotline.rotate_key()
    text = scene.pull(NAMES | NEW, code=1)
    assert "failed" in text
    assert "key" in text, text
    assert isp.blocks(NAMES)
    # 09:30 the hotline confirms it by telephone; both keys are trusted for the change
    (scene.folder / "new.pub").write_text(scene.hotline.public_key_text)
    scene.daemon.config["sources"]["hotline"]["verify"]["key"] = ["hotline.pub", "new.pub"]
    scene.daemon.write_config()
    scene.cli("reload")
    scene.pull()
    assert isp.blocks(NAMES | NEW)


def test_the_key_of_a_hotline_is_stolen(incident: Callable[..., Incident]) -> None:
    scene = incident()
    isp = scene.begin(NAMES)
    scene.pull(NAMES | NEW)
    # 02:00 a thief publishes, within the guards
    key, since = scene.daemon.ask("source show", source="hotline").json["key"], datetime.now(UTC).isoformat()
    forged = domains(*(f"forged{number}.example" for number in range(8)))
    scene.pull(NAMES | NEW | forged)
    assert isp.blocks(NAMES | NEW | forged)
    # 09:00 the hotline calls
    text = scene.cli(
        *("source", "distrust", "hotline", "--key", key[:16], "--since", since, "--why", "stolen, ticket 9"), code=4
    )
    assert f"candidate show {scene.held}" in text
    # 09:05 the thief tries again, also with a list that would supersede the held one
    scene.pull(NAMES | domains("more.example"), code=1)
    # 09:10
    scene.cli("candidate", "approve", scene.held)
    assert isp.blocks(NAMES | NEW)
    # 12:00 the new key
    scene.hotline.rotate_key()
    scene.write_key()
    scene.cli("reload")
    scene.pull(NAMES)
    assert isp.blocks(NAMES)
