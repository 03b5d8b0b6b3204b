"""Since when entries are live or asserted: one time for all, and the exceptions in a sealed file."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocklistd.limits import PATCH_SHARE
from blocklistd.model import Entry, Sha256
from blocklistd.store import ages
from blocklistd.store.ages import StoredAges, follow, open_ages, since_of, update
from blocklistd.store.files import SealedFiles
from tests.versions_of import NOW

DAY = timedelta(days=1)
NAMES = [f"n{number:04}.example" for number in range(40)]


def key(name: str) -> bytes:
    return Entry("domain", name).line().removesuffix(b"}")


def keys(names: Iterable[str]) -> list[bytes]:
    return sorted(map(key, names))


def lines(names: Iterable[str], **attributes: str | int) -> bytes:
    return b"".join(sorted(Entry("domain", name, attributes).line() + b"\n" for name in names))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> SealedFiles:
    made = SealedFiles(tmp_path_factory.mktemp("store") / "sealed")
    made.prepare()
    return made


def followed(files: SealedFiles, stored: StoredAges, before: bytes, after: bytes, days: int) -> StoredAges:
    with open_ages(files, stored.file, stored.since) as known:
        return StoredAges(follow(files, known, before, after, NOW + days * DAY), stored.since)


def updated(
    files: SealedFiles, stored: StoredAges, removed: Iterable[str], added: Iterable[str], days: int
) -> StoredAges:
    with open_ages(files, stored.file, stored.since) as known:
        return StoredAges(update(files, known, keys(removed), keys(added), NOW + days * DAY), stored.since)


def known(files: SealedFiles, stored: StoredAges) -> dict[bytes, int]:
    """The days of the exceptions."""
    with open_ages(files, stored.file, stored.since) as opened:
        found = bytes(opened.exceptions.read_all()).splitlines()
        assert found == sorted(found)
        return {line[: line.index(b',"since"')]: (since_of(line) - NOW).days for line in found}


FIRST = StoredAges(None, NOW)


@pytest.mark.parametrize("small", [True, False])
def test_what_is_added_has_its_own_time_and_the_rest_that_of_all(files: SealedFiles, small: bool) -> None:
    before, after = NAMES[:9], NAMES[:10]
    if small:
        stored = updated(files, FIRST, (), NAMES[9:10], 1)
    else:
        stored = followed(files, FIRST, lines(before), lines(after), 1)
    assert known(files, stored) == {key(NAMES[9]): 1}
    with open_ages(files, stored.file, stored.since) as opened:
        assert (opened.since(key(NAMES[9])), opened.is_exception(key(NAMES[9]))) == (NOW + DAY, True)
        assert (opened.since(key(NAMES[0])), opened.is_exception(key(NAMES[0]))) == (NOW, False)


@pytest.mark.parametrize("small", [True, False])
def test_no_exception_needs_no_file(files: SealedFiles, small: bool) -> None:
    stored = updated(files, FIRST, (), NAMES[:1], 1)
    if small:
        assert updated(files, stored, NAMES[:1], (), 2).file is None
        assert updated(files, FIRST, NAMES[1:2], (), 2).file is None, "an entry without a time of its own has left"
    else:
        assert followed(files, stored, lines(NAMES[:5]), lines(NAMES[1:5]), 2).file is None
        assert followed(files, FIRST, lines(NAMES), lines(NAMES), 2).file is None


def test_an_entry_that_comes_back_begins_again_and_one_whose_attributes_change_does_not(files: SealedFiles) -> None:
    stored = followed(files, FIRST, lines(NAMES), lines(NAMES[1:]), 1)
    stored = followed(files, stored, lines(NAMES[1:]), lines(NAMES), 2)
    assert known(files, stored) == {key(NAMES[0]): 2}
    stored = followed(files, stored, lines(NAMES), lines(NAMES, category="fraud"), 3)
    assert known(files, stored) == {key(NAMES[0]): 2}


def test_a_small_change_of_a_large_file_is_a_patch_and_many_of_them_a_new_file(
    files: SealedFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ages, "LEAST_PATCH", 1 << 10)
    many = [f"m{number:05}.example" for number in range(20 * PATCH_SHARE)]
    stored = updated(files, FIRST, (), many, 1)

    def base_of(stored: StoredAges) -> Sha256 | None:
        with open_ages(files, stored.file, stored.since) as opened:
            return opened.base

    base = base_of(stored)
    assert base == stored.file
    patched = updated(files, stored, many[:2], NAMES[:2], 2)
    assert (base_of(patched), patched.file != base) == (base, True)
    again = updated(files, patched, NAMES[:1], many[:1], 3)
    assert base_of(again) == base, "a patch of the same base"
    expected = dict.fromkeys(keys(many[2:]), 1) | {key(NAMES[1]): 2, key(many[0]): 3}
    assert known(files, again) == expected
    large = updated(files, again, many[100:200], (), 4)
    assert base_of(large) == large.file
    assert known(files, large) == {of: day for of, day in expected.items() if of not in keys(many[100:200])}


@given(st.lists(st.tuples(st.booleans(), st.frozensets(st.sampled_from(NAMES[:8]))), min_size=1, max_size=6))
def test_small_and_large_changes_give_the_ages_of_a_dictionary(
    files: SealedFiles, steps: list[tuple[bool, frozenset[str]]]
) -> None:
    before: frozenset[str] = frozenset(NAMES[:4])
    stored, model = FIRST, dict.fromkeys(keys(before), 0)
    for day, (small, after) in enumerate(steps, 1):
        if small:
            stored = updated(files, stored, before - after, after - before, day)
        else:
            stored = followed(files, stored, lines(before), lines(after), day)
        model = {of: model.get(of, day) for of in keys(after)}
        assert known(files, stored) == {of: since for of, since in model.items() if since}
        before = after
