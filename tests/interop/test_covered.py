"""Real resolvers block exactly the listed names, in lists with names below listed domains that hypothesis generates."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.interop.programs import Peers, Resolver
from tests.interop.stub import Stub
from tests.property.test_zones import list_blocks, listed_names
from tests.system.daemon import free_port
from tests.system.test_zones import Scene

CASES = st.lists(listed_names, min_size=40, max_size=40)
"""Many cases, each below a name of its own, in one version: one version for each would take too long."""


def entries_of(cases: list[dict[str, str]], round_: int) -> dict[str, str]:
    return {
        f"{name}.case{number}.round{round_}.example": kind
        for number, case in enumerate(cases)
        for name, kind in case.items()
    }


def names_to_query(entries: dict[str, str]) -> list[str]:
    """The names to query: each entry, and names below, beside and above it."""
    near = {f"{prefix}{name}" for name in entries for prefix in ("", "a.", "b.zz.")}
    near |= {name.partition(".")[2] for name in entries if name.count(".") > 3}
    return sorted(near)


def check(scene: Scene, resolver: Resolver, cases: list[dict[str, str]], round_: int) -> None:
    entries = entries_of(cases, round_)
    marker = f"marker{round_}.example"
    scene.publish(
        marker,
        *(name for name, kind in entries.items() if kind == "domain"),
        hosts=tuple(name for name, kind in entries.items() if kind == "host"),
    )
    resolver.wait(lambda: resolver.blocked(marker))
    wrong = [name for name in names_to_query(entries) if resolver.blocked(name) != list_blocks(entries, name)]
    assert wrong == []


@pytest.mark.parametrize("software", ["bind", "unbound"])
def test_a_resolver_blocks_exactly_the_listed_names(tmp_path: Path, stub: Stub, peers: Peers, software: str) -> None:
    scene, port = Scene(tmp_path), free_port()
    with scene.daemon:
        scene.daemon.first_pull("hotline")
        with peers.start(software, scene.folder, stub, port, peers.printed(scene, software, port)) as resolver:
            rounds = iter(range(100))

            @settings(
                max_examples=3,
                deadline=None,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(CASES)
            def holds(cases: list[dict[str, str]]) -> None:
                check(scene, resolver, cases, next(rounds))

            holds()
