"""Knot Resolver with the printed configuration blocks by the file that `sync` keeps up to date."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import dns.edns
import dns.message
import dns.query
import dns.rcode

from blocklistd.client.options import Options
from blocklistd.client.sync import sync_once
from tests.interop.programs import Resolver, running
from tests.interop.stub import Stub
from tests.peers import peer
from tests.system.daemon import free_port
from tests.system.test_zones import Scene

PRINTED = "/var/lib/blocklistd-sync"


@contextlib.contextmanager
def kresd(folder: Path, stub: int, port: int, pasted: str) -> Iterator[Resolver]:
    program = peer("/usr/sbin/kresd", "knot-resolver")
    (folder / "kresd").mkdir()
    (folder / "kresd.conf").write_text(
        f"net.listen('127.0.0.1', {port}, {{ kind = 'dns' }})\ncache.size = 10 * MB\ntrust_anchors.remove('.')\n"
        f"{pasted}\npolicy.add(policy.all(policy.STUB('127.0.0.1@{stub}')))\n"
    )
    with running([program, "-n", "-q", "-c", str(folder / "kresd.conf"), str(folder / "kresd")], folder / "kresd.log"):
        yield Resolver(port, folder / "kresd.log")


def test_knot_resolver_follows_a_list(tmp_path: Path, stub: Stub) -> None:
    scene, port = Scene(tmp_path), free_port()
    with scene.daemon:
        scene.daemon.first_pull("hotline")
        made = scene.daemon.ask("subscriber add", id="isp", lists=["national"], software="knot-resolver").json
        text = made["config"]["knot-resolver"]
        (tmp_path / "token").write_text(made["token"])
        url, token, copy = f"http://127.0.0.1:{scene.daemon.feed_port}", tmp_path / "token", tmp_path / "national"
        options = Options(url, "national", scene.daemon.root, copy, token_file=token, format="rpz")
        assert f"blocklistd sync {options.url} national" in text
        scene.publish("a.example", "b.example", hosts=("host.example",))
        sync_once(options, print)
        with kresd(tmp_path, stub.port, port, text.replace(PRINTED, str(tmp_path))) as resolver:
            resolver.wait(lambda: resolver.blocked("a.example"))
            for name in ("x.y.a.example", "b.example", "host.example"):
                assert resolver.blocked(name), name
            for name in ("other.example", "below.host.example"):
                assert not resolver.blocked(name), name
            query = dns.message.make_query("a.example", "A", use_edns=0)
            answer = dns.query.udp(query, "127.0.0.1", port=port, timeout=5)
            errors = [option for option in answer.options if isinstance(option, dns.edns.EDEOption)]
            assert [one.code for one in errors] == [dns.edns.EDECode.CENSORED]
            scene.publish("b.example", "c.example")
            sync_once(options, print)
            resolver.wait(lambda: resolver.blocked("c.example") and not resolver.blocked("a.example"))
            scene.publish()
            sync_once(options, print)
            resolver.wait(lambda: not resolver.blocked("b.example"))
        scene.daemon.stop()
