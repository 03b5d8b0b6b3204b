"""YAML that is broken, and YAML features that a configuration may not use."""

from __future__ import annotations

from pathlib import Path

import pytest

from blocklistd.config.document import DOCUMENT, excerpt
from blocklistd.limits import MAX_CONFIG

from .configuring import VALID, places, problems, read, source


@pytest.mark.parametrize(
    ("text", "line", "found"),
    [
        ("a: [1\nb: 2\n", 2, "while parsing a flow sequence: ':', expected ',' or ']'"),
        ("feed:\n\tlisten: []\n", 2, "character '\\t' that cannot start any token"),
        ("a: *nowhere\n", 1, "undefined alias 'nowhere'"),
        ("a: {}\n---\nb: {}\n", 2, "another document"),
        ("feed: {}\nops: \0\n", 2, "special characters are not allowed"),
        (b"feed: {}\n# caf\xe9\n", 2, "bytes that are not UTF-8"),
        ('a: "\\UFFFFFFFF"\n', 1, "out of range"),
        ("[" * 3000, 1, "too many levels"),
        ("- " * 5000, 1, "too many levels"),
        ("#" * (MAX_CONFIG + 1), 1, f"more than {MAX_CONFIG} bytes"),
        ("- a\n", 1, "a list"),
        ("true\n", 1, "'true'"),
    ],
)
def test_a_broken_file_is_one_problem(tmp_path: Path, text: str | bytes, line: int, found: str) -> None:
    (problem,) = problems(tmp_path, text)
    assert (problem.line, problem.key) == (line, DOCUMENT)
    assert found in str(problem)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n...\n", "~\n", "{}\n"])
def test_an_empty_file_has_every_default_but_tls(tmp_path: Path, text: str) -> None:
    assert places(tmp_path, text) == [(1, "feed.tls")]


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeff" + VALID) == read(tmp_path, VALID)


def test_scalars_are_texts(tmp_path: Path) -> None:
    fields = "{value: no, ref: 12:30, category: 1e3, verifiers: 010, expires: null, type: 2024-01-01, verified_at: =}"
    made = next(iter(read(tmp_path, source(f"fields: {fields}", format="csv")).sources.values()))
    assert dict(made.fields) == {
        "value": "no",
        "ref": "12:30",
        "category": "1e3",
        "verifiers": "010",
        "expires": "null",
        "type": "2024-01-01",
        "verified_at": "=",
    }


def test_ids_are_texts_too(tmp_path: Path) -> None:
    text = VALID.replace("hotline-a", "no").replace("national", "123")
    config = read(tmp_path, text)
    assert (list(config.sources), list(config.lists)) == (["no"], ["123"])


@pytest.mark.parametrize("value", ["!x a", "!!binary YQ==", "!!python/name:os.system ''", "!!set {a}", "!!omap []"])
def test_tags_are_refused(tmp_path: Path, value: str) -> None:
    (problem,) = problems(tmp_path, f"{VALID}state_dir: {value}\n")
    assert (problem.line, problem.key) == (12, "state_dir")


def test_a_tag_is_named(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, f"{VALID}state_dir: !x a\n")
    assert (problem.found, problem.expected) == ("the tag !x", "a value without a tag")


def test_merge_keys_are_refused_and_quoted_ones_unknown(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, VALID + "ops:\n  <<: {listen: []}\n")
    assert (problem.line, problem.key, problem.found) == (13, "ops", "a merge key (<<)")
    (problem,) = problems(tmp_path, VALID + "ops:\n  '<<': {}\n")
    assert (problem.line, problem.key, problem.found) == (13, "ops.<<", "the unknown key '<<'")


def test_an_alias_has_the_value_of_its_anchor(tmp_path: Path) -> None:
    text = VALID.replace("{method: none}", "&none {method: none}") + "ops: {listen: &l ['127.0.0.1:0']}\n"
    other = "  hotline-b: {url: https://b.example/, format: text, defaults: {type: url}, verify: *none}\nlists:"
    config = read(tmp_path, text.replace("lists:", other))
    assert [made.verify.method for made in config.sources.values()] == ["none", "none"]


def test_a_recursive_alias_is_reported(tmp_path: Path) -> None:
    assert places(tmp_path, VALID + "ops: &a {listen: [*a], log: *a}\n") == [
        (12, "ops.listen"),
        (12, "ops.log.listen"),
        (12, "ops.log.log"),
    ]


def test_keys_that_are_no_texts(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, VALID + "ops:\n  ? [listen]\n  : []\n")
    assert (problem.line, problem.key, problem.found) == (13, "ops", "a list as a key")


def test_a_duplicate_names_both_lines(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, VALID + "lists: {}\n")
    assert (problem.line, problem.key) == (12, "lists")
    assert problem.found == "the key a second time (first on line 7)"


def test_control_characters_reach_no_value(tmp_path: Path) -> None:
    assert places(tmp_path, VALID + 'state_dir: "a\\0b"\nops: {"\\e[2J": 1}\n') == [
        (12, "state_dir"),
        (13, "ops.'\\x1b[2J'"),
    ]


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        ("''", "''"),
        ("~", "'~'"),
        ("[a]", "a list"),
        ("{a: b}", "a mapping"),
        ("a" * 100, repr("a" * 59 + "…")),
        ("https://user:a/b@c@hotline.example/?token=t", "'https://…@hotline.example/?…'"),
    ],
)
def test_excerpts_of_values(written: str, seen: str) -> None:
    import yaml

    assert excerpt(yaml.compose(written, yaml.SafeLoader)) == seen  # type: ignore[arg-type]
    assert excerpt(None) == "nothing"
