"""The command line with a fake daemon: exit codes, documents, one line for each error."""

from __future__ import annotations

import fcntl
import io
import json
import os
import re
import socket
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

import pytest

from blocklistd.daemon.commands.lists import Array
from tests.system import forks
from tests.unprivileged import UNPRIVILEGED

Answers = dict[str, tuple[int, Any]]
CANDIDATE = {
    "id": "c-1",
    "list": "national",
    "kind": "source",
    "cause": "hotline",
    "source": "hotline",
    "created": "2026-11-20T12:00:00Z",
    "added": 5,
    "removed": 700,
    "changed": 0,
    "entries": 300,
    "state": "held",
    "reasons": [{"guard": "max_removed", "limit": "10%", "found": "70.0% (700 of 1000)"}],
    "approvals": [],
}


class FakeDaemon(ThreadingMixIn, UnixStreamServer):
    """Returns prepared results on a control socket."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.answers: Answers = {}
        self.asked: list[tuple[str, Any]] = []
        self.cut = False
        self.holds: dict[str, threading.Event] = {}
        self.stages: list[tuple[str | None, str | None]] = []
        self.calls: list[tuple[str, str | None]] = []
        super().__init__(str(path), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: FakeDaemon

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        self.server.calls.append((self.path, self.headers.get("Blocklistd-Call")))
        if self.path == "/stage":
            stage, subject = self.server.stages.pop(0) if self.server.stages else ("sign", "national")
            self.server.answers["/stage"] = (200, {"stage": stage, "subject": subject})
            if not self.server.stages:
                for held in self.server.holds.values():
                    held.set()
        else:
            self.server.asked.append((self.path, body))
        if (waiting := self.server.holds.get(self.path)) is not None:
            waiting.wait(20)
        status, document = self.server.answers.get(self.path, (404, {"detail": "no such command"}))
        raw = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw[: len(raw) // 2] if self.server.cut else raw)

    do_POST = _answer


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    (tmp_path / "c.yaml").write_text('control: {socket: c.sock}\nfeed: {listen: ["127.0.0.1:0"]}\n')
    with FakeDaemon(tmp_path / "c.sock") as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


class Cli:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(
        self, *arguments: str, config: bool = True, prefix: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        where = ["-c", str(self.folder / "c.yaml")] if config else []
        env = {key: value for key, value in os.environ.items() if key != "BLOCKLISTD_CONFIG"}
        if prefix:
            command = [*prefix, sys.executable, "-m", "blocklistd", *arguments, *where]
            return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=env)
        done = forks.run([*arguments, *where], timeout=30, env=env)
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


@pytest.mark.parametrize(("outcome", "code"), [("published", 0), ("unchanged", 0), ("held", 4), ("failed", 1)])
def test_the_outcome_of_a_pull_decides_the_exit_code(daemon: FakeDaemon, cli: Cli, outcome: str, code: int) -> None:
    document = {
        "source": "hotline",
        "outcome": outcome,
        "reason": "because",
        "candidate": "c-1" if outcome == "held" else None,
        "versions": {"national": 3},
    }
    daemon.answers["/source/pull"] = (200, document)
    text, machine = cli("source", "pull", "hotline"), cli("source", "pull", "hotline", "--json")
    assert (text.returncode, machine.returncode) == (code, code)
    assert json.loads(machine.stdout) == document, "the document is printed for every exit code"
    if code:
        assert "because" in text.stderr
        assert len(text.stderr.splitlines()) == 1


def test_a_pull_prints_records_rejects_and_withheld_entries(daemon: FakeDaemon, cli: Cli) -> None:
    document: dict[str, Any] = {"source": "hotline", "outcome": "published", "reason": None, "candidate": None}
    document |= {"versions": {"a": 1}, "withheld": {"a": {"public_suffix": 3}, "b": {}}}
    document |= {"records": 9, "entries": 4, "rejected": {"character": 4, "wildcard": 1}}
    daemon.answers["/source/pull"] = (200, document)
    assert cli("source", "pull", "hotline").stdout.splitlines() == [
        "hotline: published (a 1)",
        "records 9, entries 4, rejected 5 (character 4, wildcard 1)",
        "withheld from a: 3 (public_suffix 3)",
    ]


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (("status",), "/status"),
        (("source", "list"), "/source/list"),
        (("candidate", "list"), "/candidate/list"),
        (("subscriber", "list"), "/subscriber/list"),
        (("audit",), "/audit"),
    ],
)
def test_json_prints_the_document_of_the_daemon(
    daemon: FakeDaemon, cli: Cli, arguments: tuple[str, ...], path: str
) -> None:
    document: Any = [] if path in ("/candidate/list", "/audit") else {}
    if path == "/status":
        document = {"lists": {}, "zones": {}, "sources": {}, "candidates": [], "subscribers": {}}
    daemon.answers[path] = (200, document)
    assert json.loads(cli(*arguments, "--json").stdout) == document
    assert cli(*arguments).returncode == 0


def test_candidates_are_listed_shown_approved_and_rejected(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["/candidate/list"] = (200, [CANDIDATE])
    assert "70.0% (700 of 1000)" in cli("candidate", "list").stdout
    full = {
        **CANDIDATE,
        "suffixes": {"example": {"added": 5, "removed": 700}},
        "decisions": [],
        "why": None,
        "version": None,
        "kind": "source",
    }
    full |= {"base": 7, "withheld": {"ip": 2}}
    daemon.answers["/candidate/show"] = (200, full)
    assert "under .example\t+5 -700\n" in cli("candidate", "show", "c-1").stdout
    daemon.answers["/candidate/show"] = (200, full | {"suffixes": {"example": 705}})
    assert "under .example\t705\n" in cli("candidate", "show", "c-1").stdout, "held by version 0.2"
    assert "ip: 2" in cli("candidate", "show", "c-1").stdout
    daemon.answers["/candidate/show"] = (200, full)
    assert json.loads(cli("candidate", "show", "c-1", "--json").stdout) == full
    released = {"id": "c-1", "released": True, "version": 8, "candidate": None}
    daemon.answers["/candidate/approve"] = (200, released)
    assert "version 8" in cli("candidate", "approve", "c-1").stdout
    another = {"id": "c-1", "released": False, "version": None, "candidate": "c-2"}
    daemon.answers["/candidate/approve"] = (200, another)
    refused = cli("candidate", "approve", "c-1", "--json")
    assert (refused.returncode, json.loads(refused.stdout)) == (4, another)
    assert "`blocklistd candidate show c-2`" in refused.stderr
    assert cli("candidate", "reject", "c-1").returncode == 2, "--why is required"
    daemon.answers["/candidate/reject"] = (200, {"id": "c-1"})
    assert cli("candidate", "reject", "c-1", "--why", "a mistake").returncode == 0
    assert daemon.asked[-1] == ("/candidate/reject", {"candidate": "c-1", "why": "a mistake"})


@pytest.mark.parametrize("status", [403, 404, 409, 500])
def test_a_refusal_is_a_line_on_stderr_and_a_json_document(daemon: FakeDaemon, cli: Cli, status: int) -> None:
    daemon.answers["/candidate/approve"] = (status, {"detail": "it is superseded", "status": status})
    refused = cli("candidate", "approve", "c-1", "--json")
    assert refused.returncode == 1
    assert refused.stderr == "blocklistd: it is superseded\n"
    assert json.loads(refused.stdout) == {"error": "it is superseded"}


def test_a_new_subscribers_token_is_shown(daemon: FakeDaemon, cli: Cli) -> None:
    tsig = {"name": "isp-1", "algorithm": "hmac-sha256", "secret": "c2VjcmV0"}
    made: dict[str, Any] = {"id": "isp", "token": "the-token", "tsig": tsig, "config": {"bind": "key ...;"}}
    made["url"] = "https://feed.example"
    daemon.answers["/subscriber/add"] = (200, made)
    shown = cli("subscriber", "add", "isp", "--list", "national", "--list", "hashes")
    assert shown.stdout.startswith("the-token\n")
    assert daemon.asked[-1][1] == {
        **{"id": "isp", "lists": ["national", "hashes"], "zones": [], "notify": [], "address": []},
        **{"own_names": [], "algorithm": "hmac-sha256", "wide": False, "cert": []},
    }
    zone = cli("subscriber", "add", "isp", "--zone", "rpz.example", "--notify", "192.0.2.1:53", "--software", "bind")
    assert "key ...;" in zone.stdout
    assert "hmac-sha256:isp-1:c2VjcmV0" in zone.stdout
    assert daemon.asked[-1][1]["notify"] == ["192.0.2.1:53"]


def test_subscribers_are_printed_as_tables(daemon: FakeDaemon, cli: Cli) -> None:
    made = {"created": "2026-11-20T00:00:00Z", "created_by": "alice", "revoked": None}
    zone = {"serial": 7, "secondaries": [{"address": "192.0.2.1", "serial": 6, "lag": 70.0, "seen": "2026-11-20"}]}
    one: dict[str, Any] = {
        "lists": {"national": {}},
        "zones": {"rpz.example": zone},
        "keys": ["isp-1", "isp-2"],
        **{"certs": [], "old_keys": [], "old_tokens": [], "software": None, "unsigned": []},
        **made,
    }
    daemon.answers["/subscriber/list"] = (200, {"isp": one})
    assert cli("subscriber", "list").stdout == (
        "SUBSCRIBER\tCREATED\tBY\tREVOKED\tLISTS\tIDENTIFIED BY\tZONES\n"
        "isp\t2026-11-20T00:00:00Z\talice\t\tnational\tkey\trpz.example\n"
    )
    daemon.answers["/subscriber/show"] = (200, {"id": "isp", **one})
    shown = cli("subscriber", "show", "isp").stdout
    assert "lists\tnational\nkeys\tisp-1 isp-2\n" in shown
    assert "zone\trpz.example at 7\nsecondary\t192.0.2.1 at 6, 70 s behind, seen 2026-11-20\n" in shown


def test_the_commands_for_a_new_subscriber_name_where_the_feed_is(daemon: FakeDaemon, cli: Cli) -> None:
    tsig = {"name": "isp-1", "algorithm": "hmac-sha256", "secret": "c2VjcmV0"}
    made = {"id": "isp", "token": "t", "tsig": tsig, "config": {}, "url": "http://127.0.0.1:1"}
    daemon.answers["/subscriber/add"] = (200, made)
    assert "sync http://127.0.0.1:1 national" in cli("subscriber", "add", "isp", "--list", "national").stdout


def test_a_diff_is_written_to_a_pipe(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["/list/diff"] = (200, b'{"add":{}}\n')
    assert cli("list", "diff", "national", "1", "2").stdout == '{"add":{}}\n'


@pytest.mark.parametrize("lines", [[], [{"add": {"type": "host"}}], [{"remove": {}}, {"add": {"value": "a,\\n"}}]])
def test_a_diff_is_one_document_for_machines(daemon: FakeDaemon, cli: Cli, lines: list[Any]) -> None:
    body = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    daemon.answers["/list/diff"] = (200, body)
    assert json.loads(cli("list", "diff", "national", "1", "2", "--json").stdout) == lines
    daemon.answers["/list/diff"] = (409, {"detail": "too old"})
    assert json.loads(cli("list", "diff", "national", "1", "2", "--json").stdout) == {"error": "too old"}


def test_a_full_disk_is_reported_in_one_line(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["/list/diff"] = (200, b'{"add":{}}\n')
    daemon.answers["/candidate/list"] = (200, [])
    for command in (["list", "diff", "national", "1", "2"], ["candidate", "list", "--json"]):
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                [sys.executable, "-m", "blocklistd", *command, "-c", str(cli.folder / "c.yaml")],
                stdout=full,
                stderr=subprocess.PIPE,
                env={key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"},
                timeout=30,
                check=False,
            )
        assert (done.returncode, done.stderr) == (1, b"blocklistd: the output: No space left on device\n")


def test_ndjson_becomes_an_array_however_it_is_chunked() -> None:
    whole = b'{"a":1}\n{"b":2}\n{"c":3}\n'
    for cut in range(1, len(whole)):
        out = io.BytesIO()
        array = Array(out)
        array.write(whole[:cut])
        array.write(whole[cut:])
        array.close()
        assert json.loads(out.getvalue()) == [{"a": 1}, {"b": 2}, {"c": 3}]


@pytest.mark.parametrize("name", ["", "a/pull", "../keys", "-"])
def test_an_id_can_not_change_the_path_of_a_request(daemon: FakeDaemon, cli: Cli, name: str) -> None:
    assert cli("source", "show", name).returncode == 1
    assert daemon.asked == [("/source/show", {"source": name})]


def test_an_id_that_is_not_utf8_is_wrong_usage(daemon: FakeDaemon, cli: Cli) -> None:
    refused = cli("source", "show", "\udcff")
    assert (refused.returncode, daemon.asked) == (2, [])
    assert "expected a text in UTF-8" in refused.stderr


@pytest.mark.parametrize(
    ("why", "expected"),
    [("", "one line"), (" ", "one line"), ("a\nb", "one line"), ("\x1b[2J", "one line"), ("x" * 501, "at most 500")],
)
def test_free_text_is_one_line_and_short(daemon: FakeDaemon, cli: Cli, why: str, expected: str) -> None:
    refused = cli("candidate", "reject", "c-1", "--why", why)
    assert (refused.returncode, daemon.asked) == (2, [])
    assert expected in refused.stderr


@pytest.mark.parametrize("option", [("--json",), ("--last", "3"), ("-c", "other.yaml")])
def test_an_option_before_the_last_word_is_an_error(daemon: FakeDaemon, cli: Cli, option: tuple[str, ...]) -> None:
    refused = cli("audit", *option, "verify")
    assert (refused.returncode, daemon.asked) == (2, [])
    assert "write options after the last word" in refused.stderr


def test_an_incomplete_result_is_an_error(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.cut = True
    daemon.answers["/list/diff"] = (200, b'{"add":{}}\n' * 1000)
    daemon.answers["/candidate/list"] = (200, [CANDIDATE])
    for command in (("list", "diff", "national", "1", "2"), ("candidate", "list")):
        broken = cli(*command)
        assert broken.returncode == 1
        assert broken.stderr == (
            "blocklistd: the daemon closed the connection in the middle of the result: discard the output and try "
            "again\n"
        )


def test_a_closed_pipe_is_not_blamed_on_the_daemon(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["/list/diff"] = (200, b'{"add":{}}\n' * 100_000)
    shown = cli("list", "diff", "national", "1", "2", prefix=("sh", "-c", '"$@" | head -1', "sh"))
    assert (shown.stdout, shown.stderr) == ('{"add":{}}\n', "")


def test_an_audit_that_was_changed_is_an_error(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["/audit/verify"] = (200, {"lines": 3, "hash": "ab", "wrong": None})
    assert cli("audit", "verify").stdout.startswith(
        "verified 3 lines: each contains the hash of the line before it\nlast hash: "
    )
    found = {"lines": 3, "hash": "ab", "wrong": "line 2 is missing"}
    daemon.answers["/audit/verify"] = (200, found)
    refused = cli("audit", "verify", "--json")
    assert (refused.returncode, json.loads(refused.stdout)) == (1, found)
    assert (
        refused.stderr
        == "blocklistd: the audit was changed: line 2 is missing: compare it with a backup of the state_dir\n"
    )


def test_an_invalid_configuration_file_does_not_stop_commands_while_the_daemon_runs(
    daemon: FakeDaemon, cli: Cli
) -> None:
    """A refused reload keeps the running configuration, and the caller may be unable to read some of its files."""
    daemon.answers["/candidate/list"] = (200, [])
    with open(cli.folder / "c.yaml", "a") as file:
        file.write("nonsense: 1\n")
    assert cli("candidate", "list").returncode == 0
    assert cli("check-config").returncode == 2


def test_a_diff_is_not_shown_on_a_terminal(daemon: FakeDaemon, cli: Cli) -> None:
    master, terminal = os.openpty()
    arguments = ["list", "diff", "national", "1", "2", "-c", str(cli.folder / "c.yaml")]
    with forks.Fork(arguments, stdin=subprocess.DEVNULL, stdout=terminal, stderr=subprocess.PIPE) as done:
        _, said = done.communicate(timeout=30)
    os.close(terminal)
    os.close(master)
    assert done.returncode == 1
    assert b"--show-entries" in said
    assert daemon.asked == []


def on_a_terminal(cli: Cli, *arguments: str, columns: int = 80, stdin: str = "", code: int = 0, **more: str) -> str:
    """The output, with colours, on a terminal of this many columns."""
    master, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    running = forks.Fork(
        [*arguments, "-c", str(cli.folder / "c.yaml")],
        stdin=subprocess.PIPE,
        stdout=terminal,
        stderr=terminal,
        env={**environment, "TERM": "xterm-256color", **more},
    )
    os.close(terminal)
    assert running.stdin is not None
    with running.stdin as given:
        given.write(stdin.encode())
    shown = b""
    with suppress(OSError):  # the last who had it open is gone
        while got := os.read(master, 65536):
            shown += got
    os.close(master)
    assert running.wait(30) == code, shown
    return shown.decode().replace("\r\n", "\n")


def test_an_error_on_a_terminal_is_wrapped_between_words(daemon: FakeDaemon, cli: Cli) -> None:
    said = "isp-9 would have no list and no zone: to end its access, run `blocklistd subscriber revoke isp-9`"
    daemon.answers["/status"] = (409, {"detail": said})
    assert cli("status").stderr == f"blocklistd: {said}\n"
    first, second = plain(on_a_terminal(cli, "status", code=1))
    assert len(first) <= 80
    assert f"{first} {second}" == f"blocklistd: {said}"


def plain(shown: str) -> list[str]:
    return [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in shown.splitlines()]


SOURCE = {
    **{"outcome": "failed", "age": 7200.0, "next_pull": "2026-11-20T12:30:00Z", "next_in": 754.2},
    **{"overdue": True, "frozen": False, "verify": "pinned-tls", "quarantine": True, "entries": 12_000},
    **{"reason": "the signature is by another key: expected key 0123456789ABCDEF of the configuration" * 2},
    **{"rejected": {"character": 3, "type-not-built": 2}, "withheld": {"type-not-built": 2}, "types": {"url": 11_995}},
}
PULL = {"time": "2026-11-20T12:00:00Z", "seconds": 0.5, "outcome": "failed", "records": 12_000, "reason": "w " * 90}
LONG_NODE = "a-node-with-the-longest-name-that-a-receipt-may-have.isp.example"[:64]
NODE = {
    **{"node": LONG_NODE, "list": "list-1", "version": 123_456, "lag": 90_000.0, "seen": "2026-11-20T12:00:00Z"},
    **{"reported": 123_457, "state": "failed", "reason": "the service does not reload", "probe": "blocked"},
    **{"late": False, "silent": False, "applied_at": "2026-11-20T12:00:00Z"},
}
ZONED: dict[str, Any] = {
    **{
        "lists": {f"list-{number}": {"version": 123_456, "lag": 1.5} for number in range(19)},
        "created": "2026-11-20T12:00:00Z",
        "revoked": None,
    },
    **{"created_by": "alice", "notify": ["192.0.2.1:53"] * 4, "unsigned": [], "wide": [], "certs": []},
    **{"old_keys": [], "old_tokens": [], "software": None, "objective": 21600.0, "nodes": [NODE] * 9},
    "zones": {f"rpz{n}.blocklist.example": {"serial": 7, "lag": None, "secondaries": []} for n in range(9)},
}
LINE = {
    **{"time": "2026-11-20T12:00:00.123Z", "actor": "alice", "action": "candidate approve", "object": "c-0123456789ab"},
    **{"detail": {"why": "the hotline confirmed that this is right, " * 3, "list": "national"}, "hash": "ab"},
}
VERSION = {"version": 123, "time": "2026-11-20T12:00:00Z", "entries": 10_000_000, "added": 10_000_000, "removed": 0}
WITHHELD = {
    **{"id": "e-0123456789abcdef0123456789abcdef", "since": "2026-11-20T12:00:00Z"},
    **{"type": "domain", "value": "a-name." * 30 + "search.example"},
}
DUE: dict[str, Any] = {
    **{"id": "e-0123456789abcdef0123456789abcdef", "type": "domain", "sources": ["hotline-of-the-country"] * 9},
    **{"term": "reverify", "since": "2026-11-20T12:00:00Z", "due": "2027-02-18T12:00:00Z", "days": 1234},
}
EXPLAINED = LINE | {"action": "entry explain", "object": DUE["id"]}
BODY: dict[str, Any] = {
    **{"time": "2026-11-20T12:00:00Z", "verdict": "refused", "outcome": "failed", "bytes": 123_456_789},
    **{"sha256": "0123456789abcdef" * 4, "signed": "2026-11-20T12:00:00Z", "key": "0123456789abcdef" * 4},
    **{"name": "20261128T225659123456-refused-1a2b3c4d", "peer": {"public_key": "ab" * 32}},
    "problem": "the signature is by another key: expected key 0123456789ABCDEF of the configuration",
}
FIGURES = {"fastest": 1.0, "median": 7200.5, "slowest": 86400.0, "live": 1000, "missing": 1000, "late": 1000}
REPORTED = {
    "versions": [{"version": 123_456, "published": "2026-11-20T12:00:00Z", "slowest_node": LONG_NODE, **FIGURES}],
    "nodes": [{"node": LONG_NODE, "blocked": 100, "resolves": 100, **FIGURES}],
}
NODE_REPORT = {
    "id": "an-isp-with-a-long-name",
    **{"from": "2026-11-01", "to": "2026-11-30", "objective": 21600.0, "kept_since": "2026-11-10T00:00:00Z"},
    "lists": {"national": REPORTED},
    "zones": {"rpz.blocklist.example": REPORTED},
    "late": [{"node": LONG_NODE, "list": "national", "lag": 86400.0}],
    **{"silent": [], "failed_probes": []},
}
WIDE: Answers = {
    "/entry/due": (200, {"list": "national", "total": 3, "entries": [DUE, DUE | {"term": "max_life"}, DUE]}),
    "/source/list": (200, {"hotline-of-the-country": SOURCE, "other": SOURCE | {"outcome": "held"}}),
    "/source/show": (200, {"id": "hotline-of-the-country", **SOURCE, "history": [PULL] * 3}),
    "/candidate/list": (200, [CANDIDATE | {"id": "c-0123456789ab"}]),
    "/candidate/show": (
        200,
        {**CANDIDATE, "suffixes": {f"tld{n}": {"added": n, "removed": 2} for n in range(20)}, "decisions": []}
        | {"kind": "source", "base": 7, "withheld": {"allow_ip": 2}, "why": "w " * 90, "version": None},
    ),
    "/list/versions": (200, [VERSION | {"released_by": "a-reviewer-" * 5}]),
    "/list/withheld": (
        200,
        {"list": "national", "version": 123, "withheld": {"never_block": 1_000_000, "type pdq": 3}}
        | {"hits": {"never_block": [WITHHELD] * 3}},
    ),
    "/subscriber/list": (200, {"an-isp-with-a-long-name": ZONED}),
    "/subscriber/show": (200, {"id": "an-isp-with-a-long-name", **ZONED}),
    "/subscriber/report": (200, NODE_REPORT),
    "/audit": (200, [LINE, EXPLAINED]),
    "/source/evidence": (200, [BODY, BODY | {"verdict": "accepted", "outcome": "published", "problem": None}]),
    "/status": (
        200,
        {
            "lists": {"national": {"version": 123, "entries": 10_000_000, "published": "2026-11-20T12:00:00Z"}},
            "zones": {"rpz.blocklist.example": dict.fromkeys(("serial", "records", "covered", "omitted"), 2**31)},
            "sources": {"hotline-of-the-country": SOURCE},
            "candidates": [CANDIDATE | {"id": "c-0123456789ab"}],
            "subscribers": {"an-isp-with-a-long-name": ZONED},
        },
    ),
}
TABLES = [
    *(("source", "list"), ("source", "show", "a"), ("candidate", "list"), ("candidate", "show", "c-1")),
    *(("list", "versions", "a"), ("list", "withheld", "a", "--show-entries"), ("entry", "due", "a")),
    *(("subscriber", "list"), ("subscriber", "show", "a"), ("audit",), ("status",)),
    ("source", "evidence", "a"),
]
REPORT = ("subscriber", "report", "a", "--from", "2026-11-01", "--to", "2026-11-30")


@pytest.mark.parametrize("command", [*TABLES, REPORT], ids=" ".join)
def test_a_table_is_within_80_columns_on_a_terminal(daemon: FakeDaemon, cli: Cli, command: tuple[str, ...]) -> None:
    daemon.answers = WIDE
    lines = plain(on_a_terminal(cli, *command))
    assert max(map(len, lines)) <= 80, "\n".join(lines)
    assert max(map(len, plain(on_a_terminal(cli, *command, columns=200)))) > 80, "the width of a wider one is used"


ENTRIES = [{"id": DUE["id"], "type": "domain", "live": False, "covered_by": [DUE["id"]] * 2, "kind": "delisted"}] * 2
SAID = [
    (("entry", "keep", "a", DUE["id"]), {"list": "national", "entries": [DUE] * 2}),
    (("entry", "delist", "a", "--stdin"), {"list": "national", "kind": "delisted", "until": None, "version": 7}),
    (("entry", "restore", "a", "--stdin"), {"list": "national", "outcome": "unchanged", "version": 7}),
]


@pytest.mark.parametrize(("command", "answer"), SAID)
def test_a_sentence_about_an_entry_is_within_80_columns(
    daemon: FakeDaemon, cli: Cli, command: tuple[str, ...], answer: dict[str, Any]
) -> None:
    daemon.answers["/" + "/".join(command[:2])] = 200, {"entries": ENTRIES, **answer}
    lines = plain(on_a_terminal(cli, *command, "--why", "x", stdin="bad.example\n"))
    assert max(map(len, lines)) <= 80, "\n".join(lines)
    assert DUE["id"] in " ".join(lines).split(), "an id can be copied"


def test_that_more_entries_are_due_is_said_within_80_columns(daemon: FakeDaemon, cli: Cli) -> None:
    document = {"list": "a-list-with-a-name-of-32-letters", "total": 10_000_000, "entries": [DUE] * 1000}
    daemon.answers = {"/entry/due": (200, document)}
    lines = plain(on_a_terminal(cli, "entry", "due", "a"))
    assert max(map(len, lines)) <= 80
    assert DUE["id"] in lines[1], "an id can be copied"
    assert " ".join(lines).endswith(
        "10000000 entries of list a-list-with-a-name-of-32-letters are due; the first 1000 are shown"
    )


@pytest.mark.parametrize("command", TABLES, ids=" ".join)
def test_a_pipe_has_every_column_under_its_header(daemon: FakeDaemon, cli: Cli, command: tuple[str, ...]) -> None:
    daemon.answers = WIDE
    for part in cli(*command).stdout.split("\n\n"):
        header, *rows = part.splitlines()
        assert rows
        assert {row.count("\t") for row in rows} == {header.count("\t")}, "a cell for each column"
        if command[1:2] != ("show",):
            assert header == header.upper()


PULLED = {"source": "hotline", "outcome": "published", "reason": None, "candidate": None, "versions": {"national": 3}}
RELEASED = {"id": "c-1", "released": True, "version": 8, "candidate": None}


@pytest.mark.parametrize(
    ("command", "answer"), [(("source", "pull", "hotline"), PULLED), (("candidate", "approve", "c-1"), RELEASED)]
)
def test_a_command_longer_than_a_second_shows_its_stage_on_a_terminal(
    daemon: FakeDaemon, cli: Cli, command: tuple[str, ...], answer: Any
) -> None:
    path = "/" + "/".join(command[:2])
    daemon.answers[path] = (200, answer)
    daemon.holds[path] = threading.Event()
    daemon.stages = [(None, None), ("fetch", "hotline"), ("commit", "national-" * 20)]
    shown = on_a_terminal(cli, *command)
    in_turn = (
        "waiting for its turn … 1 s",
        r"fetching from hotline … \d s",
        "composing and checking the new version of ",
    )
    assert re.search(r"\r" + r"\x1b\[K\r".join(in_turn), shown), shown
    *stages, last = shown.split("\r\x1b[K")
    assert max(len(line) for line in "".join(stages).replace("\x1b[K", "").split("\r")) < 80
    assert ("version 8" in last) or ("published" in last), "and the answer stands alone"
    named = {call for asked, call in daemon.calls if asked in (path, "/stage")}
    assert len(named) == 1
    assert None not in named


def test_no_stage_is_shown_in_a_pipe_or_for_a_quick_command(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["/source/pull"] = (200, PULLED)
    assert "\x1b[K" not in on_a_terminal(cli, "source", "pull", "hotline")
    assert cli("source", "pull", "hotline").stderr == ""
    on_a_terminal(cli, "source", "pull", "hotline", "--json")
    assert "/stage" not in [asked for asked, _ in daemon.calls]


def test_words_that_need_action_are_coloured(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers = WIDE
    shown = on_a_terminal(cli, "source", "list")
    for word, code in (("failed", 31), ("held", 33), ("OVERDUE", 31)):
        assert f"\x1b[1;{code}m{word}\x1b[0m" in shown, shown
    assert "\x1b[1;33mc-0123456789ab\x1b[0m" in on_a_terminal(cli, "status")
    assert "\x1b[1;31mfailed\x1b[0m" in on_a_terminal(cli, "source", "show", "a")
    assert ";31m" not in on_a_terminal(cli, "status", NO_COLOR="1")


def test_times_are_shown_with_their_units(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers = WIDE
    for command in (("status",), ("source", "list")):
        assert "\t2 h OVERDUE\tin 13 min\t" in cli(*command).stdout
    shown = cli("source", "show", "a").stdout
    assert "age\t2 h\n" in shown
    assert "next pull\t2026-11-20T12:30:00Z (in 13 min)\n" in shown
    assert "\t0.50 s\tfailed\t" in shown


def test_ids_are_not_wrapped_on_a_narrow_terminal(daemon: FakeDaemon, cli: Cli) -> None:
    name = "c-0123456789ab"
    daemon.answers["/candidate/list"] = (200, [CANDIDATE | {"id": name}])
    shown = on_a_terminal(cli, "candidate", "list", columns=30)
    for whole in (name, "national", "REMOVED", "max_removed"):
        assert whole in shown
    assert str(CANDIDATE["created"]) not in shown, "it does not fit, and is the least of it"
    assert str(CANDIDATE["created"]) in on_a_terminal(cli, "candidate", "list", columns=120)


def test_a_subscriber_is_printed_with_its_secondaries(daemon: FakeDaemon, cli: Cli) -> None:
    seen = {"address": "192.0.2.1", "serial": 7, "lag": 90.0, "seen": "2026-11-20T12:00:00Z"}
    behind: dict[str, Any] = {"serial": 7, "lag": 90.0, "secondaries": [seen]}
    zones = {"rpz.example": behind, "new.example": {"serial": None, "lag": None, "secondaries": []}}
    one = {"id": "isp", "lists": {"national": {"version": None, "lag": None}}, "zones": zones, "notify": ["a", "b"]}
    daemon.answers["/subscriber/show"] = (200, one)
    assert cli("subscriber", "show", "isp").stdout.splitlines() == [
        "id\tisp",
        "lists\tnational",
        "notify\ta, b",
        "zone\trpz.example at 7",
        "secondary\t192.0.2.1 at 7, 90 s behind, seen 2026-11-20T12:00:00Z",
        "zone\tnew.example at ?",
    ]


def test_a_missing_daemon_is_exit_3(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text('control: {socket: nobody.sock}\nfeed: {listen: ["127.0.0.1:0"]}\n')
    gone = Cli(tmp_path)("status")
    assert gone.returncode == 3
    assert "check it with `systemctl status blocklistd`" in gone.stderr
    with socket.socket(socket.AF_UNIX) as deaf:  # bound, and nobody listens
        deaf.bind(str(tmp_path / "nobody.sock"))
        assert Cli(tmp_path)("status").returncode == 3


def test_a_socket_without_permission_is_exit_3(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o000)
    (tmp_path / "c.yaml").write_text('control: {socket: run/c.sock}\nfeed: {listen: ["127.0.0.1:0"]}\n')
    refused = Cli(tmp_path)("status", prefix=UNPRIVILEGED)
    assert refused.returncode == 3
    assert (
        f"uid {os.geteuid()} may not open {folder}/status.sock: expected a folder with the mode 0755" in refused.stderr
    )


def test_wrong_usage_and_a_wrong_configuration_are_exit_2(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    (tmp_path / "c.yaml").write_text("lists: {national: {sources: [nobody]}}\nnonsense: 1\n")
    refused = cli("status")
    assert refused.returncode == 2
    lines = refused.stderr.splitlines()
    assert any("c.yaml:2: nonsense" in line for line in lines)
    assert any("c.yaml:1: lists.national.sources" in line for line in lines)
    checked = cli("check-config", "--json")
    assert checked.returncode == 2
    assert {"file", "line", "key", "found", "expected"} == set(json.loads(checked.stdout)["errors"][0])
    assert cli("nonsense", config=False).returncode == 2
    assert cli("source", "pull", config=False).returncode == 2


def test_the_configuration_may_stand_before_the_command_or_in_the_environment(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["/candidate/list"] = (200, [])
    path = str(cli.folder / "c.yaml")
    assert cli("-c", path, "candidate", "list", config=False).returncode == 0
    done = forks.run(["candidate", "list"], env={**os.environ, "BLOCKLISTD_CONFIG": path}, timeout=30)
    assert done.returncode == 0


def test_help_names_every_command(cli: Cli) -> None:
    from blocklistd.cli import FIRST_WORDS

    shown = cli("--help", config=False)
    assert shown.returncode == 0
    for name in FIRST_WORDS:
        assert name in shown.stdout
        assert cli(name, "--help", config=False).returncode == 0


def test_a_command_imports_only_the_modules_it_needs() -> None:
    """A command starts in a quarter of a second, because heavy modules are imported only where they are needed."""
    code = (
        "import sys; from blocklistd.cli import run; run(['status', '--help']);"
        "heavy = {'aiohttp', 'sqlalchemy', 'tuf', 'rich', 'yaml', 'cryptography', 'asyncio', 'apscheduler'};"
        "sys.exit(','.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
