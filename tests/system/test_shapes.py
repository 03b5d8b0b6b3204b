"""Every shape of list that hotlines publish arrives right: one daemon with a source and a list for each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shapes import SHAPES, Shape
from tests.system.daemon import Daemon

IDS = {name: name.replace(" ", "-").replace(",", "").lower() for name in SHAPES}


def _source(folder: Path, shape: Shape) -> dict[str, object]:
    return {**shape.source, "url": f"file:{folder / shape.file}", "schedule": "every 1d", "verify": {"method": "none"}}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("shapes")
    for name, shape in SHAPES.items():
        (folder / IDS[name]).mkdir()
        (folder / IDS[name] / shape.file).write_bytes(shape.body)
    sources = {IDS[name]: _source(folder / IDS[name], shape) for name, shape in SHAPES.items()}
    guards = {"max_rejected": "100%", "min_entries": 1}
    lists = {name: {"sources": [name], "guards": guards} for name in sources}
    with Daemon(folder, {"sources": sources, "lists": lists}) as running:
        yield running


@pytest.fixture(scope="module")
def token(daemon: Daemon) -> str:
    for source in IDS.values():
        daemon.first_pull(source)
    return daemon.subscriber("isp", *IDS.values())


@pytest.mark.parametrize("name", SHAPES)
def test_a_list_of_this_shape_arrives_right(daemon: Daemon, token: str, name: str) -> None:
    shape = SHAPES[name]
    lines = [json.loads(line) for line in daemon.snapshot(IDS[name], token).splitlines()]
    assert {(line["type"], line["value"]) for line in lines} == shape.entries
    rejected = daemon.ask("source show", source=IDS[name]).json["rejected"]
    assert rejected == shape.rejected
