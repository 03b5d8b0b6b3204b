"""What the documents name exists: commands and their options, keys of the configuration, files, metrics."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path

import click
import pytest

from blocklistd.cli import FIRST_WORDS, program
from blocklistd.config import load
from blocklistd.daemon.commands import COMMANDS

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands(text: str) -> list[list[str]]:
    """Every `blocklistd …` line of an indented block or of inline code."""
    joined = text.replace("\\\n", " ")
    found = re.findall(r"^ {4,}(?:ExecStart=)?blocklistd (.+)$", joined, re.M) + re.findall(
        r"`blocklistd ([^`]+)`", joined
    )
    return [shlex.split(line, comments=True) for line in found]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_exist_with_their_options(document: Path) -> None:
    for words in commands(document.read_text()):
        if words[0].startswith("-"):
            continue
        assert words[0] in FIRST_WORDS, words
        context = click.Context(program)
        command = program.get_command(context, words[0])
        rest = words[1:]
        if isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
            assert rest[0] in command.commands, words
            command, rest = command.commands[rest[0]], rest[1:]
        assert command is not None
        known = {option for parameter in command.params for option in parameter.opts}
        for word in rest:
            if word.startswith("--") or re.fullmatch("-[a-z]", word):
                assert word in known, (words, word)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_are_named_exist(document: Path) -> None:
    text = document.read_text()
    modules = re.findall(r"`([a-z_/]+\.py)`", text)
    installed = re.findall(r"^ {4}install -D -m \d+ (\S+)", text, re.M)
    for name in [*modules, *installed]:
        assert (ROOT / name).exists() or (ROOT / "blocklistd" / name).exists(), name


def test_the_guide_puts_the_program_where_the_unit_starts_it() -> None:
    unit = (ROOT / "systemd" / "blocklistd.service").read_text()
    guide = (ROOT / "docs" / "operator.md").read_text()
    assert re.findall(r"^ExecStart=(\S+)", unit, re.M) == re.findall(r"^ {4}ln -s \S+ (\S+)", guide, re.M)


FEED = {"oldest_diff", "verified_at"}
"""Names of the feed's own, which look like keys."""


def test_keys_of_the_configuration_exist() -> None:
    import blocklistd.config as config

    sections = [kind for kind in vars(config).values() if isinstance(kind, type) and dataclasses.is_dataclass(kind)]
    known = {field.name for kind in sections for field in dataclasses.fields(kind)}
    named: set[str] = set()
    for document in DOCUMENTS:
        if document.name == "metrics.md":  # it names labels and fields, which look like keys
            continue
        named |= set(re.findall(r"`(?:[a-z]+\.)?([a-z]+_[a-z_]+)(?:: [^`]*)?`", document.read_text()))
    named = {name for name in named if not name.startswith(("blocklistd_", "process_"))}
    assert "max_age" in named, "the documents name keys"
    assert named - known - FEED == set()


def test_metrics_that_are_named_exist(tmp_path: Path) -> None:
    from tests.unit.test_alarms import known

    scraped = known(tmp_path)
    for document in DOCUMENTS:
        for name in re.findall(r"`((?:blocklistd|process)_[a-z_]+)", document.read_text()):
            assert {name, f"{name}_bucket"} & scraped, (document.name, name)


def test_the_reference_of_metrics_and_events_is_theirs() -> None:
    from blocklistd.ops import reference

    assert (ROOT / "docs" / "metrics.md").read_text() == reference.document(), "`make docs` writes it"


def test_the_example_configuration_is_one() -> None:
    load(ROOT / "config" / "blocklistd.yaml")


def test_every_module_has_a_docstring_and_a_size_that_can_be_read() -> None:
    for path in sorted((ROOT / "blocklistd").rglob("*.py")):
        text = path.read_text()
        if text.strip() and "migrations" not in path.parts:
            assert text.startswith('"""'), path
        assert text.count("\n") <= 450, path


def test_the_reference_of_commands_is_theirs() -> None:
    from blocklistd.cli import reference

    assert (ROOT / "docs" / "cli.md").read_text() == reference.document(), "`make docs` writes it"
    for name in COMMANDS:
        assert f"## `{name}" in reference.document(), "its first word is in GROUPS"
