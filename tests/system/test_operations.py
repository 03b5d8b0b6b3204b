"""The daemon as an operator uses it: reload, roles, several sources, review, retention, repair, watchdog."""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import minisign
import pytest

from blocklistd import __version__
from blocklistd.cli.control import ControlClient
from blocklistd.daemon.commands import COMMANDS
from blocklistd.model import IntakeReport, Sha256, SourceId
from blocklistd.store import upkeep
from blocklistd.store.pulls import accept_body
from blocklistd.store.replays import superseded
from tests.certificates import make_certificate
from tests.peers import unchecked
from tests.system.daemon import ANSWER_WITHIN, USER, Daemon
from tests.versions_of import LIST, Versions

TLS = "tls: {cert: feed.pem, key: {file: feed.key}}"
NAMES = [f"n{number}.example" for number in range(100)]


def source(folder: Path, name: str, **more: Any) -> dict[str, Any]:
    return {
        "url": f"file:{folder}/{name}.txt",
        "format": "text",
        "defaults": {"type": "domain"},
        "schedule": "every 1d",
        "verify": {"method": "none"},
        **more,
    }


def write(folder: Path, name: str, lines: list[str]) -> None:
    (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))


def values(snapshot: bytes) -> set[str]:
    return {json.loads(line)["value"] for line in snapshot.splitlines()}


def reload(daemon: Daemon, says: str = "reloaded") -> None:
    """Sends SIGHUP and waits for the result in the log."""
    assert daemon.process is not None
    before = daemon.log.count(says)
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for(lambda: daemon.log.count(says) > before)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon with one list of two sources."""
    write(tmp_path, "first", NAMES)
    write(tmp_path, "second", [*NAMES[50:], "only.example"])
    daemon = Daemon(
        tmp_path,
        {
            "sources": {name: source(tmp_path, name) for name in ("first", "second")},
            "lists": {"national": {"sources": ["first", "second"]}},
        },
    )
    with daemon:
        for name in ("first", "second"):
            daemon.first_pull(name)
        yield daemon


def test_the_caller_of_a_waiting_command_can_read_its_stage(tmp_path: Path) -> None:
    """No other user can read it."""
    goes_on, asked = threading.Semaphore(0), threading.Semaphore(0)

    class Hotline(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.release()
            assert goes_on.acquire(timeout=60)
            body = b"a.example\n"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hotline) as hotline:
        threading.Thread(target=hotline.serve_forever, daemon=True).start()
        first = source(tmp_path, "first", url=f"http://127.0.0.1:{hotline.server_port}/list.txt")
        daemon = Daemon(tmp_path, {"sources": {"first": first}, "lists": {"national": {"sources": ["first"]}}})
        with daemon:
            control = ControlClient(tmp_path / "c.sock")
            assert asked.acquire(timeout=60), "its own first pull"
            done: list[Any] = []

            def pull() -> None:
                done.append(control.ask(COMMANDS["source pull"], {"source": "first"}, "mine"))

            pulling = threading.Thread(target=pull)
            pulling.start()
            assert control.stage("mine") == (None, None), "it waits for the pull that runs"
            goes_on.release()
            assert asked.acquire(timeout=60)
            assert {control.stage("mine") for _ in range(100)} == {("fetch", "first")}, "each time"
            assert control.stage("another's") == (None, None)
            goes_on.release()
            pulling.join(60)
            assert [pulled["outcome"] for pulled in done] == ["unchanged"]
            assert control.stage("mine") == (None, None)
        hotline.shutdown()


def test_the_log_contains_program_version_listeners_and_each_version(two: Daemon, tmp_path: Path) -> None:
    said = [json.loads(line)["message"] for line in two.log.splitlines()]
    assert (
        f"ready: version {__version__}, configuration {two.path}; feed (http) on 127.0.0.1:{two.feed_port}; "
        f"ops on 127.0.0.1:{two.ops_port}; control on {tmp_path}/c.sock; status on {tmp_path}/status.sock"
    ) in said
    assert "list national: version 1 is live: 101 added, 0 removed, 0 changed, 101 entries, released by auto" in said
    write(tmp_path, "second", [*NAMES[50:], "other.example"])
    two.pull("second")
    assert "list national: version 2 is live: 1 added, 1 removed, 0 changed, 101 entries, released by auto" in two.log
    shown = two.ask("source show", source="first").json
    due = datetime.fromisoformat(shown["next_pull"]) - datetime.now(UTC)
    assert timedelta(hours=20) < due < timedelta(hours=28), "a day, and its jitter"
    assert abs(due.total_seconds() - shown["next_in"]) < 60


def test_an_entry_stays_listed_while_one_source_asserts_it(two: Daemon, tmp_path: Path) -> None:
    token = two.subscriber("isp", "national")
    assert values(two.snapshot("national", token)) == {*NAMES, "only.example"}
    write(tmp_path, "first", NAMES[:95])  # the second still asserts the five
    assert two.pull("first")["outcome"] == "unchanged"
    write(tmp_path, "second", NAMES[50:95])
    assert two.pull("second")["outcome"] == "published"
    assert values(two.snapshot("national", token)) == set(NAMES[:95])


def test_removing_a_source_goes_through_the_guards(two: Daemon, tmp_path: Path) -> None:
    token = two.subscriber("isp", "national")
    before = two.snapshot("national", token)
    two.config["lists"]["national"]["sources"] = ["second"]
    two.write_config()
    reload(two)
    two.wait_for(lambda: bool(two.ask("candidate list").json))
    assert two.snapshot("national", token) == before, "half of the list would go: somebody has to look"
    held = two.ask("candidate list").json[0]
    assert held["removed"] == 50
    two.approve(held["id"])
    assert values(two.snapshot("national", token)) == {*NAMES[50:], "only.example"}


def test_a_reload_judges_held_candidates_by_the_new_guards(two: Daemon, tmp_path: Path) -> None:
    """Only a reviewer releases a held candidate, even if no guard would hold it any more."""
    write(tmp_path, "first", NAMES[:10])
    first = two.pull("first")["candidate"]

    def limits() -> list[str]:
        return [reason["limit"] for held in two.ask("candidate list").json for reason in held["reasons"]]

    for limit, expected in (("10%", "10%"), ("30%", "30%"), ("50%", "a person's")):  # 40 of 101 would go
        two.config["lists"]["national"]["guards"] = {"max_removed": limit, "daily": "off"}
        two.write_config()
        reload(two)
        two.wait_for(lambda: limits() == [expected])  # noqa: B023
        pulled = two.pull("first")
        assert (pulled["outcome"], pulled["candidate"]) == ("held", first)
        assert pulled["versions"] == {"national": 1}
    two.approve(first)
    assert two.pull("first")["versions"] == {"national": 2}


def test_a_candidate_of_a_removed_list_can_only_be_rejected(two: Daemon, tmp_path: Path) -> None:
    two.config["lists"]["other"] = {"sources": ["second"]}
    two.write_config()
    reload(two)
    write(tmp_path, "first", NAMES[:10])
    held = two.pull("first")["candidate"]
    del two.config["lists"]["national"]
    two.write_config()
    reload(two)
    refused = two.ask("candidate approve", candidate=held)
    assert (refused.status, "list national no longer takes source first" in refused.json["detail"]) == (409, True)
    assert two.ask("candidate list").json[0]["approvals"] == [], "nobody's word counts for what was not done"
    assert two.ask("candidate reject", candidate=held, why="gone").status == 200
    assert two.ask("candidate list").json == []


def test_an_added_list_gets_its_entries_at_once(two: Daemon) -> None:
    two.config["lists"]["second-list"] = {"sources": ["second"]}
    two.write_config()
    reload(two)
    two.wait_for(lambda: two.ask("status").json["lists"].get("second-list", {}).get("version") == 1)
    token = two.subscriber("isp", "second-list")
    assert values(two.snapshot("second-list", token)) == {*NAMES[50:], "only.example"}


def test_a_refused_reload_keeps_the_running_configuration(two: Daemon, tmp_path: Path) -> None:
    make_certificate(tmp_path, "feed")
    right = two.path.read_text()
    for wrong, says in (
        (right + "\nnonsense: 1\n", "nonsense"),
        (right.replace("state_dir: state", "state_dir: elsewhere"), "only a restart changes it"),
        (right + "\nzones: {rpz.example: {list: national}}\n", "dns (opened with the first zone"),
        (
            right.replace("\nfeed:\n", f"\nfeed:\n  {TLS}\n"),
            "feed.tls (set or not set): found another value than the running one",
        ),
        ("{", "reload refused"),
    ):
        two.path.write_text(wrong)
        reload(two, "reload refused")
        assert says in two.log
        assert two.ops("/readyz").status == 200
    two.path.write_text(right)
    reload(two)
    assert two.pull("first")["outcome"] == "unchanged"


def test_a_source_in_quarantine_is_counted_and_contributes_nothing(tmp_path: Path) -> None:
    write(tmp_path, "first", NAMES)
    write(tmp_path, "new", ["new.example"])
    config = {
        "sources": {"first": source(tmp_path, "first"), "new": source(tmp_path, "new", quarantine=True)},
        "lists": {"national": {"sources": ["first", "new"]}},
    }
    with Daemon(tmp_path, config) as daemon:
        for name in ("first", "new"):
            daemon.first_pull(name)
        token = daemon.subscriber("isp", "national")
        assert values(daemon.snapshot("national", token)) == set(NAMES)
        shown = daemon.ask("source show", source="new").json
        assert (shown["quarantine"], shown["entries"], shown["outcome"]) == (True, 1, "unchanged")
        daemon.config["sources"]["new"]["quarantine"] = False
        daemon.write_config()
        reload(daemon)
        daemon.wait_for(lambda: "new.example" in values(daemon.snapshot("national", token)))


def test_a_source_leaves_quarantine_through_the_guards(tmp_path: Path) -> None:
    write(tmp_path, "first", NAMES)
    write(tmp_path, "new", [f"new{number}.example" for number in range(100)])
    config = {
        "sources": {"first": source(tmp_path, "first"), "new": source(tmp_path, "new", quarantine=True)},
        "lists": {"national": {"sources": ["first", "new"]}},
    }
    with Daemon(tmp_path, config) as daemon:
        for name in ("first", "new"):
            daemon.first_pull(name)
        daemon.config["sources"]["new"]["quarantine"] = False
        daemon.write_config()
        reload(daemon)
        daemon.wait_for(lambda: bool(daemon.ask("status").json["candidates"]))
        (held,) = daemon.ask("status").json["candidates"]
        assert "max_added" in {reason["guard"] for reason in held["reasons"]}
        token = daemon.subscriber("isp", "national")
        assert values(daemon.snapshot("national", token)) == set(NAMES)


def test_a_list_under_review_waits_for_a_person_each_time(tmp_path: Path) -> None:
    write(tmp_path, "first", NAMES)
    config = {
        "sources": {"first": source(tmp_path, "first")},
        "lists": {"national": {"sources": ["first"], "release": "review"}},
    }
    with Daemon(tmp_path, config) as daemon:
        daemon.first_pull("first")
        for version, names in enumerate([NAMES, [*NAMES, "new.example"]], 1):
            write(tmp_path, "first", names)
            held = daemon.pull("first")
            assert held["outcome"] == "held"
            assert daemon.approve(held["candidate"])["version"] == version
            assert daemon.ask("status").json["sources"]["first"]["outcome"] == "published"
        made = daemon.ask("list versions", list="national").json
        assert [one["released_by"] for one in made] == [USER, USER]


def test_status_and_log_name_an_unverified_source(two: Daemon) -> None:
    two.first_pull("first")
    assert two.ask("status").json["sources"]["first"]["verify"] == "none"
    assert "source first: its list is accepted without a proof of its origin (verify: none)" in two.log
    assert "source first (verify: none): " in two.log
    before = two.log.count("without a proof")
    reload(two)
    assert two.log.count("without a proof") == 2 * before


def test_a_file_url_reads_exactly_that_file(tmp_path: Path) -> None:
    write(tmp_path, "a%41 #1", ["right.example"])
    write(tmp_path, "aA #1", ["wrong.example"])
    named = source(tmp_path, "a%2541%20%231")
    config = {"sources": {"named": named}, "lists": {"national": {"sources": ["named"]}}}
    with Daemon(tmp_path, config) as daemon:
        daemon.first_pull("named")
        assert values(daemon.snapshot("national", daemon.subscriber("isp", "national"))) == {"right.example"}


def test_types_and_rules_withhold_single_entries(tmp_path: Path) -> None:
    lines = [
        {"t": "domain", "v": "a.example"},
        {"t": "domain", "v": "example"},  # a public suffix
        {"t": "url", "v": "http://192.0.2.1/x"},
        {"t": "url", "v": "http://a.example/x"},
        {"t": "sha256", "v": "0" * 64},
    ]
    (tmp_path / "mixed.txt").write_text("".join(json.dumps(line) + "\n" for line in lines))
    mixed = source(tmp_path, "mixed", format="ndjson", fields={"value": "/v", "type": "/t"})
    del mixed["defaults"]
    config = {
        "sources": {"mixed": mixed},
        "lists": {
            "names": {"sources": ["mixed"]},
            "open": {"sources": ["mixed"], "guards": {"allow_public_suffix": True, "allow_ip": True}},
            "hashes": {"sources": ["mixed"], "types": ["sha256"]},
        },
    }
    with Daemon(tmp_path, config) as daemon:
        daemon.first_pull("mixed")
        token = daemon.subscriber("isp", "names", "open", "hashes")
        found = {name: values(daemon.snapshot(name, token)) for name in ("names", "open", "hashes")}
    assert found["names"] == {"a.example", "http://a.example/x"}
    assert found["open"] == {"a.example", "example", "http://192.0.2.1/x", "http://a.example/x"}
    assert found["hashes"] == {"0" * 64}


def test_records_of_other_types_are_skipped_and_do_not_count_as_rejected(tmp_path: Path) -> None:
    mixed = source(tmp_path, "mixed", format="csv", fields={"value": "v", "type": "t"}, defaults={})
    others = "".join(f"f{number},pdq\n" for number in range(10)) + "0" * 64 + ",sha256\n"
    (tmp_path / "mixed.txt").write_text("v,t\na.example,host\n" + others)
    config = {"sources": {"mixed": mixed}, "lists": {"names": {"sources": ["mixed"]}}}
    with Daemon(tmp_path, config) as daemon:
        daemon.first_pull("mixed")
        (tmp_path / "mixed.txt").write_text("v,t\na.example,host\nb.example,host\n" + others)
        assert daemon.pull("mixed")["versions"] == {"names": 2}
        shown = daemon.ask("source show", source="mixed").json
        assert (shown["types"], shown["rejected"]) == ({"host": 2, "sha256": 1}, {"type-not-built": 10})


def test_withheld_entries_are_counted_in_status_source_candidate_and_metrics(tmp_path: Path) -> None:
    """Of 29,498 real names 255 were withheld; the operator must see that."""
    (tmp_path / "names.txt").write_text("test\ninvalid\nlocalhost\nok.example\n")
    config = {
        "sources": {"names": source(tmp_path, "names")},
        "lists": {"national": {"sources": ["names"], "release": "review"}},
    }
    with Daemon(tmp_path, config) as daemon:
        daemon.first_pull("names")
        told = daemon.pull("names")
        left_out = {"public_suffix": 3}
        assert (told["records"], told["entries"], told["rejected"]) == (4, 4, {})
        assert told["withheld"] == {"national": left_out}
        shown = daemon.ask("candidate show", candidate=told["candidate"]).json
        assert (shown["added"], shown["withheld"]) == (1, left_out)
        daemon.approve(told["candidate"])
        assert daemon.pull("names")["withheld"] == {"national": left_out}
        assert daemon.ask("status").json["lists"]["national"]["withheld"] == left_out
        assert daemon.ask("source show", source="names").json["lists"] == {"national": {"withheld": left_out}}
        metrics = daemon.ops("/metrics").body.decode()
        assert 'blocklistd_list_entries_withheld{list="national",rule="public_suffix"} 3.0' in metrics
        for command in (("source", "pull", "names"), ("source", "show", "names"), ("status",)):
            said = daemon.cli(*command, "-c", str(daemon.path)).stdout.decode()
            assert "3 (public_suffix 3)" in said, command
        assert b"public_suffix: 3" in daemon.cli("candidate", "show", told["candidate"], "-c", str(daemon.path)).stdout


def test_a_subscriber_of_the_feed_is_seen_by_its_own_requests(two: Daemon) -> None:
    token = two.subscriber("isp", "national")
    two.subscriber("silent", "national")

    def seen(name: str) -> str | None:
        found: str | None = two.ask("status").json["subscribers"][name]["seen"]
        assert found == two.ask("subscriber show", id=name).json["seen"]
        return found

    assert (seen("isp"), seen("silent")) == (None, None)
    etag = two.get("/v1/lists/national", token).headers["etag"]
    first = seen("isp")
    assert first is not None
    two.wait_for(
        lambda: two.get("/v1/lists/national", token, If_None_Match=etag).status == 304 and seen("isp") != first
    )
    assert seen("silent") is None


def test_a_url_with_only_a_fragment_is_withheld_and_does_not_count_as_rejected(tmp_path: Path) -> None:
    """Without its fragment the URL would list the whole front page of its host."""
    alone = [f"https://{number}.example/#/spa/page" for number in range(10)]
    write(tmp_path, "pages", ["https://a.example/x#part", *alone])
    pages = source(tmp_path, "pages", defaults={"type": "url"})
    with Daemon(tmp_path, {"sources": {"pages": pages}, "lists": {"urls": {"sources": ["pages"]}}}) as daemon:
        daemon.first_pull("pages")
        write(tmp_path, "pages", ["https://a.example/x#part", *alone, "https://ok.example/"])
        assert daemon.pull("pages")["versions"] == {"urls": 2}
        assert values(daemon.snapshot("urls", daemon.subscriber("isp", "urls"))) == {
            "https://a.example/x",
            "https://ok.example/",
        }
        shown = daemon.ask("source show", source="pages").json
        assert (shown["withheld"], shown["first_rejected"]) == ({"fragment": 10}, {"fragment": 2})


def test_roles_follow_the_uid(tmp_path: Path) -> None:
    """The operators' socket is open to their group, and there each may do what the roles of its uid say. Everybody's
    socket answers the status and nothing else, whatever user asks."""
    if os.geteuid() != 0:
        unchecked("needs root, to become another user")
    folder = Path(tempfile.mkdtemp(prefix="blocklistd-test-"))
    folder.chmod(0o755)
    write(folder, "first", NAMES)
    config: dict[str, Any] = {
        "sources": {"first": source(folder, "first")},
        "lists": {"national": {"sources": ["first"]}},
    }
    group = grp.getgrgid(pwd.getpwnam("nobody").pw_gid).gr_name
    config["control"] = {"socket": "c.sock", "group": group, "operators": {USER: ["admin"], "nobody": ["reviewer"]}}
    ask = (
        "import http.client, socket, sys\n"
        "c = http.client.HTTPConnection('localhost'); c.sock = socket.socket(socket.AF_UNIX)\n"
        f"c.sock.connect('{folder}/' + sys.argv[1]); c.request('POST', sys.argv[2])\n"
        "r = c.getresponse(); print(r.status, r.read().decode())"
    )

    def by(user: str, where: str, path: str) -> str:
        done = subprocess.run(
            ["/usr/bin/python3", "-c", ask, where, path], user=user, group=pwd.getpwnam(user).pw_gid, extra_groups=[],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.stdout or done.stderr.splitlines()[-1]

    with Daemon(folder, config) as daemon:
        daemon.first_pull("first")
        modes = [stat.S_IMODE((folder / name).stat().st_mode) for name in ("c.sock", "status.sock")]
        assert modes == [0o660, 0o666]
        for user in ("nobody", "daemon"):
            assert by(user, "status.sock", "/status").startswith("200")
            for path in ("/source/pull", "/candidate/list", "/subscriber/add", "/keys/show"):
                assert by(user, "status.sock", path).startswith("404")
        assert by("daemon", "c.sock", "/status").startswith("PermissionError")
        assert by("nobody", "c.sock", "/candidate/list").startswith("200")
        for path, why in (("/source/pull", "a reviewer is no editor"), ("/keys/show", "keys are the admin's")):
            assert by("nobody", "c.sock", path).startswith("403"), why
        del daemon.config["control"]["operators"]["nobody"]
        daemon.write_config()
        reload(daemon)
        refused = by("nobody", "c.sock", "/candidate/list")
        assert refused.startswith("403")
        assert "nobody" in refused
    subprocess.run(["rm", "-r", str(folder)], check=True)


@pytest.mark.parametrize("name", ["", "..", "first/pull", "%2e", "first?x=1"])
def test_an_id_can_not_be_a_path(two: Daemon, name: str) -> None:
    for group in ("source", "candidate", "subscriber"):
        refused = two.cli(group, "show", name, "-c", str(two.path), check=False)
        assert refused.returncode == 1
        assert refused.stderr.startswith(f"blocklistd: there is no such {group}".encode())


def test_the_control_socket_of_a_running_daemon_is_not_replaced(two: Daemon, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    second = Daemon(tmp_path / "second", {"control": {"socket": str(tmp_path / "c.sock"), "operators": {}}})
    second.init_keys()
    second.launch()
    assert second.process is not None
    assert second.process.wait(60) == 1
    assert "another daemon answers there" in second.log
    assert two.ask("status").status == 200
    two.kill()
    two.start()  # the socket that it left is nobody's
    two.stop()
    (tmp_path / "c.sock").write_text("a file of somebody's")
    two.launch()
    assert two.process is not None
    assert two.process.wait(60) == 1
    assert "is not a socket" in two.log
    assert (tmp_path / "c.sock").read_text() == "a file of somebody's"


def test_only_the_daemon_can_read_its_files(two: Daemon, tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert stat.S_IMODE(state.stat().st_mode) == 0o711
    for path in state.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert stat.S_IMODE((tmp_path / "keys" / "online.pem").stat().st_mode) == 0o600


def test_a_damaged_snapshot_is_made_again(two: Daemon, tmp_path: Path) -> None:
    token = two.subscriber("isp", "national")
    before = two.snapshot("national", token)
    digest = two.get("/v1/lists/national", token).json["sha256"]
    two.stop()
    sealed = tmp_path / "state" / "sealed" / digest[:2]
    (sealed / digest).write_bytes(b"damaged\n")
    (sealed / f"{digest}.zst").unlink(missing_ok=True)
    two.start()
    assert "made again" in two.log
    assert two.snapshot("national", token) == before
    assert two.ops("/readyz").status == 200


def test_a_stopping_daemon_is_not_ready_and_gives_a_request_ten_seconds(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        late = {"url": f"http://127.0.0.1:{silent.getsockname()[1]}/list.txt", "timeout": "60s"}
        config = {
            "sources": {"late": source(tmp_path, "late", **late)},
            "lists": {"national": {"sources": ["late"]}},
        }
        with Daemon(tmp_path, config) as daemon:
            assert daemon.process is not None
            with socket.socket(socket.AF_UNIX) as asking:
                asking.connect(str(tmp_path / "c.sock"))
                body = b'{"source":"late"}'
                head = f"POST /source/pull HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
                asking.sendall(head.encode() + body)
                with silent.accept()[0]:  # it is at work
                    daemon.process.send_signal(signal.SIGTERM)
                    daemon.wait_for(lambda: daemon.ops("/readyz").body == b"stopping\n")
                    daemon.process.wait(20)


def test_an_existing_state_dir_gets_mode_0700(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o755)
    with Daemon(tmp_path, {}) as daemon:
        assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o711
        assert daemon.process is not None
        limits = Path(f"/proc/{daemon.process.pid}/limits").read_text()
        assert re.search("^Max core file size +0 +0 ", limits, re.M), "a core would hold the online key"


def test_a_regular_file_at_control_socket_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "c.sock").write_text("precious")
    daemon = Daemon(tmp_path, {})
    daemon.init_keys()
    daemon.launch()
    assert daemon.process is not None
    assert daemon.process.wait(60) == 1
    assert "is not a socket" in daemon.log
    assert (tmp_path / "c.sock").read_text() == "precious"


def test_an_invalid_request_is_refused_and_not_repeated_in_the_log(two: Daemon) -> None:
    for wrong in (
        b"GET /v1/lists HTTP/1.1\r\nzq7secret\r\n\r\n",
        b"zq7secret /\r\n\r\n",
        b"GET http://[zq7secret/ HTTP/1.1\r\n\r\n",
    ):
        for port in (two.feed_port, two.ops_port):
            with socket.create_connection(("127.0.0.1", port), 10) as connection:
                connection.sendall(wrong)
                answer = b"".join(iter(lambda: connection.recv(4096), b""))
            assert answer.split(b" ")[1] == b"400"
            assert b"application/problem+json" in answer
            assert b"zq7secret" not in answer
    assert "zq7secret" not in two.log


def test_an_unknown_id_is_not_repeated_in_response_and_log(two: Daemon) -> None:
    mark = "zq7secret"
    for command in (
        "source pull",
        "source show",
        "candidate show",
        "candidate approve",
        "list versions",
        "subscriber show",
        "subscriber revoke",
        "subscriber add --list national",
        "subscriber add isp --list",
        "subscriber add isp --zone",
    ):
        for mistaken in (f"https://{mark}.example/x", f"{mark}.example"):
            refused = two.cli(*command.split(), mistaken, "-c", str(two.path), check=False)
            assert refused.returncode == 1
            assert refused.stderr
            assert mark not in (refused.stdout + refused.stderr).decode()
    assert mark not in two.log


def test_a_drop_folder_accepts_any_file_name(tmp_path: Path) -> None:
    (tmp_path / "drop").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/drop/caf\xe9\n.txt")).write_text("a.example\n")
    (tmp_path / "hotline.pub").write_bytes(bytes(minisign.KeyPair.generate().public_key) + b"\n")
    drop = source(tmp_path, "drop", url=f"file:{tmp_path}/drop", verify={"method": "minisign", "key": "hotline.pub"})
    with Daemon(tmp_path, {"sources": {"drop": drop}}) as daemon:
        daemon.first_pull("drop")
        assert r"caf\udce9\n.txt.minisig: No such file" in daemon.pull("drop")["reason"]
        assert all(json.loads(line) for line in daemon.log.splitlines())


def test_the_loop_feeds_the_watchdog(two: Daemon, tmp_path: Path) -> None:
    two.stop()
    where = tmp_path / "watch.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(where))
        systemd.settimeout(30)
        two.launch(NOTIFY_SOCKET=str(where), WATCHDOG_USEC="400000")
        heard: list[bytes] = []
        while heard.count(b"WATCHDOG=1") < 3:
            heard.append(systemd.recv(4096))
        assert any(b"READY=1" in message for message in heard)
        assert two.stop() == 0
        while not any(b"STOPPING=1" in message for message in heard):
            heard.append(systemd.recv(4096))


def test_a_pull_that_is_due_is_made_at_start(tmp_path: Path) -> None:
    write(tmp_path, "first", NAMES)
    config = {
        "sources": {"first": source(tmp_path, "first", schedule="every 1h")},
        "lists": {"national": {"sources": ["first"]}},
    }
    with Daemon(tmp_path, config) as daemon:
        daemon.first_pull("first")
        first = daemon.ask("source show", source="first").json
        daemon.stop()
        daemon.start()
        assert len(daemon.ask("source show", source="first").json["history"]) == len(first["history"]), (
            "its time has not come"
        )
        daemon.stop()
        daemon.config["sources"]["first"]["schedule"] = "every 1s"
        daemon.write_config()
        daemon.start()
        daemon.wait_for(lambda: len(daemon.ask("source show", source="first").json["history"]) > len(first["history"]))


def test_diffs_are_served_from_the_oldest_kept_version(tmp_path: Path) -> None:
    """Diffs are kept for 90 days and 100 versions. Older ones get 410; `oldest_diff` is the oldest that is kept."""
    versions = Versions(tmp_path)
    for number in range(130):
        versions.publish(versions.seal([*NAMES, f"v{number}.example"]))
    now = datetime(2027, 11, 20, tzinfo=UTC)
    with versions.database.write() as connection:
        assert upkeep.oldest_to_keep(connection, LIST, timedelta(days=9999), now) == 1
        oldest = upkeep.oldest_to_keep(connection, LIST, timedelta(days=90), now)
        assert oldest == 31
        upkeep.prune(connection, LIST, oldest)
    from blocklistd.store.lists import oldest_diff

    with versions.database.read() as connection:
        assert oldest_diff(connection, LIST) == 31
    assert versions.diff(31, 130).count(b"\n") == 2
    from blocklistd.errors import StoreError

    with pytest.raises(StoreError, match="pruned"):
        versions.diff(30, 130)
    versions.close()


def test_a_missing_configuration_is_explained(tmp_path: Path) -> None:
    """Without a configuration file."""
    done = subprocess.run(
        [sys.executable, "-m", "blocklistd", "serve", "-c", str(tmp_path / "absent.yaml")],
        capture_output=True,
        text=True,
        timeout=ANSWER_WITHIN,
        check=False,
    )
    assert done.returncode == 2
    assert "absent.yaml" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_changed_settings_are_not_hidden_by_an_unchanged_body(two: Daemon, tmp_path: Path) -> None:
    """After a change of type, proof or list, the unchanged body is fetched and parsed again."""
    assert two.pull("first")["outcome"] == "unchanged"
    two.config["sources"]["first"]["defaults"] = {"type": "host"}
    two.write_config()
    reload(two)
    assert two.pull("first")["outcome"] == "held", "every entry would be another"
    two.config["sources"]["first"]["verify"] = {"method": "minisign", "key": "hotline.pub"}
    (tmp_path / "hotline.pub").write_bytes(bytes(minisign.KeyPair.generate().public_key) + b"\n")
    two.write_config()
    reload(two)
    assert two.pull("first")["outcome"] == "failed", "there is no signature"


def test_a_damaged_snapshot_is_never_a_base(two: Daemon, tmp_path: Path) -> None:
    token = two.subscriber("isp", "national")
    status = two.get("/v1/lists/national", token).json
    sealed = tmp_path / "state" / "sealed" / status["sha256"][:2] / status["sha256"]
    whole = sealed.read_bytes()
    sealed.write_bytes(whole.replace(b"n1.example", b"m1.example"))
    write(tmp_path, "first", [*NAMES, "new.example"])
    assert two.pull("first")["outcome"] == "published"
    assert "made again" in two.log
    assert values(two.snapshot("national", token)) == {*NAMES, "only.example", "new.example"}


def test_a_superseded_body_without_a_time_stays_superseded(tmp_path: Path) -> None:
    """Bodies signed at 5, without a time, and at 9: the body without a time does not count as newer."""
    versions = Versions(tmp_path)

    def said(name: str, signed_at: int | None) -> IntakeReport:
        return IntakeReport(Sha256("0" * 64), Sha256("1" * 64), 1, 1, {}, {}, {}, 0, Sha256(name * 64), signed_at)

    hotline = SourceId("hotline")
    with versions.database.write() as connection:
        for report in (said("a", 5), said("b", None), said("c", 9)):
            accept_body(connection, hotline, report, "")
        assert superseded(connection, hotline) == ["b" * 64], "a is refused by its time"
    versions.close()


def test_a_damaged_list_that_cannot_be_made_again_is_not_sent(two: Daemon, tmp_path: Path) -> None:
    """Version and signatures stay; the file is sent again once the sources can be read."""
    token = two.subscriber("isp", "national")
    before = two.snapshot("national", token)
    status = two.get("/v1/lists/national", token).json
    two.stop()
    for path in (tmp_path / "state" / "sealed").glob("*/[0-9a-f]*"):
        path.write_bytes(b"damaged\n")
    for name in ("first", "second"):
        (tmp_path / f"{name}.txt").rename(tmp_path / f"{name}.away")
    two.start()
    assert two.get("/v1/lists/national", token).json["version"] == status["version"]
    assert two.get(f"/v1/lists/national/targets/{status['sha256']}.national.ndjson", token).status == 503
    ready = two.ops("/readyz")
    assert (ready.status, b"damaged" in ready.body) == (503, True)
    for name in ("first", "second"):
        (tmp_path / f"{name}.away").rename(tmp_path / f"{name}.txt")
        two.pull(name)
    two.wait_for(lambda: two.ops("/readyz").status == 200)
    assert two.snapshot("national", token) == before


def test_faults_that_leave_the_node_ready_are_in_readyz_and_status(tmp_path: Path) -> None:
    """With a silent source the last version is served, so a load balancer must keep the node."""
    write(tmp_path, "hotline", NAMES)
    config = {
        "sources": {"hotline": source(tmp_path, "hotline"), "gone": source(tmp_path, "gone", max_age="1s")},
        "lists": {"national": {"sources": ["hotline"]}, "empty": {"sources": ["gone"]}},
    }
    with Daemon(tmp_path, config) as daemon:
        daemon.first_pull("gone")
        daemon.stop()
        daemon.start()
        text = "source gone is overdue: its newest list is older than max_age (1s): no pull was accepted yet: "
        text += "run `blocklistd source show gone`"
        daemon.wait_for(lambda: text in daemon.ask("status").json["alarms"])
        ready = daemon.ops("/readyz")
        assert (ready.status, ready.body.decode().splitlines()) == (200, ["ready", text])
        metrics = daemon.ops("/metrics").body.decode()
        assert 'blocklistd_alarms_active{alarm="source_overdue"} 1.0' in metrics
        assert "blocklistd_ready 1.0" in metrics


def test_sigterm_stops_the_daemon_while_the_jobs_start(tmp_path: Path) -> None:
    slowly = """
import asyncio, sys
from blocklistd.__main__ import main
from blocklistd.jobs.runner import Jobs
async def warm(self):
    await asyncio.sleep(100)
Jobs.warm = warm
sys.argv = sys.argv[3:]
main()
"""
    daemon = Daemon(tmp_path, {})
    daemon.prefix = [sys.executable, "-c", slowly]
    with daemon:
        assert daemon.stop() == 0
