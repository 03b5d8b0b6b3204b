"""What a source asserts, as a file or as changes of one: found by the digest of what is written either way."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from blocklistd.errors import ParseError, StoreError
from blocklistd.model import Sha256
from blocklistd.outputs.overlay import Overlay
from blocklistd.versions import asserted
from blocklistd.versions.files import SealedFiles

A, B, C = (b'{"type":"domain","value":"%b.example"}' % name for name in (b"a", b"b", b"c"))


def lines(*some: bytes) -> bytes:
    return b"".join(line + b"\n" for line in some)


@pytest.fixture
def files(tmp_path: Path) -> SealedFiles:
    made = SealedFiles(tmp_path / "sealed")
    made.prepare()
    return made


def seal(files: SealedFiles, content: bytes) -> Sha256:
    with files.create() as draft:
        draft.write(content)
    assert draft.sealed is not None
    return draft.sealed


def overlaid(files: SealedFiles, tmp_path: Path, base: Sha256, removes: list[bytes], adds: list[bytes]) -> Path:
    path = tmp_path / "overlay"
    overlay = Overlay(files.path(base).read_bytes()).revised(removes, adds)
    path.write_bytes(b"".join(overlay.write(base)))
    return path


def test_an_overlay_is_a_sealed_file_and_keeps_its_base(files: SealedFiles, tmp_path: Path) -> None:
    base = seal(files, lines(A, B))
    written = overlaid(files, tmp_path, base, [A], [C])
    content = written.read_bytes()
    digest = asserted.adopt(files, written, base)
    assert digest == hashlib.sha256(content).hexdigest()
    assert files.path(digest).read_bytes() == content
    with asserted.opened(files, digest) as (below, overlay):
        assert below == base
        assert overlay.whole() == lines(B, C)
        assert (overlay.find(A[:-1]), overlay.find(B[:-1]), overlay.find(C[:-1])) == (None, B, C)
    assert asserted.intact(files, digest)
    assert asserted.bases(files, {digest}) == {base}
    assert files.sweep({digest} | asserted.bases(files, {digest})) == 0
    assert asserted.place(files, digest) is not None


def test_what_was_and_is_again_has_the_same_name(files: SealedFiles, tmp_path: Path) -> None:
    base = seal(files, lines(A, B))
    path = tmp_path / "overlay"
    for changes, others in (([A], [C]), ([], [])):
        names = set()
        for steps in ([(changes, others)], [([B], []), ([], [B]), (changes, others)]):
            overlay = Overlay(files.path(base).read_bytes())
            for removes, adds in steps:
                overlay = overlay.revised(removes, adds)
            path.write_bytes(b"".join(overlay.write(base)))
            names.add(asserted.adopt(files, path, base))
        assert len(names) == 1
    assert names == {base}, "of no changes at all"


def test_an_overlay_is_looked_at_where_it_is_not_the_last_one(files: SealedFiles, tmp_path: Path) -> None:
    base = seal(files, lines(A, B))
    last = asserted.adopt(files, overlaid(files, tmp_path, base, [A], []), base)
    both = asserted.adopt(files, overlaid(files, tmp_path, base, [A], [C]), last)
    with asserted.opened(files, both) as (_, overlay):
        assert overlay.whole() == lines(B, C)
    path = overlaid(files, tmp_path, base, [A], [])
    for wrong in (b'{"remove":' + C, b'{"add":' + B, b'{"add":' + A):
        path.write_bytes(b'{"base":"%b"}\n{"remove":%b}\n%b}\n' % (base.encode(), A, wrong))
        with pytest.raises(ParseError, match="does not fit"):
            asserted.adopt(files, path, last)


SAME = b'{"type":"domain","value":"a.example","confidence":9}'


@pytest.mark.parametrize(
    "steps",
    [
        [("remove", A), ("add", A)],
        [("add", SAME)],
        [("remove", A), ("add", SAME), ("add", SAME)],
        [("remove", A), ("add", C), ("add", SAME)],
        [("add", C), ("remove", A)],
        [("add", C[:-1] + b"\0}")],
        [("add", C + b" ")],
        [("add", b'{"type":"domain","value":"c.example"junk')],
    ],
)
def test_an_overlay_says_what_it_says_in_one_way(
    files: SealedFiles, tmp_path: Path, steps: list[tuple[str, bytes]]
) -> None:
    base = seal(files, lines(A, B))
    path = tmp_path / "overlay"
    written = b'{"base":"%b"}\n' % base.encode()
    for step, line in steps:
        written += b'{"%b":%b}\n' % (step.encode(), line)
    path.write_bytes(written)
    with pytest.raises(ParseError, match="does not fit"):
        asserted.adopt(files, path, base)


def test_a_removal_that_goes_while_its_addition_stays(files: SealedFiles, tmp_path: Path) -> None:
    base = seal(files, lines(A, B))
    head = b'{"base":"%b"}\n' % base.encode()
    path = tmp_path / "overlay"
    path.write_bytes(head + b'{"remove":%b}\n{"add":%b}\n' % (A, SAME))
    one = asserted.adopt(files, path, base)
    path.write_bytes(head + b'{"add":%b}\n' % SAME)
    with pytest.raises(ParseError, match="does not fit"):
        asserted.adopt(files, path, one)


def test_an_overlay_that_does_not_fit_is_not_intact(files: SealedFiles) -> None:
    """Whoever wrote it there: all that is made of it would fail."""
    base = seal(files, lines(A, B))
    assert not asserted.intact(files, seal(files, b'{"base":"%b"}\n{"add":%b}\n' % (base.encode(), A)))
    assert asserted.intact(files, seal(files, b'{"base":"%b"}\n{"add":%b}\n' % (base.encode(), C)))


def test_lines_hold_no_octet_of_zero(files: SealedFiles, tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(lines(A, b"\0"))
    with pytest.raises(ParseError, match="does not fit"):
        asserted.adopt(files, path)


def test_lines_are_no_overlay(files: SealedFiles, tmp_path: Path) -> None:
    """What reads hostile bytes can't have a list made of some other file of the store."""
    base = seal(files, lines(A, B))
    with pytest.raises(ParseError, match="does not fit"):
        asserted.adopt(files, overlaid(files, tmp_path, base, [A], []))
    path = tmp_path / "lines"
    path.write_bytes(lines(A))
    assert asserted.adopt(files, path) == hashlib.sha256(lines(A)).hexdigest()


def test_what_two_assertions_differ_in(files: SealedFiles, tmp_path: Path) -> None:
    base, other = seal(files, lines(A, B)), seal(files, lines(B, C))
    one = asserted.adopt(files, overlaid(files, tmp_path, base, [A], []), base)
    two = asserted.adopt(files, overlaid(files, tmp_path, base, [], [C]), base)
    for left, right, apart in ((one, two, {A, C}), (base, two, {C}), (one, one, set())):
        with asserted.opened(files, left) as before, asserted.opened(files, right) as after:
            assert set(asserted.differing(before, after)) == apart
    with asserted.opened(files, one) as before, asserted.opened(files, other) as after:
        assert set(asserted.differing(before, after)) >= {C}


@pytest.mark.parametrize("damage", ["base", "line", "fit", "header"])
def test_an_overlay_that_does_not_fit_is_refused(files: SealedFiles, tmp_path: Path, damage: str) -> None:
    base, other = seal(files, lines(A, B)), seal(files, lines(C))
    path = overlaid(files, tmp_path, base, [A], [C])
    written = path.read_bytes()
    path.write_bytes(
        {
            "base": written.replace(base.encode(), other.encode()),
            "line": written[:-5],
            "fit": written.replace(b'{"remove":' + A, b'{"remove":' + C),
            "header": written[2:],
        }[damage]
    )
    with pytest.raises(ParseError, match="does not fit"):
        asserted.adopt(files, path, base)


def test_what_is_missing_is_said(files: SealedFiles, tmp_path: Path) -> None:
    base = seal(files, lines(A, B))
    digest = asserted.adopt(files, overlaid(files, tmp_path, base, [A], []), base)
    files.path(base).unlink()
    with pytest.raises(StoreError, match="missing"), asserted.opened(files, digest):
        pass
    assert not asserted.intact(files, digest)


@pytest.mark.parametrize("keep", [0, 5, 80, -5])
def test_an_overlay_that_was_cut_short_is_not_intact(files: SealedFiles, tmp_path: Path, keep: int) -> None:
    base = seal(files, lines(A, B))
    digest = asserted.adopt(files, overlaid(files, tmp_path, base, [A], [C]), base)
    overlay = files.path(digest)
    overlay.write_bytes(overlay.read_bytes()[:keep])
    assert not asserted.intact(files, digest)
    assert asserted.bases(files, {digest}) <= {base}


def test_a_base_that_was_cut_short_is_not_intact(files: SealedFiles, tmp_path: Path) -> None:
    base = seal(files, lines(A, B))
    digest = asserted.adopt(files, overlaid(files, tmp_path, base, [A], [C]), base)
    files.path(base).write_bytes(lines(A, B)[:-5])
    assert not asserted.intact(files, digest)


@pytest.fixture
def older(files: SealedFiles, tmp_path: Path) -> tuple[Sha256, Path]:
    """An overlay as it was once kept: named by its lines, beside where they would be."""
    base = seal(files, lines(A, B))
    digest = Sha256(hashlib.sha256(lines(B, C)).hexdigest())
    path = files.path(digest).with_name(f"{digest}.overlay")
    overlaid(files, tmp_path, base, [A], [C]).rename(path)
    return digest, path


def test_an_overlay_of_an_older_store_is_read(files: SealedFiles, tmp_path: Path, older: tuple[Sha256, Path]) -> None:
    digest, path = older
    assert asserted.intact(files, digest)
    with asserted.opened(files, digest) as (below, overlay):
        assert overlay.whole() == lines(B, C)
    assert below is not None
    assert asserted.bases(files, {digest}) == {below}
    assert files.sweep({digest, below}) == 0
    following = asserted.adopt(files, overlaid(files, tmp_path, below, [A], []), digest)
    assert files.sweep({following, below}) == 1
    assert not path.exists()


@pytest.mark.parametrize("keep", [0, 5, 80, -5])
def test_an_overlay_of_an_older_store_that_is_damaged(
    files: SealedFiles, older: tuple[Sha256, Path], keep: int
) -> None:
    digest, path = older
    path.write_bytes(path.read_bytes()[:keep])
    assert not asserted.intact(files, digest)
    asserted.discard(files, digest)
    assert asserted.place(files, digest) is None


def test_a_damaged_base_goes_with_what_stands_on_it(files: SealedFiles, tmp_path: Path) -> None:
    base = seal(files, lines(A, B))
    digest = asserted.adopt(files, overlaid(files, tmp_path, base, [A], [C]), base)
    asserted.discard(files, digest)
    assert asserted.intact(files, digest), "nothing was damaged"
    files.path(base).write_bytes(lines(A))
    asserted.discard(files, digest)
    assert asserted.place(files, digest) is None
    assert not files.path(base).exists()
