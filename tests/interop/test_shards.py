"""Real resolvers with the shards of a zone block what the list lists."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.interop.programs import Peers, Resolver
from tests.interop.stub import Stub
from tests.system.daemon import free_port
from tests.system.test_zones import Scene

NAMES = tuple(f"n{number}.example" for number in range(16))


def blocks(resolver: Resolver, listed: tuple[str, ...], *below: str) -> bool:
    """Whether the resolver blocks the listed domains, names below them and `below`, and none of the other NAMES."""
    expected = {name: name in listed for name in NAMES}
    expected |= {f"x.y.{name}": name in listed for name in NAMES} | dict.fromkeys(below, True)
    return all(resolver.blocked(name) is blocked for name, blocked in expected.items())


@pytest.mark.parametrize("software", ["unbound", "bind"])
def test_a_resolver_with_four_shards_blocks_what_the_list_lists(
    tmp_path: Path, stub: Stub, peers: Peers, software: str
) -> None:
    scene, port = Scene(tmp_path, shards=4), free_port()
    stub.addresses["address.n0.test.example."] = "198.51.100.7"
    scene.write(*NAMES, hosts=("x.n1.example",))
    with scene.daemon:
        scene.daemon.first_pull("hotline")
        with peers.start(software, scene.folder, stub, port, peers.printed(scene, software, port)) as resolver:
            resolver.wait(partial(blocks, resolver, NAMES, "z.x.n1.example"))
            scene.publish(*NAMES[8:], ips=("198.51.100.0/24",))
            resolver.wait(partial(blocks, resolver, NAMES[8:], "address.n0.test.example"))
            scene.publish(*NAMES[:4], hosts=("x.y.n5.example",))
            resolver.wait(lambda: resolver.blocked("x.y.n5.example") and not resolver.blocked("y.n5.example"))
            resolver.wait(lambda: all(resolver.blocked(f"a.{name}") for name in NAMES[:4]))
            scene.publish()
            resolver.wait(partial(blocks, resolver, ()))
