"""Local exceptions of `sync`: out of what is rendered while they last, never out of the verified snapshot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from blocklistd.client import sync as module
from blocklistd.errors import SyncError
from blocklistd.model import Entry
from blocklistd.times import rfc3339, utc_now
from tests.sim.feed import Answer, snapshot_of
from tests.unit.test_client_sync import Scene

FAR = datetime(2999, 1, 1, tzinfo=UTC)
ID_OF_C = json.loads(snapshot_of(["c.example"]))["id"]


class Provider(Scene):
    """A subscriber with a file of exceptions."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.file = folder / "exceptions.json"
        self.feed.receipt_status = 204
        self.feed.publish("a.example", "b.example", "c.example")

    def write(self, *subjects: str, until: datetime = FAR) -> None:
        """Replaces the file."""
        found = [
            {"id" if one.startswith("e-") else "name": one, "reason": "ticket 7", "until": rfc3339(until)}
            for one in subjects
        ]
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps({"exceptions": found}))
        new.rename(self.file)

    def rendered(self, name: str = "plain") -> list[str]:
        return (self.dir / f"national.{name}").read_text().split()

    @property
    def receipt(self) -> tuple[str, str | None]:
        last = self.feed.receipts[-1]
        return last["state"], last["reason"]


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    provider = Provider(tmp_path)
    yield provider
    provider.feed.close()


def test_the_rendering_is_without_them_and_the_snapshot_is_not(provider: Provider) -> None:
    provider.write("a.example", ID_OF_C, "unlisted.example")
    assert provider.sync(format="plain", exceptions=provider.file).excepted == 2
    assert provider.rendered() == ["b.example"]
    assert provider.here == provider.feed.live
    assert (provider.state["entries"], provider.state["sha256"]) == (3, provider.feed.sha256)
    assert provider.said == ["2 of 3 entries are withheld from national.plain by local exceptions"]
    assert provider.receipt == ("partial", "2 of 3 entries are withheld by local exceptions")
    provider.feed.publish("a.example", "b.example", "d.example")
    result = provider.sync(format="plain", exceptions=provider.file)
    assert (result.how, result.excepted) == ("diff", 1)
    assert provider.rendered() == ["b.example", "d.example"]
    assert provider.here == provider.feed.live


def test_without_a_format_exec_gets_a_copy(provider: Provider) -> None:
    provider.write("a.example")
    log = provider.folder / "ran"
    command = f'cp "$BLOCKLISTD_FILE" {log}'
    for name in (None, "ndjson"):
        provider.sync(exec=command, exceptions=provider.file, format=name)
        assert log.read_bytes() == snapshot_of(["b.example", "c.example"])
    assert provider.here == provider.feed.live
    provider.sync(exec=command)
    provider.feed.publish("a.example")
    provider.sync(exec=command)
    assert log.read_bytes() == provider.feed.live


def test_one_that_ends_comes_back_although_the_list_is_the_same(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = provider.folder / "ran"
    command = f"echo >> {log}"
    provider.write("a.example", until=utc_now() + timedelta(hours=1))
    for _ in range(2):
        provider.sync(format="plain", exceptions=provider.file, exec=command)
    assert len(log.read_bytes()) == 1
    monkeypatch.setattr(module, "utc_now", lambda: utc_now() + timedelta(hours=1))
    result = provider.sync(format="plain", exceptions=provider.file, exec=command)
    assert (result.how, result.excepted) == ("unchanged", 0)
    assert provider.rendered() == ["a.example", "b.example", "c.example"]
    assert len(log.read_bytes()) == 2, "the command applies it"
    assert provider.receipt == ("applied", None)
    assert provider.said[1:] == ["0 of 3 entries are withheld from national.plain by local exceptions"]


def test_one_ends_while_the_publisher_is_away(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    log = provider.folder / "ran"
    provider.write("a.example", until=utc_now() + timedelta(hours=1))
    provider.sync(format="plain", exceptions=provider.file)
    monkeypatch.setattr(module, "utc_now", lambda: utc_now() + timedelta(hours=1))
    provider.feed.change = lambda path, answer: Answer(503)
    for _ in range(2):
        with pytest.raises(SyncError, match="503"):
            provider.sync(format="plain", exceptions=provider.file, exec=f"echo >> {log}")
        assert provider.rendered() == ["a.example", "b.example", "c.example"]
        assert len(log.read_bytes()) == 1
    assert provider.state["pending"] is False


def test_a_watch_follows_the_file_and_the_ends(provider: Provider) -> None:
    provider.write("a.example", "b.example")
    with provider.watching(format="plain", exceptions=provider.file) as watched:
        watched.until(lambda: any("2 of 3 entries" in text for text in watched.said))
        assert provider.rendered() == ["c.example"]
        provider.write("a.example", until=utc_now() + timedelta(seconds=4))
        watched.until(lambda: any("1 of 3 entries" in text for text in watched.said))
        watched.until(lambda: any("0 of 3 entries" in text for text in watched.said))
        assert provider.rendered() == ["a.example", "b.example", "c.example"]


@pytest.mark.parametrize("content", ["{", '{"exceptions": [{"name": "shop.example", "reason": "x"}]}', "[]"])
def test_a_faulty_file_is_an_error_and_all_files_stay(provider: Provider, content: str) -> None:
    provider.write("a.example")
    provider.sync(format="plain", exceptions=provider.file)
    before, state = provider.rendered(), provider.state
    provider.feed.publish("b.example")
    provider.file.write_text(content)
    with pytest.raises(SyncError, match=r"--exceptions .*expected .*: correct it; until then all files") as error:
        provider.sync(format="plain", exceptions=provider.file)
    assert "shop.example" not in str(error.value)
    assert (provider.rendered(), provider.state) == (before, state)


def test_formats_have_their_own_exceptions(provider: Provider) -> None:
    provider.write("a.example")
    provider.sync(format="plain", exceptions=provider.file)
    provider.sync(format="unbound")
    provider.sync(format="plain")
    assert provider.rendered() == ["a.example", "b.example", "c.example"]
    assert provider.state["excepted"] == {"plain": 0, "unbound": 0}


def test_a_host_below_an_excepted_domain_is_rendered(provider: Provider) -> None:
    """A listed domain covers it in most formats: without the domain, it needs a line of its own."""
    entries = [Entry("domain", "shop.example", {}), Entry("host", "evil.shop.example", {})]
    provider.feed.version += 1
    provider.feed.snapshots[provider.feed.version] = b"".join(entry.line() + b"\n" for entry in entries)
    provider.feed.sign()
    provider.sync(format="plain")
    provider.sync(format="hosts")
    provider.write("shop.example")
    provider.sync(format="hosts", exceptions=provider.file)
    assert "evil.shop.example" in provider.rendered("hosts")
