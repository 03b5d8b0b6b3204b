"""Readers of sections, mappings, lists and choices, with a schema of this test."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from blocklistd.config.document import INVALID, ConfigDocument, ConfigNode, compose
from blocklistd.config.reader import (
    SectionValues,
    alternatives,
    choice,
    config_section,
    derived,
    mapping,
    one_of,
    optional,
    section,
    sequence,
    setting,
    table,
)
from blocklistd.config.values import integer, path, text


@config_section
class Inner:
    name: str = derived(lambda node: node.name)
    weight: int = setting(integer(1))
    note: str | None = setting(optional(text), default=None)


@config_section
class Outer:
    place: Path = setting(path, default=Path("here"))
    inner: Inner = setting(section(Inner))
    many: Mapping[str, Inner] = setting(mapping(choice("a", "b"), section(Inner)), default_factory=dict)
    texts: tuple[str, ...] = setting(sequence(text), default=())
    either: int | None = setting(optional(one_of({"x": integer(), "y": integer()})), default=None)
    parts: Mapping[str, str] = setting(table({"left": text, "right": text}), default_factory=dict)


def parse(folder: Path, written: str) -> tuple[object, list[str]]:
    """The value or INVALID, and the problems as `line: key: found, expected`."""
    file = folder / "file.yaml"
    file.write_text(written)
    document = ConfigDocument(file)
    value = ConfigNode(document, "", "", 1, compose(document)).read(section(Outer, _check))
    return value, [f"{p.line}: {p.key}: {p.found}, {p.expected}" for p in document.problems]


def _check(section_values: SectionValues) -> None:
    if (
        section_values.has("inner", "texts")
        and len(section_values.values["texts"]) > section_values.values["inner"].weight
    ):
        section_values.report("texts", "no more texts than inner.weight")


def test_a_valid_document(tmp_path: Path) -> None:
    written = """\
inner: {weight: 3, note: ~}
many: {a: {weight: 1, note: no}}
texts: [x, y]
either: {y: 0}
parts: {left: l}
"""
    made, problems = parse(tmp_path, written)
    assert problems == []
    assert made == Outer(
        place=tmp_path / "here",
        inner=Inner(name="inner", weight=3),
        many={"a": Inner(name="a", weight=1, note="no")},
        texts=("x", "y"),
        either=0,
        parts={"left": "l"},
    )


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("", "1: inner: nothing, a mapping"),
        ("inner:", "1: inner: nothing, a mapping"),
        ("inner: {}", "1: inner.weight: nothing, a whole number from 1 up"),
        ("inner: 3", "1: inner: '3', a mapping"),
        ("inner: {weight: }", "1: inner.weight: nothing, a whole number from 1 up"),
        ("inner: {weight: 0}", "1: inner.weight: '0', a whole number from 1 up"),
        ("inner: {weight: 1, wieght: 1}", "1: inner.wieght: the unknown key 'wieght', `weight`"),
        ("inner: {weight: 1, zzz: 1}", "1: inner.zzz: the unknown key 'zzz', one of weight, note"),
        ("inner: {weight: 1}\nmany:\n  c: {weight: 1}", "3: many.c: 'c', `a` or `b`"),
        ("inner: {weight: 1}\nmany:\n  a:", "3: many.a.weight: nothing, a whole number from 1 up"),
        ("inner: {weight: 9}\ntexts:\n  - a\n  - b\n  - a", "5: texts: 'a' again, each once in the list"),
        ("inner: {weight: 9}\ntexts:\n  - a\n  - {}", "4: texts: a mapping, a text"),
        ("inner: {weight: 1}\ntexts: [a, b]", "2: texts: a list, no more texts than inner.weight"),
        ("inner: {weight: 1}\neither: secret", "2: either: a text, exactly one of {x: …}, {y: …}"),
        ("inner: {weight: 1}\neither: {x: 1, y: 1}", "2: either: x and y, exactly one of {x: …}, {y: …}"),
        ("inner: {weight: 1}\nparts: {rigth: a}", "2: parts.rigth: the unknown key 'rigth', `right`"),
    ],
)
def test_an_invalid_document(tmp_path: Path, written: str, problem: str) -> None:
    assert parse(tmp_path, written) == (INVALID, [problem])


def test_all_problems_are_reported(tmp_path: Path) -> None:
    written = "inner: {weight: x, note: []}\nmany: {a: {weight: y}, c: {weight: z}}\ntexts: {}\neither: {x: q}\n"
    value, problems = parse(tmp_path, written)
    assert value is INVALID
    assert [problem.split(": ")[:2] for problem in problems] == [
        ["1", "inner.weight"],
        ["1", "inner.note"],
        ["2", "many.a.weight"],
        ["2", "many.c"],
        ["2", "many.c.weight"],
        ["3", "texts"],
        ["4", "either.x"],
    ]


def test_a_check_runs_on_a_section_with_invalid_values(tmp_path: Path) -> None:
    _, problems = parse(tmp_path, "inner: {weight: 1}\ntexts: [a, b]\nplace: []\n")
    assert [problem.split(": ")[1] for problem in problems] == ["place", "texts"]


def test_alternatives_are_a_phrase() -> None:
    assert alternatives(["a"]) == "`a`"
    assert alternatives(["a", "b", "c"]) == "`a`, `b` or `c`"
