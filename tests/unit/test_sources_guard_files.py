"""Files of names and warning lists: what is a name, and what is refused, by line or by list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from blocklistd import limits
from blocklistd.errors import GuardFileError
from blocklistd.sources import guard_files
from blocklistd.sources.guard_files import names_of_warninglist, nearest, parse_names, path_of, read_names, warninglists


def test_a_file_has_one_name_a_line() -> None:
    content = (
        "\ufeff# names of ours\r\n\r\nSearch.Example.  # the front page\r\nb\u00fccher.test\r\n\tlast.test".encode()
    )
    assert parse_names(content) == {"search.example", "xn--bcher-kva.test", "last.test"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a.example\n*.b.example\n", "line 2: It is a wildcard: write the name without `*.`"),
        (b"a.example\n\nhttps://a.example/\n", "line 3: "),
        (b"192.0.2.1/24\n", "line 1: The address has bits beyond the length of its prefix"),
        (b"\xff\xfea\0", "line 1: The record has bytes that are not UTF-8"),
        (b"", "there is no name in it"),
        (b"# nothing\n\n", "there is no name in it"),
        (b"".join(b"*.%d.example\n" % number for number in range(9)), "6 more lines can't be read"),
    ],
)
def test_a_broken_file_is_refused_with_its_lines(content: bytes, message: str) -> None:
    with pytest.raises(GuardFileError) as refused:
        parse_names(content)
    assert message in str(refused.value)
    assert "b.example" not in str(refused.value), "a name of the file may be an entry"


def test_the_readable_lines_of_a_broken_file_are_known() -> None:
    with pytest.raises(GuardFileError) as refused:
        parse_names(b"a.example\n*.b.example\n")
    assert refused.value.names == {"a.example"}


def test_a_file_that_is_missing_too_long_or_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GuardFileError, match="does not exist"):
        read_names(str(tmp_path / "missing.txt"))
    with pytest.raises(GuardFileError, match="not a regular file"):
        read_names(str(tmp_path))
    (tmp_path / "long.txt").write_bytes(b"a.example\n" * 10)
    assert read_names(str(tmp_path / "long.txt")) == {"a.example"}
    monkeypatch.setattr(guard_files, "MAX_GUARD_FILE", 99)
    with pytest.raises(GuardFileError, match="more than 99 bytes"):
        read_names(str(tmp_path / "long.txt"))


def test_a_guard_has_a_largest_number_of_names() -> None:
    guard_files.check_count(limits.MAX_GUARD_NAMES)
    with pytest.raises(GuardFileError, match="at most"):
        guard_files.check_count(limits.MAX_GUARD_NAMES + 1)


def test_the_package_has_warning_lists_of_names() -> None:
    assert "tranco10k" in warninglists()
    assert len(read_names("warninglist:tranco10k")) == 10_000
    assert all(not name.startswith(".") for name in read_names("warninglist:google"))
    assert nearest("trancoo")[0] == "tranco"
    assert not path_of("warninglist:nothing").exists()


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ("cloudflare", "a list of networks"),
        ("common-contact-emails", "a list of regular expressions"),
        ("nioc-filehash", "a list of filename"),
        ("tlds", "public suffixes"),
        ("trancoo", "like tranco, tranco10k"),
        ("../lists/google", "no such list"),
    ],
)
def test_a_warning_list_without_names_is_refused(listed: str, message: str) -> None:
    with pytest.raises(GuardFileError, match=message):
        read_names(f"warninglist:{listed}")


def test_items_of_a_warning_list_that_are_no_names_are_skipped() -> None:
    found: dict[str, Any] = {"type": "substring", "list": [".a.example", "192.0.2.1", "b.test", "c d"]}
    assert names_of_warninglist(found) == {"a.example", "b.test"}
    with pytest.raises(GuardFileError, match="no name"):
        names_of_warninglist(found | {"list": ["192.0.2.1"]})


def test_the_package_is_not_imported() -> None:
    import sys

    read_names("warninglist:google")
    assert "pymispwarninglists" not in sys.modules


def test_a_file_may_have_addresses_and_prefixes_beside_names() -> None:
    content = b"search.example\n192.0.2.1  # the portal\n2001:DB8::/32\n::ffff:198.51.100.0/120\n"
    assert parse_names(content) == {"search.example", "192.0.2.1", "2001:db8::/32", "198.51.100.0/24"}
