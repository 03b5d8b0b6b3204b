"""Knot Resolver with the printed configuration blocks by the file that `sync` keeps up to date."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import dns.edns
import pytest

from blocklistd.client.options import Options
from blocklistd.client.sync import sync_once
from tests.interop.guides import says
from tests.interop.programs import Resolver, running
from tests.interop.stub import Stub
from tests.peers import peer
from tests.system.daemon import free_port
from tests.system.test_zones import Scene

PRINTED = "/var/lib/blocklistd-sync"


@contextlib.contextmanager
def kresd(folder: Path, stub: int, port: int, pasted: str) -> Iterator[Resolver]:
    program = peer("/usr/sbin/kresd", "knot-resolver")
    (folder / "kresd").mkdir(exist_ok=True)
    (folder / "kresd.conf").write_text(
        f"net.listen('127.0.0.1', {port}, {{ kind = 'dns' }})\ncache.size = 10 * MB\ntrust_anchors.remove('.')\n"
        f"{pasted}\npolicy.add(policy.all(policy.STUB('127.0.0.1@{stub}')))\n"
    )
    with running([program, "-n", "-q", "-c", str(folder / "kresd.conf"), str(folder / "kresd")], folder / "kresd.log"):
        yield Resolver(port, folder / "kresd.log")


class Fed:
    """A daemon, and a folder that `sync` fills with the list for Knot Resolver. `text`: the printed configuration."""

    def __init__(self, folder: Path) -> None:
        self.scene = Scene(folder)
        self._folder = folder

    def start(self) -> None:
        daemon = self.scene.daemon
        daemon.first_pull("hotline")
        made = daemon.ask("subscriber add", id="isp", lists=["national"], software="knot-resolver").json
        self.text: str = made["config"]["knot-resolver"]
        url, token = f"http://127.0.0.1:{daemon.feed_port}", self._folder / "token"
        token.write_text(made["token"])
        assert f"blocklistd sync {url} national" in self.text
        self._options = Options(url, "national", daemon.root, self._folder / "national", token_file=token, format="rpz")
        self.sync()

    def sync(self) -> None:
        sync_once(self._options, print)

    def resolver(self, stub: Stub, text: str) -> AbstractContextManager[Resolver]:
        return kresd(self._folder, stub.port, free_port(), text.replace(PRINTED, str(self._folder)))


@pytest.fixture
def fed(tmp_path: Path) -> Iterator[Fed]:
    made = Fed(tmp_path)
    with made.scene.daemon:
        made.start()
        yield made


def test_knot_resolver_follows_a_list(fed: Fed, stub: Stub) -> None:
    says("knot-resolver", "It ignores rules for addresses (`rpz-ip`).")
    stub.addresses["address.example."] = "198.51.100.7"
    fed.scene.publish("a.example", "b.example", hosts=("host.example",), ips=("198.51.100.0/24",))
    fed.sync()
    with fed.resolver(stub, fed.text) as resolver:
        resolver.wait(lambda: resolver.blocked("a.example"))
        for name in ("x.y.a.example", "b.example", "host.example"):
            assert resolver.blocked(name), name
        for name in ("other.example", "below.host.example"):
            assert not resolver.blocked(name), name
        assert resolver.ask("address.example").answer[0][0].to_text() == "198.51.100.7"
        errors = [option for option in resolver.ask("a.example").options if isinstance(option, dns.edns.EDEOption)]
        assert [one.code for one in errors] == [dns.edns.EDECode.CENSORED]
        fed.scene.publish("b.example", "c.example")
        fed.sync()
        resolver.wait(lambda: resolver.blocked("c.example") and not resolver.blocked("a.example"))
        fed.scene.publish()
        fed.sync()
        resolver.wait(lambda: not resolver.blocked("b.example"))


def test_knot_resolver_blocks_by_its_file_while_nobody_updates_that(fed: Fed, stub: Stub) -> None:
    says("knot-resolver", "When `blocklistd sync` stops, or the publisher is away, it keeps blocking by the file")
    fed.scene.daemon.stop()
    for _ in ("first start", "restart"):
        with fed.resolver(stub, fed.text) as resolver:
            resolver.wait(lambda: resolver.blocked("a.example"))
            assert not resolver.blocked("other.example")


TRIAL = """\
local ffi = require("ffi")
policy.add(policy.rpz(
    function (_, request)
        log_notice(ffi.C.LOG_GRP_POLICY, "would block %s",
            kres.dname2str(request:current().sname))
    end,
    "/var/lib/blocklistd-sync/national/national.rpz",
    true))
"""


def test_knot_resolver_on_trial_logs_what_it_would_block(fed: Fed, stub: Stub) -> None:
    with fed.resolver(stub, says("knot-resolver", TRIAL)) as resolver:
        resolver.wait(lambda: not resolver.blocked("a.example") and not resolver.blocked("other.example"))
        log = resolver.log.read_text()
        assert f"{says('knot-resolver', 'would block')} a.example." in log
        assert "other.example" not in log
        assert resolver.ask("a.example").options == ()


def test_the_policy_of_knot_resolver_is_taken_out_by_a_restart(fed: Fed, stub: Stub) -> None:
    says("knot-resolver", "Put `--` before each line of `policy.add`")
    with fed.resolver(stub, fed.text) as resolver:
        resolver.wait(lambda: resolver.blocked("a.example"))
    with fed.resolver(stub, "".join(f"--{line}\n" for line in fed.text.splitlines())) as resolver:
        resolver.wait(lambda: not resolver.blocked("a.example"))
