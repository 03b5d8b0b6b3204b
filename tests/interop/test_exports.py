"""Exports in the programs that they are for: what each entry says is blocked, and nothing else."""

from __future__ import annotations

import contextlib
import io
import string
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import dns.rcode
import pytest

from blocklistd.kinds import KINDS
from blocklistd.model import Entry
from blocklistd.outputs import OUTPUTS
from tests.interop.programs import Resolver, running
from tests.interop.stub import ADDRESS, Stub
from tests.peers import peer, unchecked
from tests.system.daemon import free_port

ENTRIES = [
    *(Entry("domain", name) for name in ("d.example", "s.d.example", "deep.h.example", "_x-.a-.example")),
    *(Entry("host", name) for name in ("d.example", "w.d.example", "h.example", "x.h.example", "r3---x.example")),
    *(Entry("ip", value) for value in ("192.0.2.0/24", "2001:db8::1")),
    Entry("sha256", "0" * 64),
    Entry("url", "http://u.example/path?q=1"),
]
BLOCKED = (
    *("d.example", "w.d.example", "any.w.d.example", "s.d.example", "t.s.d.example", "deep.h.example"),
    *("a.deep.h.example", "h.example", "x.h.example", "_x-.a-.example", "b._x-.a-.example", "r3---x.example"),
)
FREE = ("other.h.example", "y.x.h.example", "dd.example", "u.example", "a-.example", "z.r3---x.example")


def rendered(name: str, *entries: Entry) -> tuple[bytes, int]:
    out = io.BytesIO()
    lines = sorted(entry.line() + b"\n" for entry in entries or ENTRIES)
    omitted = OUTPUTS[name](io.BytesIO(b"".join(lines)), out)
    return out.getvalue(), omitted


def is_blocked(resolver: Resolver, name: str) -> bool:
    """Whether no query for an address gets the stub's answer. An error of the resolver is neither."""
    answers = [resolver.ask(name, kind) for kind in ("A", "AAAA")]
    assert all(answer.rcode() in (dns.rcode.NXDOMAIN, dns.rcode.NOERROR) for answer in answers), answers
    found = {record.to_text() for answer in answers for rrset in answer.answer for record in rrset}
    assert found <= {ADDRESS, "0.0.0.0", "::"}, found
    return ADDRESS not in found


def check_names(resolver: Resolver) -> None:
    resolver.wait(lambda: is_blocked(resolver, "d.example"))
    assert [name for name in BLOCKED if not is_blocked(resolver, name)] == [], "narrower than the list"
    assert [name for name in FREE if is_blocked(resolver, name)] == [], "wider than the list"


def test_unbound_blocks_what_the_list_says(tmp_path: Path, stub: Stub) -> None:
    program, checkconf = peer("unbound", "unbound"), peer("unbound-checkconf", "unbound")
    text, omitted = rendered("unbound")
    assert omitted == 4, "two addresses, a hash, a URL"
    (tmp_path / "national.unbound").write_bytes(text)
    port = free_port()
    config = tmp_path / "unbound.conf"
    config.write_text(
        f'server:\n  directory: "{tmp_path}"\n  chroot: ""\n  username: ""\n  pidfile: "{tmp_path}/pid"\n'
        f"  interface: 127.0.0.1@{port}\n  do-not-query-localhost: no\n  use-syslog: no\n"
        f'include: "{tmp_path}/national.unbound"\n'
        f'forward-zone:\n  name: "."\n  forward-addr: 127.0.0.1@{stub.port}\n'
    )
    subprocess.run([checkconf, str(config)], check=True, capture_output=True)
    with running([program, "-d", "-c", str(config)], tmp_path / "log"):
        check_names(Resolver(port, tmp_path / "log"))


def test_dnsmasq_blocks_what_the_list_says(tmp_path: Path, stub: Stub) -> None:
    program = peer("dnsmasq", "dnsmasq-base")
    text, omitted = rendered("dnsmasq")
    assert omitted == 4, "two addresses, a hash, a URL"
    (tmp_path / "national.dnsmasq").write_bytes(text)
    port = free_port()
    options = ["--conf-file=" + str(tmp_path / "dnsmasq.conf")]
    (tmp_path / "dnsmasq.conf").write_text(
        f"port={port}\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-hosts\nserver=127.0.0.1#{stub.port}\n"
        f"user=root\npid-file\nconf-file={tmp_path}/national.dnsmasq\n"
    )
    subprocess.run([program, "--test", *options], check=True, capture_output=True)
    with running([program, "--keep-in-foreground", "--log-facility=-", *options], tmp_path / "log"):
        check_names(Resolver(port, tmp_path / "log"))


def test_dnsmasq_reads_the_hosts_file(tmp_path: Path, stub: Stub) -> None:
    program = peer("dnsmasq", "dnsmasq-base")
    text, omitted = rendered("hosts")
    assert omitted == len(ENTRIES) - 5, "all but the hosts"
    (tmp_path / "hosts").write_bytes(text)
    port = free_port()
    options = ["--no-resolv", "--no-hosts", f"--addn-hosts={tmp_path}/hosts", f"--server=127.0.0.1#{stub.port}"]
    options += [f"--port={port}", "--listen-address=127.0.0.1", "--bind-interfaces", "--user=root", "--pid-file"]
    with running([program, "--keep-in-foreground", "--conf-file=/dev/null", *options], tmp_path / "log"):
        resolver = Resolver(port, tmp_path / "log")
        resolver.wait(lambda: is_blocked(resolver, "h.example"))
        hosts = {entry.value for entry in ENTRIES if entry.type == "host"}
        assert {name for name in {*BLOCKED, *FREE} if is_blocked(resolver, name)} == hosts


def test_named_checkzone_accepts_the_policy_zone(tmp_path: Path) -> None:
    text, omitted = rendered("rpz")
    assert omitted == 2, "a hash and a URL"
    (tmp_path / "zone").write_bytes(text)
    command = [peer("named-checkzone", "bind9-utils"), "-k", "fail", "rpz.blocklist.example", str(tmp_path / "zone")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "ignored" not in done.stdout + done.stderr


class _Origin(BaseHTTPRequestHandler):
    """Answers each request that the proxy lets through with 204."""

    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Logs nothing."""


@contextlib.contextmanager
def squid(folder: Path, acl: str) -> Iterator[int]:
    """A proxy with an ACL that denies, which sends all other requests to an origin of its own."""
    program = peer("squid", "squid")
    origin = ThreadingHTTPServer(("127.0.0.1", 0), _Origin)
    threading.Thread(target=origin.serve_forever, daemon=True).start()
    port = free_port()
    (folder / "squid.conf").write_text(
        f"http_port 127.0.0.1:{port}\npid_filename {folder}/pid\ncache deny all\naccess_log none\ncache_log /dev/null\n"
        f"cache_effective_user proxy\nshutdown_lifetime 0 seconds\nicp_port 0\npinger_enable off\n"
        f"dns_nameservers 127.0.0.1\nnever_direct allow all\ncoredump_dir {folder}\n"
        f"cache_peer 127.0.0.1 parent {origin.server_port} 0 no-query no-digest default\n"
        f"{acl}\nhttp_access allow all\n"
    )
    subprocess.run([program, "-k", "parse", "-f", str(folder / "squid.conf")], check=True, capture_output=True)
    try:
        with running([program, "--foreground", "-f", str(folder / "squid.conf")], folder / "out"):
            Resolver(port, folder / "out").wait(lambda: denied(port, "http://free.example/") is False, within=30)
            yield port
    finally:
        origin.shutdown()
        origin.server_close()


def denied(port: int, url: str) -> bool:
    """Whether the proxy answers 403. Raises AssertionError unless it is that or the origin's answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.putrequest("GET", url, skip_host=True)
        connection.putheader("Host", url.split("/")[2])
        connection.endheaders()
        status = connection.getresponse().status
    finally:
        connection.close()
    assert status in (204, 403), status
    return status == 403


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that the user of the proxy may read."""
    with tempfile.TemporaryDirectory(prefix="squid-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_squid_denies_names(public: Path) -> None:
    text, omitted = rendered("squid")
    assert omitted == 4, "two addresses, a hash, a URL"
    (public / "national.squid").write_bytes(text)
    with squid(public, f'acl blocklist dstdomain -n "{public}/national.squid"\nhttp_access deny blocklist') as port:
        assert [name for name in BLOCKED if not denied(port, f"http://{name}/x")] == [], "narrower than the list"
        assert [name for name in (*FREE, "192.0.2.1") if denied(port, f"http://{name}/x")] == [], "wider than the list"
        assert denied(port, "http://D.example./x")


def test_squid_denies_urls_with_any_character(public: Path) -> None:
    characters = [
        *string.punctuation,
        "%c3%a9",
        "${process_name}",
        "a+b",
        "(a|b)",
        "[a]*",
        "x{2}",
        "\\",
        "^$",
        " ",
        "%e9",
    ]
    urls = {KINDS["url"](f"http://u.example{place}{one}b") for one in characters for place in ("/a", "/?a")}
    unclear = {
        f"http://u.example/{text}" for text in ("x%2Fb", "?a=%26b", "a%%b", "a%25b", "a%zz", "a%7Eb%00", "x%0A.*")
    }
    unclear |= {f"http://u.example/{letter}?" + "y" * 3000 for letter in "ab"}
    urls -= {url for url in urls if url.endswith(("a%b", "%23b"))}
    text, omitted = rendered("squid-urls", *(Entry("url", url) for url in urls | unclear))
    assert omitted == len(unclear)
    (public / "national.squid-urls").write_bytes(text)
    with squid(public, f'acl blocklist url_regex "{public}/national.squid-urls"\nhttp_access deny blocklist') as port:
        assert [url for url in urls if not denied(port, url)] == []
        for url in urls:
            assert not denied(port, url + "b")
            assert not denied(port, url.replace("u.example", "uxexample"))
        assert denied(port, "http://u.example/a%c3%A9b"), "either case of a triplet"
        assert not denied(port, "http://u.example/")
        assert not denied(port, "http://u.example/x/b")
        assert not denied(port, "http://u.example/" + "y" * 1000)


def test_a_content_blocker_blocks_what_the_list_says() -> None:
    try:
        import adblock
    except ImportError:
        unchecked("adblock is not installed: run tests/install-peers python")
    url = "https://u.example/p?a=$domain=b,c|d*e^f"
    text, omitted = rendered("adblock", *ENTRIES, Entry("url", url))
    assert omitted == 3, "two addresses, a hash"
    filters = adblock.FilterSet()
    filters.add_filter_list(text.decode())
    engine = adblock.Engine(filters)

    def blocked(url: str, kind: str) -> bool:
        return bool(engine.check_network_urls(url, "https://page.example/", kind).matched)

    for kind in ("image", "document"):
        for scheme in ("http", "https"):
            assert [name for name in BLOCKED if not blocked(f"{scheme}://{name}/x", kind)] == []
            assert [name for name in FREE if blocked(f"{scheme}://{name}/x?http://h.example/", kind)] == []
        assert blocked(url, kind)
        assert blocked("http://u.example/path?q=1", kind)
        for other in (url[:-1], url + "f", url.replace("*", "xx"), "http://u.example/path?q=11", "https://u.example/"):
            assert not blocked(other, kind)


@pytest.mark.parametrize("name", OUTPUTS)
def test_an_empty_list_and_a_list_of_one_type_are_accepted(name: str) -> None:
    for entries in ([], ENTRIES[:1], ENTRIES[-1:]):
        out = io.BytesIO()
        omitted = OUTPUTS[name](io.BytesIO(b"".join(entry.line() + b"\n" for entry in entries)), out)
        assert 0 <= omitted <= len(entries)
