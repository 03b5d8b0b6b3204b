"""The entries that a source asserts: a sealed file of lines, or a sealed patch of one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from blocklistd.errors import DamagedError, ParseError, StoreError
from blocklistd.lines.patched import PatchedLines
from blocklistd.model import Sha256
from blocklistd.store import asserted
from blocklistd.store.files import SealedFiles

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


def write_patch(files: SealedFiles, tmp_path: Path, base: Sha256, removes: list[bytes], adds: list[bytes]) -> Path:
    path = tmp_path / "patch"
    patch = PatchedLines(files.path(base).read_bytes()).updated(removes, adds)
    path.write_bytes(b"".join(patch.write(base)))
    return path


def test_a_patch_is_a_sealed_file_and_keeps_its_base(files: SealedFiles, tmp_path: Path) -> None:
    base = seal(files, lines(A, B))
    written = write_patch(files, tmp_path, base, [A], [C])
    content = written.read_bytes()
    digest = asserted.adopt(files, written, base)
    assert digest == hashlib.sha256(content).hexdigest()
    assert files.path(digest).read_bytes() == content
    with asserted.open_assertion(files, digest) as (below, patch):
        assert below == base
        assert patch.read_all() == lines(B, C)
        assert (patch.find(A[:-1]), patch.find(B[:-1]), patch.find(C[:-1])) == (None, B, C)
    assert asserted.bases(files, {digest}) == {base}
    assert files.sweep({digest} | asserted.bases(files, {digest})) == 0
    assert asserted.locate(files, digest) is not None


def test_the_same_lines_on_one_base_have_the_same_digest(files: SealedFiles, tmp_path: Path) -> None:
    base = seal(files, lines(A, B))
    path = tmp_path / "patch"
    for changes, others in (([A], [C]), ([], [])):
        names = set()
        for steps in ([(changes, others)], [([B], []), ([], [B]), (changes, others)]):
            patch = PatchedLines(files.path(base).read_bytes())
            for removes, adds in steps:
                patch = patch.updated(removes, adds)
            path.write_bytes(b"".join(patch.write(base)))
            names.add(asserted.adopt(files, path, base))
        assert len(names) == 1
    assert names == {base}, "a patch without changes has the digest of its base"


def test_a_patch_is_checked_against_the_patch_before_it(files: SealedFiles, tmp_path: Path) -> None:
    base = seal(files, lines(A, B))
    last = asserted.adopt(files, write_patch(files, tmp_path, base, [A], []), base)
    both = asserted.adopt(files, write_patch(files, tmp_path, base, [A], [C]), last)
    with asserted.open_assertion(files, both) as (_, patch):
        assert patch.read_all() == lines(B, C)
    path = write_patch(files, tmp_path, base, [A], [])
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
def test_a_patch_that_is_not_canonical_is_refused(
    files: SealedFiles, tmp_path: Path, steps: list[tuple[str, bytes]]
) -> None:
    base = seal(files, lines(A, B))
    path = tmp_path / "patch"
    written = b'{"base":"%b"}\n' % base.encode()
    for step, line in steps:
        written += b'{"%b":%b}\n' % (step.encode(), line)
    path.write_bytes(written)
    with pytest.raises(ParseError, match="does not fit"):
        asserted.adopt(files, path, base)


def test_a_patch_can_not_drop_the_removal_that_its_addition_needs(files: SealedFiles, tmp_path: Path) -> None:
    base = seal(files, lines(A, B))
    head = b'{"base":"%b"}\n' % base.encode()
    path = tmp_path / "patch"
    path.write_bytes(head + b'{"remove":%b}\n{"add":%b}\n' % (A, SAME))
    one = asserted.adopt(files, path, base)
    path.write_bytes(head + b'{"add":%b}\n' % SAME)
    with pytest.raises(ParseError, match="does not fit"):
        asserted.adopt(files, path, one)


def test_lines_with_a_zero_octet_are_refused(files: SealedFiles, tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(lines(A, b"\0"))
    with pytest.raises(ParseError, match="does not fit"):
        asserted.adopt(files, path)


def test_a_patch_is_refused_where_lines_are_expected(files: SealedFiles, tmp_path: Path) -> None:
    """Otherwise a compromised intake job could make a list from another file of the store."""
    base = seal(files, lines(A, B))
    with pytest.raises(ParseError, match="does not fit"):
        asserted.adopt(files, write_patch(files, tmp_path, base, [A], []))
    path = tmp_path / "lines"
    path.write_bytes(lines(A))
    assert asserted.adopt(files, path) == hashlib.sha256(lines(A)).hexdigest()


def test_differing_finds_the_lines_that_only_one_assertion_has(files: SealedFiles, tmp_path: Path) -> None:
    base, other = seal(files, lines(A, B)), seal(files, lines(B, C))
    one = asserted.adopt(files, write_patch(files, tmp_path, base, [A], []), base)
    two = asserted.adopt(files, write_patch(files, tmp_path, base, [], [C]), base)
    for left, right, apart in ((one, two, {A, C}), (base, two, {C}), (one, one, set())):
        with asserted.open_assertion(files, left) as before, asserted.open_assertion(files, right) as after:
            assert set(asserted.differing_lines(before, after, 9) or ()) == apart
    with asserted.open_assertion(files, one) as before, asserted.open_assertion(files, other) as after:
        assert set(asserted.differing_lines(before, after, 9) or ()) >= {C}


@pytest.mark.parametrize("damage", ["base", "line", "fit", "header"])
def test_a_patch_that_does_not_fit_its_base_is_refused(files: SealedFiles, tmp_path: Path, damage: str) -> None:
    base, other = seal(files, lines(A, B)), seal(files, lines(C))
    path = write_patch(files, tmp_path, base, [A], [C])
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


def test_a_missing_base_is_an_error(files: SealedFiles, tmp_path: Path) -> None:
    base = seal(files, lines(A, B))
    digest = asserted.adopt(files, write_patch(files, tmp_path, base, [A], []), base)
    files.path(base).unlink()
    with pytest.raises(StoreError, match="missing"), asserted.open_assertion(files, digest):
        pass
    with pytest.raises(DamagedError):
        asserted.files_of(files, digest)
