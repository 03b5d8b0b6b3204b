"""Renderings over HTTP: when they are made and dropped, and that no unverified byte is sent."""

from __future__ import annotations

import asyncio
import gzip
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
import zstandard
from aiohttp import web

from blocklistd.change import ChangeKind, VersionInfo
from blocklistd.config import Address
from blocklistd.errors import JobError, StoreError
from blocklistd.jobs.runner import Jobs
from blocklistd.jobs.sandbox import JobLimits
from blocklistd.jobs.spread import in_processes
from blocklistd.lines.delta import ENTRIES, apply, in_turn, net, render
from blocklistd.lines.ids import BLAKE2B
from blocklistd.lines.snapshot import changed_lines
from blocklistd.model import Entry, ListId, Sha256, SubscriberId, Version
from blocklistd.serve.http import renderings
from blocklistd.serve.http.access import Access
from blocklistd.serve.http.feed import FeedHandler
from blocklistd.serve.http.listener import Listener, bind
from blocklistd.serve.http.live_lists import Document, ListView, LiveLists
from blocklistd.serve.http.renderings import StoredRenderings
from blocklistd.serve.http.routes import Routes
from blocklistd.store import render as rendering
from blocklistd.store.credentials import digest
from blocklistd.store.database import Database
from blocklistd.store.files import fingerprint
from blocklistd.store.render import ServedFile, compress, export_path
from blocklistd.store.schema import lists, metadata, versions
from blocklistd.store.store import Store
from blocklistd.store.subscribers import Subscriber
from blocklistd.store.verified import Verified
from tests.damage import flip_a_bit

LIST, SESSION, TOKEN = ListId("national"), "session", "token-of-a-test"
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
WITHIN = 20.0  # seconds


class JobsInThreads(Jobs):
    """Runs a job in a thread, once `release` is set."""

    def __init__(self) -> None:
        self.asked = 0
        self.names: list[str] = []
        self.release = asyncio.Event()
        self.release.set()

    async def run(self, work: Callable[..., Any], *arguments: Any, limits: JobLimits) -> Any:
        self.names.append(work.__name__)
        await self.release.wait()
        return await asyncio.to_thread(work, *arguments)


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def snapshot(names: Sequence[str]) -> bytes:
    return b"".join(sorted(Entry("domain", name, {"id": f"e-{name}"}).line() + b"\n" for name in names))


class Scene:
    """A feed of one list, with a version for each of some sets of names."""

    def __init__(self, folder: Path, *contents: Sequence[str]) -> None:
        self.store = Store(folder)
        self.store.sealed.prepare()
        self.store.diffs.mkdir()
        self.database = Database(self.store.database)
        self.jobs = JobsInThreads()
        self.verified = Verified(self.store.sealed)
        self.damaged: list[Sha256] = []
        self.renderings = StoredRenderings(self.store, self.database, self.jobs, self.verified, self.damaged.append)
        self.contents = [b"", *map(snapshot, contents)]
        self.snapshots: list[Sha256 | None] = [None]
        self.deltas: list[Sha256 | None] = [None]
        metadata.create_all(self.database.engine)
        with self.database.write() as connection:
            connection.execute(
                lists.insert().values(id=LIST, session=SESSION, secret=b"s" * 32, ids=BLAKE2B, created=NOW)
            )
            for number in range(1, len(self.contents)):
                self._publish(connection, Version(number))

    def _publish(self, connection: Any, number: Version) -> None:
        old, new = self.contents[number - 1 : number + 1]
        delta = render(ENTRIES, *changed_lines(old, new))
        self.snapshots.append(self._seal(new))
        self.deltas.append(self._seal(delta.data) if number > 1 else None)
        self.live = VersionInfo(
            list=LIST,
            session=SESSION,
            version=number,
            time=NOW,
            entries=new.count(b"\n"),
            length=len(new),
            sha256=self.snapshot(),
            added=delta.added,
            removed=delta.removed,
            changed=delta.changed,
            canonicaliser=1,
            kind=ChangeKind.SOURCE,
            cause="hotline",
            released_by="auto",
            delta=self.deltas[-1],
        )
        row = asdict(self.live)
        del row["session"]
        connection.execute(versions.insert().values(**row))

    def _seal(self, content: bytes) -> Sha256:
        with self.store.sealed.create() as draft:
            draft.write(content)
        assert draft.sealed is not None
        return draft.sealed

    def snapshot(self, version: int = -1) -> Sha256:
        found = self.snapshots[version]
        assert found is not None
        return found

    def sealed(self, digest: Sha256 | None, suffix: str = "") -> Path:
        assert digest is not None
        path = self.store.sealed.path(digest)
        return path.with_name(path.name + suffix)

    def diff_file(self, start: int, end: int, suffix: str = "") -> Path:
        return self.store.diffs / SESSION / f"{start}-{end}.ndjson{suffix}"

    def view(self) -> ListView:
        targets = {found: self.live for found in self.snapshots if found is not None}
        status = Document.of(b"{}")
        return ListView(LIST, SESSION, self.live, Version(1), status, {}, targets, NOW)

    # -- the client ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        live_lists, access = LiveLists(), Access()
        live_lists.publish(self.view())
        subscriber = Subscriber(
            SubscriberId("isp"), frozenset([LIST]), frozenset(), (), (), (), NOW, "alice", revoked=None
        )
        access.replace({digest(TOKEN): subscriber})
        self.begun = 0
        """Requests that have begun, by what the test counts."""

        def enter(request: web.BaseRequest) -> Subscriber:
            self.begun += 1
            return access.enter(request)

        routes = Routes(enter, FeedHandler(live_lists, access, self.renderings).routes())
        self._listener = Listener("feed", routes.answer, connections=access.connections, holder_of=access.holder_of)
        await self._listener.start([bind(Address("127.0.0.1", 0), "feed.listen")], None)
        self._client = aiohttp.ClientSession(auto_decompress=False, skip_auto_headers=["Accept-Encoding"])

    async def stop(self) -> None:
        await self._client.close()
        await self._listener.stop()
        self.database.close()

    async def get(self, path: str, **headers: str) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent["Authorization"] = f"Bearer {TOKEN}"
        async with self._client.get(
            f"http://{self._listener.addresses[0]}/v1/lists/{LIST}/{path}", headers=sent
        ) as answer:
            body = await answer.read()
            return Answer(answer.status, {name.lower(): value for name, value in answer.headers.items()}, body)

    async def target(self, version: int = -1, **headers: str) -> Answer:
        return await self.get(f"targets/{self.snapshot(version)}.{LIST}.ndjson", **headers)

    async def diff(self, start: int, end: int, **headers: str) -> Answer:
        return await self.get(f"diffs/{start}-{end}", **headers)

    def difference(self, start: int, end: int) -> bytes:
        """What the diff has to be."""
        return render(ENTRIES, *changed_lines(self.contents[start], self.contents[end])).data


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    names = [f"n{number}.example" for number in range(1000)]
    made = Scene(tmp_path, names, [*names[5:], "a.example"], [*names[7:], "b.example"], [*names, "c.example"])
    await made.start()
    yield made
    await made.stop()


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def unpacked(answer: Answer) -> bytes:
    assert answer.status == 200
    match answer.headers.get("content-encoding"):
        case "zstd":
            return zstandard.ZstdDecompressor().decompress(answer.body)
        case "gzip":
            return gzip.decompress(answer.body)
    return answer.body


async def test_a_snapshot_is_sent_uncompressed_until_zstd_is_made(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renderings, "_SMALL_FILE", 0)  # so that a job makes it
    scene.jobs.release.clear()
    plain = await scene.target()
    for _ in range(3):
        early = await scene.target(Accept_Encoding="zstd")
        assert early == plain._replace(headers=early.headers)
        assert "content-encoding" not in early.headers
        assert early.headers["etag"] == plain.headers["etag"]
        assert early.headers["vary"] == "Accept-Encoding"
    unchanged = await scene.target(Accept_Encoding="zstd", If_None_Match=plain.headers["etag"])
    assert (unchanged.status, unchanged.headers["etag"]) == (304, plain.headers["etag"])
    scene.jobs.release.set()
    await until(lambda: scene.renderings._fingerprints != {})
    zipped = await scene.target(Accept_Encoding="zstd")
    assert zipped.headers["content-encoding"] == "zstd"
    assert zipped.headers["etag"] != plain.headers["etag"]
    assert unpacked(zipped) == plain.body == scene.contents[-1]
    assert scene.jobs.names == ["compress"], "once, although four asked"


async def test_prepared_zstd_is_sent_to_the_first_request(scene: Scene) -> None:
    await scene.renderings.prepare(scene.snapshot())
    answer = await scene.target(Accept_Encoding="zstd, gzip")
    assert answer.headers["content-encoding"] == "zstd"
    assert unpacked(answer) == scene.contents[-1]


async def test_a_client_that_refuses_identity_waits_for_zstd(scene: Scene) -> None:
    answer = await scene.target(Accept_Encoding="identity;q=0, zstd")
    assert answer.headers["content-encoding"] == "zstd"
    assert unpacked(answer) == scene.contents[-1]


async def test_gzip_is_made_at_the_first_request(scene: Scene) -> None:
    answer = await scene.target(Accept_Encoding="gzip")
    assert answer.headers["content-encoding"] == "gzip"
    assert unpacked(answer) == scene.contents[-1]


async def test_prepare_raises_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> str:
        raise StoreError("the disk is full")

    monkeypatch.setattr(renderings, "compress", fail)
    await scene.renderings.prepare(scene.snapshot())
    assert unpacked(await scene.target(Accept_Encoding="zstd")) == scene.contents[-1]
    assert unpacked(await scene.target(Accept_Encoding="gzip")) == scene.contents[-1]
    flip_a_bit(scene.sealed(scene.snapshot(1)))
    await scene.renderings.prepare(scene.snapshot(1))
    assert scene.damaged == [scene.snapshot(1)]


async def test_the_diff_of_neighbours_is_the_sealed_delta_itself(scene: Scene) -> None:
    for end in (2, 3, 4):
        assert unpacked(await scene.diff(end - 1, end)) == scene.difference(end - 1, end)
        with await scene.renderings.open_diff(scene.view(), Version(end - 1), Version(end), "identity") as opened:
            assert opened.path == scene.sealed(scene.deltas[end])
    assert list(scene.store.diffs.iterdir()) == []


async def test_other_diffs_are_merged_once_in_each_direction(scene: Scene) -> None:
    for start in range(1, 5):
        for end in range(1, 5):
            found = unpacked(await scene.diff(start, end, Accept_Encoding="zstd"))
            assert found == scene.difference(start, end)
            assert b"".join(apply(ENTRIES, scene.contents[start], found)) == scene.contents[end]
    assert (await scene.diff(2, 2)).body == b""
    made = fingerprint(scene.diff_file(1, 3))
    await asyncio.gather(*(scene.diff(1, 3) for _ in range(5)))
    assert fingerprint(scene.diff_file(1, 3)) == made


@pytest.mark.parametrize("error", [StoreError("the disk is full"), JobError("it was killed")])
async def test_a_diff_that_cant_be_made_is_answered_410_take_the_snapshot(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as broken:
        broken.setattr(renderings, "write_diff", fail)
        for start, end in ((1, 3), (4, 1)):
            answer = await scene.diff(start, end, Accept_Encoding="zstd")
            assert answer.status == 410
            assert b"take the snapshot" in answer.body
            assert answer.headers["cache-control"] == "no-store"
        assert unpacked(await scene.diff(3, 4)) == scene.difference(3, 4), "it is there already"
        assert unpacked(await scene.target(Accept_Encoding="zstd")) == scene.contents[-1]
    assert unpacked(await scene.diff(1, 3)) == scene.difference(1, 3)


async def test_a_diff_with_a_dropped_delta_is_answered_410(scene: Scene) -> None:
    """The request has read the live lists before the delta was dropped."""
    with scene.database.write() as connection:
        connection.execute(versions.update().where(versions.c.version == 3).values(delta=None))
    for start, end in ((2, 3), (1, 3), (4, 1)):
        assert (await scene.diff(start, end)).status == 410
    assert (await scene.diff(3, 4)).status == 200


async def test_no_wrong_byte_is_sent_of_a_snapshot_with_a_flipped_bit(scene: Scene) -> None:
    assert unpacked(await scene.target()) == scene.contents[-1]
    flip_a_bit(scene.sealed(scene.snapshot()))
    for coding in ("identity", "zstd", "gzip", "zstd, identity;q=0"):
        refused = await scene.target(Accept_Encoding=coding)
        assert (refused.status, refused.headers["retry-after"]) == (503, "5"), coding
        assert refused.headers["content-type"] == "application/problem+json"
        assert b"under repair" in refused.body
    assert set(scene.damaged) == {scene.snapshot()}
    assert (await scene.target(Range="bytes=0-3")).status == 503
    assert unpacked(await scene.target(1)) == scene.contents[1], "another file is not concerned"
    scene._seal(scene.contents[-1])
    assert unpacked(await scene.target()) == scene.contents[-1], "served again as soon as it is repaired"


async def test_no_wrong_byte_is_sent_of_a_delta_with_a_flipped_bit(scene: Scene) -> None:
    assert unpacked(await scene.diff(2, 3)) == scene.difference(2, 3)
    flip_a_bit(scene.sealed(scene.deltas[3]))
    for start, end in ((2, 3), (1, 3), (3, 1), (3, 2)):
        refused = await scene.diff(start, end)
        assert (refused.status, refused.headers["retry-after"]) == (503, "5"), (start, end)
    assert set(scene.damaged) == {scene.deltas[3]}
    assert unpacked(await scene.diff(1, 2)) == scene.difference(1, 2), "other deltas are not concerned"


@pytest.mark.parametrize(("coding", "suffix"), [("zstd", ".zst"), ("gzip", ".gz")])
async def test_no_wrong_byte_is_sent_of_a_rendering_with_a_flipped_bit(scene: Scene, coding: str, suffix: str) -> None:
    waits = f"{coding}, identity;q=0"
    contents = [scene.contents[-1], scene.difference(1, 2), scene.difference(1, 3)]

    async def ask() -> list[Answer]:
        diffs = [await scene.diff(1, end, Accept_Encoding=waits) for end in (2, 3)]
        return [await scene.target(Accept_Encoding=waits), *diffs]

    packed = await ask()
    assert [answer.headers["content-encoding"] for answer in packed] == [coding] * 3
    assert list(map(unpacked, packed)) == contents
    snapshot_file = scene.sealed(scene.snapshot(), suffix)
    for path in (snapshot_file, scene.sealed(scene.deltas[2], suffix), scene.diff_file(1, 3, suffix)):
        flip_a_bit(path)
    assert [answer.body for answer in await ask()] == [answer.body for answer in packed]
    flip_a_bit(snapshot_file)
    assert unpacked(await scene.target(Accept_Encoding=coding)) == contents[0]
    assert scene.damaged == []


async def test_no_wrong_byte_is_sent_of_a_merged_diff_with_a_flipped_bit(scene: Scene) -> None:
    assert unpacked(await scene.diff(1, 3)) == scene.difference(1, 3)
    flip_a_bit(scene.diff_file(1, 3))
    assert unpacked(await scene.diff(1, 3)) == scene.difference(1, 3)
    flip_a_bit(scene.diff_file(1, 3))
    assert unpacked(await scene.diff(1, 3, Accept_Encoding="zstd")) == scene.difference(1, 3)
    scene.diff_file(1, 3).unlink()
    assert unpacked(await scene.diff(1, 3)) == scene.difference(1, 3)
    assert scene.damaged == []


async def test_a_rendering_that_this_process_did_not_make_is_made_again(scene: Scene) -> None:
    scene.diff_file(1, 3).parent.mkdir()
    scene.diff_file(1, 3).write_bytes(b"wrong\n")
    scene.sealed(scene.snapshot(), ".gz").write_bytes(gzip.compress(b"wrong\n"))
    assert unpacked(await scene.diff(1, 3)) == scene.difference(1, 3)
    assert unpacked(await scene.target(Accept_Encoding="gzip")) == scene.contents[-1]


def test_a_file_that_changes_while_it_is_sent_is_sent_incompletely(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    with ServedFile(path) as opened:
        assert opened.fingerprint == fingerprint(path)
        assert opened.read(50) == b"x" * 50
        flip_a_bit(path)
        os.utime(path, ns=(0, 0))
        with pytest.raises(StoreError, match="changed while it was sent"):
            opened.read(50)


def test_a_file_that_is_deleted_while_it_is_sent_is_sent_completely(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    with ServedFile(path) as opened:
        path.unlink()
        assert opened.read(100) == b"x" * 100


def test_a_file_that_changed_since_it_was_verified_is_not_compressed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    verified = fingerprint(path)
    assert verified is not None
    flip_a_bit(path)
    with pytest.raises(StoreError, match="changed after it was verified"):
        compress(path, "zstd", verified)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("size", [0, 1, 600 << 10, 5 << 20])
def test_a_zstd_rendering_is_one_frame_of_the_same_bytes_from_thread_or_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes((snapshot([f"n{number}.example" for number in range(90_000)]))[:size])
    verified = fingerprint(path)
    assert verified is not None
    made = set()
    for threads, piece in ((1, 1 << 16), (2, 1 << 16), (3, 1 << 20), (2, 10_007)):
        monkeypatch.setattr(rendering, "ZSTD_THREADS", threads)
        monkeypatch.setattr(rendering, "FLUSH", piece)
        compress(path, "zstd", verified)
        made.add(path.with_name("file.zst").read_bytes())
    (frame,) = made
    found = zstandard.get_frame_parameters(frame)
    assert (found.content_size, found.has_checksum) == (path.stat().st_size, True)
    assert zstandard.ZstdDecompressor().decompress(frame) == path.read_bytes()


def test_several_processes_merge_to_the_same_diff_as_one() -> None:
    contents = [snapshot([f"n{number}.example" for number in range(start, 30_000)]) for start in (0, 9_000, 12_000)]
    deltas = [render(ENTRIES, *changed_lines(*pair)).data for pair in pairwise(contents)]
    for reverse in (False, True):
        alone = list(net(ENTRIES, deltas, reverse=reverse, spread=in_turn))
        assert list(net(ENTRIES, deltas, reverse=reverse, spread=in_processes)) == alone
        assert sum(part.added if reverse else part.removed for part in alone) == 12_000


async def test_the_oldest_diffs_are_dropped_and_never_the_newest(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renderings, "DIFF_CACHE", 10)
    folder = scene.store.diffs / SESSION
    folder.mkdir(parents=True)
    for age, name in enumerate(("1-3.ndjson", "1-2.ndjson")):
        (folder / name).write_bytes(b"x" * 20)
        os.utime(folder / name, (1000 - age, 1000 - age))
    (folder / "2-3.ndjson").symlink_to(folder / "gone")  # seen, and dropped before it was looked at
    scene.renderings._fingerprints = dict.fromkeys(map(folder.joinpath, ("1-3.ndjson", "1-2.ndjson")), "")
    scene.renderings.trim()
    assert [path.name for path in folder.iterdir() if path.exists()] == ["1-3.ndjson"]
    assert list(scene.renderings._fingerprints) == [folder / "1-3.ndjson"]


async def test_an_export_that_is_deleted_before_its_count_is_read_is_made_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, output = scene.snapshot(), "plain"
    path, real, opened = export_path(scene.store, digest, output), scene.renderings.open_export, 0

    async def deleted(*arguments: Any) -> ServedFile:
        nonlocal opened
        opened += 1
        made = await real(*arguments)
        if opened == 1:
            path.unlink()
            scene.renderings.trim()
        return made

    monkeypatch.setattr(scene.renderings, "open_export", deleted)
    assert await scene.renderings.omitted(digest, output) == 0  # plain can express every entry
    assert opened == 2


async def test_diffs_that_are_asked_for_are_kept_within_the_bound(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [len(scene.difference(*pair)) for pair in ((1, 3), (1, 4), (4, 2))]
    bound = sizes[0] + max(sizes[1:])
    monkeypatch.setattr(renderings, "DIFF_CACHE", bound)
    for start, end in ((1, 3), (1, 4), (1, 3), (4, 2)):
        await scene.diff(start, end)
        await asyncio.sleep(0.02)  # files that were used in one tick of the clock are equally old
    kept = [path for path in (scene.store.diffs / SESSION).iterdir() if path.suffix == ".ndjson"]
    assert {path.name for path in kept} == {"1-3.ndjson", "4-2.ndjson"}, "1-4 was unused for longest"
    assert sum(path.stat().st_size for path in kept) <= bound
    assert unpacked(await scene.diff(1, 4)) == scene.difference(1, 4), "it is made again"


async def test_a_hundred_clients_that_ask_for_one_pair_cost_one_job_for_each_file(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renderings, "SMALL_DIFF", -1)  # so that jobs make all
    monkeypatch.setattr(renderings, "_SMALL_FILE", -1)
    for start, end in ((1, 4), (4, 1)):
        scene.jobs.names.clear()
        scene.jobs.release.clear()
        codings = [("identity", "zstd", "gzip")[number % 3] for number in range(100)]
        asked = [asyncio.ensure_future(scene.diff(start, end, Accept_Encoding=coding)) for coding in codings]
        await until(lambda: scene.begun == 100 and scene.jobs.names != [])
        assert scene.jobs.names == ["write_diff"]
        asked[0].cancel()  # who asked first leaves
        scene.jobs.release.set()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert all(unpacked(one) == scene.difference(start, end) for one in answers[1:] if isinstance(one, Answer))
        assert sum(isinstance(one, Answer) for one in answers) == 99
        assert sorted(scene.jobs.names) == ["compress", "compress", "write_diff"], "for zstd and gzip one each"
        scene.begun = 0
