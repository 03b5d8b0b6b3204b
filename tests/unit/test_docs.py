"""What the documents name exists: commands and their options, keys of the configuration, files, metrics, reasons."""

from __future__ import annotations

import ast
import dataclasses
import errno
import functools
import io
import os
import re
import shlex
import subprocess
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest

from blocklistd.cli import FIRST_WORDS, program
from blocklistd.compose.guard import Limits
from blocklistd.config import load
from blocklistd.daemon.commands import COMMANDS
from blocklistd.limits import DECOMPRESSED_FACTOR, KIB, MAX_ATTRIBUTE, MAX_LINE, MAX_SIGNATURE_BYTES, MAX_URL
from blocklistd.sources.formats import FORMATS
from blocklistd.sources.intake.findings import REJECTS
from blocklistd.sources.proofs import openpgp, openpgp_decrypt
from blocklistd.sources.proofs.minisign import public_key, verify_minisign
from blocklistd.sources.proofs.proof import Claim
from tests.interop.guides import PAGES, one_line
from tests.peers import peer
from tests.unit.configuring import make_root

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
GUIDES = ("operator", "reviewer", "dns", *(f"dns/{name}" for name in PAGES), "proxies", "publisher", "edge")
"""One for each reader; CONTRIBUTING.md is the contributor's."""
METRICS = ROOT / "docs" / "metrics.md"


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
        if not target.startswith("http") and document.parent / target != METRICS:
            assert (document.parent / target).exists(), target
        anchor = re.search(rf"\]\({re.escape(target)}#([^)]*)\)", document.read_text())
        if anchor is not None:
            assert anchor[1] in headings((document.parent / target).read_text()), (target, anchor[1])


def headings(text: str) -> set[str]:
    """The anchors that GitHub makes of a document's headings."""
    return {re.sub(r"[^\w\- ]", "", found.lower()).replace(" ", "-") for found in re.findall(r"^#+ (.+)$", text, re.M)}


def quoted_by_tests() -> set[str]:
    """What tests quote from the pages, with `says`."""
    found = set()
    for path in [*(ROOT / "tests" / "interop").glob("*.py"), *(ROOT / "tests" / "unit").glob("test_daemon_*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "says":
                text = node.args[-1]
                parts = text.values if isinstance(text, ast.JoinedStr) else [text]
                found |= {one_line(str(part.value)).strip() for part in parts if isinstance(part, ast.Constant)}
    return {text for text in found if len(text) > 30}


@pytest.mark.parametrize("name", PAGES)
def test_each_oddity_was_seen_in_a_test_or_says_that_it_was_not(name: str) -> None:
    section = PAGES[name].read_text().split("## What is odd\n")[1].split("\n## ")[0]
    oddities = [one_line(text) for text in section.split("\n- ")[1:]]
    assert len(oddities) >= 3
    for text in oddities:
        admits = "not verified by a test" in text.lower() or "Measured by `python -m bench" in text
        assert admits or any(quoted in text for quoted in quoted_by_tests()), text


@pytest.mark.parametrize("name", PAGES)
def test_each_page_of_a_program_has_the_same_parts(name: str) -> None:
    parts = re.findall("^## (.*)", PAGES[name].read_text(), re.M)
    follows = "See that it follows" if name in ("knot", "nsd") else "See that it blocks"
    assert parts[:5] == ["Configuration", follows, "Try it first", "What is odd", "When too much is blocked"]


def test_the_readme_names_every_document() -> None:
    linked = set(re.findall(r"\]\(([^)#]+)", (ROOT / "README.md").read_text()))
    written = {str(path.relative_to(ROOT)) for path in DOCUMENTS if "adr" not in path.parts} - {"README.md"}
    assert written - linked == {"docs/scaling.md"}, "docs/figures.md leads to it"


@pytest.mark.parametrize("guide", GUIDES)
def test_a_guide_begins_with_its_reader(guide: str) -> None:
    title, blank, *paragraph = (ROOT / "docs" / f"{guide}.md").read_text().split("\n", 6)
    assert title.startswith("# ")
    assert blank == ""
    assert paragraph[0].startswith("For "), "for whom it is"
    assert "Afterwards " in " ".join(paragraph[:5]), "what its reader can do then"


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


NO_KEYS = {
    "guard_file",
    "candidate_waiting",
    "own_name",
    "oldest_diff",
    "verified_at",
    "public_suffix",
    "next_expiry",
    "client_cert",
    "failed_probes",
    "applied_at",
    "covered_by",
    *("added_in", "removed_in", "known_from"),
}
"""Names of alarms, of the feed, of rules, of a column, of answers and of a credential, which look like keys."""


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
    assert named - known - NO_KEYS == set()


def test_metrics_that_are_named_exist(tmp_path: Path) -> None:
    from tests.unit.test_alarms import known

    scraped = known(tmp_path)
    for document in DOCUMENTS:
        for name in re.findall(r"`((?:blocklistd|process)_[a-z_]+)", document.read_text()):
            assert {name, f"{name}_bucket"} & scraped, (document.name, name)


def test_the_publishers_guide_has_every_reason_and_format() -> None:
    guide = (ROOT / "docs" / "publisher.md").read_text()
    named = {word for cells in re.findall(r"^\| (`[^|]+) \|", guide, re.M) for word in re.findall("`([^`]+)`", cells)}
    assert named == REJECTS | FORMATS.keys()


def test_the_publishers_guide_has_the_bounds_of_the_code() -> None:
    guide = (ROOT / "docs" / "publisher.md").read_text()
    for line in (
        f"| the file after decompression | {DECOMPRESSED_FACTOR} times `max_bytes` |",
        f"| a line, or a CSV row | {MAX_LINE // KIB} KiB |",
        f"| a URL in canonical form | {MAX_URL // KIB} KiB |",
        f"| a signature file | {MAX_SIGNATURE_BYTES // KIB} KiB |",
        f"more than {MAX_ATTRIBUTE} characters",
    ):
        assert line in guide, line


def test_the_publishers_commands_make_a_list_that_is_accepted(tmp_path: Path) -> None:
    peer("minisign", "minisign")
    guide = (ROOT / "docs" / "publisher.md").read_text()
    blocks = re.findall(r"(?:^    .*\n)+", guide, re.M)
    script = "".join(textwrap.dedent(block) for block in blocks if re.search("^    (?:minisign|cp) ", block, re.M))
    assert script.count("minisign -") == 3
    (tmp_path / "public").mkdir()
    (tmp_path / "new.csv").write_text("url\nhttps://a.example/\n")
    subprocess.run(["sh", "-ec", script], cwd=tmp_path, check=True, capture_output=True)
    assert {path.name for path in (tmp_path / "public").iterdir()} == {"urls.csv", "urls.csv.minisig"}
    import minisign

    key = minisign.PublicKey.from_base64(public_key((tmp_path / "hotline.pub").read_bytes()))
    with open(tmp_path / "public" / "urls.csv", "rb") as body:
        proven = verify_minisign(body, (tmp_path / "public" / "urls.csv.minisig").read_bytes(), key)
    assert proven.signed_at is not None


@contextmanager
def gpg_home() -> Iterator[dict[str, str]]:
    """The environment for a home of GnuPG in which its commands ask nobody. Its path is short: that of the agent's
    socket has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="gpg-", dir="/tmp", ignore_cleanup_errors=True) as home:
        Path(home, "empty").write_bytes(b"")
        Path(home, "gpg.conf").write_text(f"batch\npinentry-mode loopback\npassphrase-file {home}/empty\n")
        environment = {**os.environ, "GNUPGHOME": home}
        yield environment
        subprocess.run(["gpgconf", "--kill", "all"], check=False, capture_output=True, env=environment)


def openpgp_script(guide: str, program: str) -> str:
    """All commands of the blocks of a guide that begin with a program."""
    blocks = re.findall(r"(?:^    .*\n)+", (ROOT / "docs" / f"{guide}.md").read_text(), re.M)
    return "".join(textwrap.dedent(block) for block in blocks if block.startswith(f"    {program} "))


@pytest.mark.parametrize(("program", "package"), [("gpg", "gnupg"), ("sq", "sq")])
def test_the_publishers_openpgp_commands_make_lists_that_are_accepted(
    tmp_path: Path, program: str, package: str
) -> None:
    peer(program, package)
    peer("gpg", "gnupg")
    operators = openpgp_script("operator", "gpg").replace("/etc/blocklistd/secrets/", "")
    (tmp_path / "public").mkdir()
    body = b"url\nhttps://a.example/\n"
    (tmp_path / "new.csv").write_bytes(body)
    for script in (operators, openpgp_script("publisher", program)):
        with gpg_home() as environment:
            subprocess.run(["sh", "-ec", script], cwd=tmp_path, check=True, capture_output=True, env=environment)
    key = openpgp.read_key((tmp_path / "hotline.asc").read_bytes())

    def accepted(signed: bytes, signature: bytes | None, *inner: bytes) -> bytes:
        content = io.BytesIO()
        claim = Claim(signature, (key,), datetime.now(UTC), content, bound=1000, inner_signatures=inner)
        assert openpgp.verify(io.BytesIO(signed), claim).signed_at
        return content.getvalue()

    public = tmp_path / "public"
    accepted((public / "urls.csv").read_bytes(), (public / "urls.csv.asc").read_bytes())
    if program == "gpg":
        assert accepted((public / "urls.csv.gpg").read_bytes(), None) == body
        secret = openpgp_decrypt.read_secret((tmp_path / "decrypt.asc").read_bytes())
        plain = io.BytesIO()
        with open(public / "urls.pgp", "rb") as encrypted:
            inner = openpgp_decrypt.decrypt(encrypted, secret, plain, 1000)
        assert plain.getvalue() == body
        accepted(body, None, *inner)


@pytest.mark.parametrize("guide", GUIDES)
def test_configurations_in_the_guides_are_valid(tmp_path: Path, guide: str) -> None:
    text = (ROOT / "docs" / f"{guide}.md").read_text()
    for block in re.findall(r"(?:^    .*\n)+", text, re.M):
        if not re.match("    (?:sources|zones):\n", block):
            continue
        (tmp_path / "keys").mkdir(exist_ok=True)
        (tmp_path / "keys" / "hotline-a.pub").write_text(f"untrusted comment: a key\n{PUBLIC_KEY}\n")
        make_root(tmp_path / "keys" / "europe-root.json")
        (tmp_path / "secrets").mkdir(exist_ok=True, mode=0o700)
        (tmp_path / "secrets" / "europe.token").write_text("token")
        (tmp_path / "secrets" / "hotline-a.tsig").write_text("c2VjcmV0")
        (tmp_path / "secrets" / "hotline-a.tsig").chmod(0o600)
        rest = LOOPBACK if block.startswith("    sources:") else LOOPBACK + DROP
        (tmp_path / "blocklistd.yaml").write_text(rest + textwrap.dedent(block))
        load(tmp_path / "blocklistd.yaml")


PUBLIC_KEY = "RWS4eN5oY/w+IfVxZHU3LvThcVR3og0H5h4YdgI+BBmG4/bpXuX4ATV2"
LOOPBACK = 'feed: {listen: ["127.0.0.1:8443"]}\n'
DROP = """\
sources:
  drop: {url: "file:drop", format: text, defaults: {type: url}, verify: {method: none}}
lists:
  national: {sources: [drop]}
"""


def test_the_reviewers_guide_has_every_guard() -> None:
    guide = (ROOT / "docs" / "reviewer.md").read_text()
    guards = {name for name in vars(Limits) if not name.startswith("_")} - {"daily", "min_change"}
    for guard in guards | {"daily.max_added", "daily.max_removed", "release", "base", "decision"}:
        assert re.search(rf"^\| [^|]*`{re.escape(guard)}`", guide, re.M), guard


@functools.cache
def messages() -> str:
    """Every text of the program, a line each; `…` is what a message fills in."""
    found = [os.strerror(number) for number in errno.errorcode]
    for path in sorted((ROOT / "blocklistd").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(str(getattr(part, "value", "")) if is_text(part) else "…" for part in node.values))
            elif is_text(node):
                found.append(str(getattr(node, "value", "")))
    return "\n".join(found)


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


@pytest.mark.parametrize(
    ("guide", "heading"),
    [("operator", "When something is wrong"), ("proxies", "If something is wrong"), ("sync", "If something happens")],
)
def test_messages_in_the_guides_are_the_programs(guide: str, heading: str) -> None:
    """So that a person who pastes a message into the guide's search finds it."""
    section = (ROOT / "docs" / f"{guide}.md").read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    quoted = [text for cell in re.findall(r"^\| (.*?) \|", section, re.M) for text in re.findall("`([^`]+)`", cell)]
    assert quoted
    known = messages()
    for text in quoted:
        for part in re.split(r"…|: (?=[A-Z])|\b[NM]\b", text):
            assert part.strip(" .:();,") in known, (text, part)


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
    for name, command in COMMANDS.items():
        assert (f"## `{name}" in reference.document()) is not command.hidden, "its first word is in GROUPS"
