"""Alarms reach people: by a webhook and by a command, each once, whatever these do."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.system.daemon import Daemon
from tests.system.test_operations import reload


class Receiver:
    """A server for the webhook. `mode` is the status that it answers, or `hang`."""

    def __init__(self) -> None:
        self.mode: int | str = 200
        self.got: list[dict[str, Any]] = []
        self.tokens: list[str | None] = []
        self.seen = 0
        self.release = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.seen += 1
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.tokens.append(self.headers.get("Authorization"))
                if outer.mode == "hang":
                    outer.release.wait(60)
                    return
                assert isinstance(outer.mode, int)
                self.send_response(outer.mode)
                if outer.mode == 302:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()
                if outer.mode == 200:
                    outer.got.append(body)

            def do_GET(self) -> None:
                outer.got.append({"followed": self.path})

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/hook"

    def of(self, alarm: str) -> list[str]:
        return [one["state"] for one in self.got if one.get("alarm") == alarm]

    def stop(self) -> None:
        self.release.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.stop()


def script(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def daemon_of(folder: Path, **alarms: Any) -> Daemon:
    """A daemon whose source is a folder, hence overdue until the first pull is accepted."""
    (folder / "list.txt").write_text("".join(f"n{number}.test\n" for number in range(100)))
    source = {
        "url": f"file:{folder}/list.txt",
        "format": "text",
        "defaults": {"type": "host"},
        "schedule": "every 1d",
        "verify": {"method": "none"},
    }
    return Daemon(
        folder, {"sources": {"hotline": source}, "lists": {"national": {"sources": ["hotline"]}}, "alarms": alarms}
    )


def hold(daemon: Daemon) -> str:
    """A change that a guard holds; the id of the candidate."""
    (daemon.folder / "list.txt").write_text("n0.test\nsecret-name.test\n")
    assert daemon.pull("hotline")["outcome"] == "held"
    (held,) = daemon.ask("status").json["candidates"]
    return str(held["id"])


def delivered(daemon: Daemon) -> bool:
    return not daemon.ask("status").json["undelivered"]


def test_a_candidate_that_waits_too_long_is_told_once_and_its_end_once(tmp_path: Path, receiver: Receiver) -> None:
    out = tmp_path / "mails"
    command = [
        script(tmp_path, "sendmail", f'cat >>{out}; echo "to $1 with $(env | grep -c HOOK_TOKEN)" >>{out}'),
        "oncall",
    ]
    (tmp_path / "hook.token").write_text("t0ken\n")
    (tmp_path / "hook.token").chmod(0o600)
    webhook = {"url": receiver.url, "bearer": {"file": str(tmp_path / "hook.token")}}
    with daemon_of(tmp_path, webhook=webhook, command=command, review_within="1s") as daemon:
        daemon.first_pull("hotline")
        candidate = hold(daemon)
        daemon.wait_for(lambda: receiver.of("candidate_waiting") == ["raised"])
        (told,) = [one for one in receiver.got if one["alarm"] == "candidate_waiting"]
        assert told["subject"] == candidate
        assert candidate in told["text"]
        assert receiver.tokens[-1] == "Bearer t0ken"
        daemon.wait_for(lambda: out.exists() and "oncall" in out.read_text())
        daemon.stop()
        with daemon:  # the cause is still there: nobody is told again
            daemon.wait_for(lambda: candidate in daemon.ops("/readyz").body.decode())
            daemon.wait_for(lambda: delivered(daemon))
            assert receiver.of("candidate_waiting") == ["raised"]
            daemon.approve(candidate)
            daemon.pull("hotline")
            daemon.wait_for(lambda: receiver.of("candidate_waiting") == ["raised", "cleared"])
            daemon.wait_for(lambda: out.read_text().count("to oncall with 0") == 2)
            mails = out.read_text()
            assert mails.count("Subject: [blocklistd") == 2
            assert "secret-name" not in mails + json.dumps(receiver.got) + daemon.log


def test_an_alarm_whose_cause_goes_while_the_daemon_is_down_is_over(tmp_path: Path, receiver: Receiver) -> None:
    with daemon_of(tmp_path, webhook={"url": receiver.url}, review_within="1s") as daemon:
        daemon.first_pull("hotline")
        candidate = hold(daemon)
        daemon.wait_for(lambda: receiver.of("candidate_waiting") == ["raised"])
        daemon.stop()
        daemon.config["alarms"]["review_within"] = "30d"
        daemon.write_config()
        with daemon:
            daemon.wait_for(lambda: receiver.of("candidate_waiting") == ["raised", "cleared"])
            assert receiver.got[-1]["subject"] == candidate


def test_a_halt_is_over_after_a_restart_with_the_right_configuration(tmp_path: Path, receiver: Receiver) -> None:
    daemon = daemon_of(tmp_path, webhook={"url": receiver.url})
    with daemon:
        daemon.first_pull("hotline")
        daemon.stop()
        daemon.config["high_water"] = "not-mounted/high-water"
        daemon.write_config()
        with daemon:
            daemon.wait_for(lambda: receiver.of("halted") == ["raised"])
            daemon.wait_for(lambda: "sent" in _states(daemon))
        del daemon.config["high_water"]
        daemon.write_config()
        with daemon:
            daemon.wait_for(lambda: receiver.of("halted") == ["raised", "cleared"])
            daemon.wait_for(lambda: delivered(daemon))
    assert all(one["text"] for one in receiver.got)
    assert receiver.of("high_water_write") in ([], ["raised", "cleared"])


def _states(daemon: Daemon) -> set[str]:
    """`sent` if the delivery of the halt is recorded."""
    with contextlib.closing(sqlite3.connect(daemon.folder / "state" / "blocklistd.sqlite")) as database:
        rows = database.execute("SELECT sent FROM sent_alarms WHERE kind = 'halted'").fetchall()
    return {"sent" for (sent,) in rows if sent is not None}


@pytest.mark.parametrize("mode", [500, 302, "hang"])
def test_a_failing_webhook_blocks_nothing_and_is_tried_again(
    tmp_path: Path, receiver: Receiver, mode: int | str
) -> None:
    receiver.mode = mode
    out = tmp_path / "mails"
    command = [script(tmp_path, "sendmail", f"cat >>{out}")]
    with daemon_of(tmp_path, webhook={"url": receiver.url}, command=command, review_within="1s") as daemon:
        daemon.first_pull("hotline")
        began = time.monotonic()
        candidate = hold(daemon)
        assert time.monotonic() - began < 10
        daemon.wait_for(lambda: out.exists() and candidate in out.read_text())
        daemon.wait_for(lambda: receiver.seen > 0)
        assert not receiver.got
        (waiting,) = daemon.ask("status").json["undelivered"]
        assert (waiting["way"], waiting["alarm"], waiting["state"]) == ("webhook", "candidate_waiting", "raised")
        if mode == "hang":
            return
        daemon.wait_for(lambda: "alarm not sent by webhook" in daemon.log)
        assert str(mode) in daemon.ask("status").json["undelivered"][0]["reason"]
        assert 'outcome="failed"' in daemon.ops("/metrics").body.decode()
        assert "not delivered by webhook" in daemon.cli("status", "-c", str(daemon.path)).stderr.decode()
        receiver.mode = 200
        daemon.wait_for(lambda: receiver.of("candidate_waiting") == ["raised"], within=20)
        daemon.wait_for(lambda: delivered(daemon))


def test_the_test_command_reports_each_way(tmp_path: Path, receiver: Receiver) -> None:
    out = tmp_path / "mails"
    good = script(tmp_path, "good", f"cat >>{out}")
    bad = script(tmp_path, "bad", "exit 75")
    with daemon_of(tmp_path, webhook={"url": receiver.url}, command=[good]) as daemon:
        made = daemon.cli("alarms", "test", "-c", str(daemon.path))
        assert made.stdout.decode().splitlines() == ["webhook: delivered", "command: delivered"]
        assert receiver.got[-1]["test"] is True
        assert "TEST" in out.read_text()
        daemon.config["alarms"]["command"] = [bad]
        daemon.write_config()
        reload(daemon)
        failed = daemon.cli("alarms", "test", "-c", str(daemon.path), check=False)
        assert failed.returncode == 1
        assert failed.stdout.decode().splitlines() == ["webhook: delivered"]
        assert "command: not delivered" in failed.stderr.decode()
        assert "ended with 75" in failed.stderr.decode()
        daemon.config["alarms"] = {}
        daemon.write_config()
        reload(daemon)
        none = daemon.cli("alarms", "test", "-c", str(daemon.path), check=False)
        assert none.returncode != 0
        assert b"no delivery of alarms" in none.stderr


def test_a_list_that_changes_at_each_pull_still_waits_since_the_first_candidate(
    tmp_path: Path, receiver: Receiver
) -> None:
    with daemon_of(tmp_path, webhook={"url": receiver.url}, review_within="1s") as daemon:
        daemon.first_pull("hotline")
        first = hold(daemon)
        daemon.wait_for(lambda: receiver.of("candidate_waiting") == ["raised"])
        (daemon.folder / "list.txt").write_text("n1.test\n")
        assert daemon.pull("hotline")["outcome"] == "held"
        (held,) = daemon.ask("status").json["candidates"]
        assert held["id"] != first
        daemon.wait_for(lambda: str(held["id"]) in daemon.ops("/readyz").body.decode())
        daemon.wait_for(lambda: delivered(daemon))
        assert receiver.of("candidate_waiting") == ["raised"]  # the same alarm, with another text
        assert receiver.got[-1]["subject"] == first


def test_a_list_that_is_frozen_for_too_long_is_an_alarm(tmp_path: Path, receiver: Receiver) -> None:
    def freeze(frozen: str | None) -> None:
        path = daemon.folder / "state" / "blocklistd.sqlite"
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE lists SET frozen = ?", (frozen,))

    with daemon_of(tmp_path, webhook={"url": receiver.url}, review_within="1s") as daemon:
        daemon.first_pull("hotline")
        daemon.stop()
        freeze(json.dumps({"user": "alice", "time": "2020-01-01T00:00:00Z", "why": "an accident"}))
        with daemon:
            daemon.wait_for(lambda: receiver.of("list_frozen") == ["raised"])
            assert receiver.got[-1]["subject"] == "national"
            daemon.stop()
            freeze(None)
        with daemon:
            daemon.wait_for(lambda: receiver.of("list_frozen") == ["raised", "cleared"])
