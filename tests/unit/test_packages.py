"""The Debian packages and the image, as far as can be seen without a build; `make package-test` installs them."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from blocklistd import __version__
from blocklistd.cli.completion import PROGRAMS, levels, script
from blocklistd.cli.manual import PAGES, page
from blocklistd.cli.reference import commands, own_options
from blocklistd.config import load
from tests.peers import peer

ROOT = Path(__file__).parents[2]
DEBIAN = ROOT / "debian"
EXAMPLE = (ROOT / "config" / "blocklistd.yaml").read_text()


def options(program: str) -> Iterator[tuple[str, set[str]]]:
    """(level, names) of the options of each command of a program, from its own parser."""
    if program == "blocklistd":
        for name, command in commands():
            yield name, {name for option in command.params if isinstance(option, click.Option) for name in option.opts}
    else:
        yield (
            "",
            {name for option in PROGRAMS[program].params if isinstance(option, click.Option) for name in option.opts},
        )


# -- manual pages ------------------------------------------------------------------------------------------------------
def shown(name: str, folder: Path) -> str:
    """A manual page as groff shows it in 100 columns; a warning of groff fails the test."""
    groff = peer("groff", "groff-base")
    (folder / name).write_text(page(name, EXAMPLE))
    done = subprocess.run(
        [groff, "-man", "-Tutf8", "-wall", "-rLL=100n", "-P-cbou", str(folder / name)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


def test_the_page_of_the_program_has_every_command_and_option(tmp_path: Path) -> None:
    text = shown("blocklistd.1", tmp_path)
    sections = re.split(r"(?m)^   (?=[a-z])", text.split("\nCOMMANDS\n")[1].split("\nEXIT STATUS\n")[0])[1:]
    found = {section.split("\n")[0]: section for section in sections}
    assert len(found) == len(list(commands()))
    for name, command in commands():
        (section,) = (text for title, text in found.items() if re.fullmatch(rf"{name}(?: [A-Z\[{{].*)?", title))
        for option in own_options(command):
            assert re.search(rf"(?m)^       {re.escape(', '.join(option.opts))}\b", section), (name, option.opts)


def test_the_page_of_the_client_has_every_option(tmp_path: Path) -> None:
    text = shown("blocklistd-sync.1", tmp_path)
    for option in own_options(PROGRAMS["blocklistd-sync"]):
        assert re.search(rf"(?m)^       {re.escape(', '.join(option.opts))}\b", text), option.opts


def test_the_page_of_the_configuration_is_the_example(tmp_path: Path) -> None:
    text = shown("blocklistd.yaml.5", tmp_path)
    lines = [line.removeprefix(" " * 7).rstrip() for line in text.splitlines()]
    expected = EXAMPLE.splitlines()
    start = lines.index(expected[0])
    assert lines[start : start + len(expected)] == expected


def test_every_page_is_installed() -> None:
    named = [line for name in DEBIAN.glob("*.manpages") for line in name.read_text().split()]
    assert sorted(named) == sorted(f"debian/made/{name}" for name in PAGES)


# -- completion --------------------------------------------------------------------------------------------------------
def test_the_levels_are_those_of_the_parser() -> None:
    for program in PROGRAMS:
        found = levels(PROGRAMS[program])
        for name, names in options(program):
            assert names | {"-h", "--help"} == {word for word in found[name].described() if word.startswith("-")}


Question = tuple[str, ...]
"""The words before the cursor; the last one is what is written so far."""


def bash(program: str, questions: list[Question]) -> str:
    """A script that prints what bash offers, each answer with END behind it."""
    function = f"_{program.replace('-', '_')}"
    asked = (
        f"COMP_WORDS=({shlex.join([program, *words])}); COMP_CWORD={len(words)}; COMPREPLY=(); {function}; "
        f'printf "%s\\n" "${{COMPREPLY[@]}}" {END}'
        for words in questions
    )
    return "\n".join(["compopt() { :; }", script("bash", program), *asked])


def zsh(program: str, questions: list[Question]) -> str:
    """The same for zsh, whose functions for completion print what they get."""
    replaced = [
        "_describe() { print -l -- ${${(P)2}%%:*} }",
        "compadd() { shift; print -l -- $* }",
        "_files() { print -l -- * }",
    ]
    asked = (
        f"words=({shlex.join([program, *words])}); CURRENT={len(words) + 1}; offer; print {END}" for words in questions
    )
    return "\n".join([*replaced, "offer() {", script("zsh", program), "}", *asked])


def fish(program: str, questions: list[Question]) -> str:
    """The same for fish."""
    asked = (f"complete -C {shlex.quote(' '.join([program, *words]))}; echo {END}" for words in questions)
    return "\n".join([script("fish", program), *asked])


END = "END-OF-ANSWER"
SHELLS = {"bash": (bash, "--norc"), "zsh": (zsh, "-f"), "fish": (fish, "--no-config")}


def answers(shell: str, program: str, questions: list[Question], folder: Path) -> dict[Question, set[str]]:
    """What a shell offers in this folder, by question."""
    write, option = SHELLS[shell]
    (folder / "script").write_text(write(program, questions))
    done = subprocess.run(
        [peer(shell, shell), option, str(folder / "script")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "LC_ALL": "C.UTF-8"},
    )
    assert done.stderr == ""
    parts = done.stdout.split(f"{END}\n")
    assert len(parts) == len(questions) + 1
    offered = ({line.split("\t")[0].rstrip("/") for line in part.splitlines() if line} for part in parts[:-1])
    return {
        words: {one for one in found if one.startswith(words[-1])}
        for words, found in zip(questions, offered, strict=True)
    }


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_offers_every_command_and_option(shell: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for program in PROGRAMS:
        parser = dict(options(program))
        asked: list[Question] = [(*name.split(), written) for name in parser for written in ("", "-")]
        asked += [("",), ("keys", ""), ("sync", "--format", "s"), ("sync", "--dir", ""), ("sync", "--root", "")]
        asked += [("--format", "s"), ("--dir", "")]
        found = answers(shell, program, list(dict.fromkeys(asked)), tmp_path)
        for name, names in parser.items():
            assert found[*name.split(), "-"] == names | {"-h", "--help"}, name
        if program == "blocklistd":
            assert {name.split()[0] for name in parser} <= found["",]
            assert {"init", "rotate", "renew", "sign", "adopt", "show"} <= found["keys", ""]
        sync = ("sync",) if program == "blocklistd" else ()
        assert found[*sync, "--format", "s"] == {"squid", "squid-urls"}
        assert "folder" in found[*sync, "--dir", ""]
    assert "script" in answers(shell, "blocklistd", [("sync", "--root", "")], tmp_path)["sync", "--root", ""]


# -- files of the packages ---------------------------------------------------------------------------------------------
def test_the_changelog_begins_with_this_version() -> None:
    assert (DEBIAN / "changelog").read_text().startswith(f"blocklistd ({__version__}) ")


def test_the_programs_are_those_of_setup_cfg_and_of_the_units() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    declared = dict(
        re.findall(r"(?m)^(\S+) = blocklistd.__main__:(\w+)$", setup["options.entry_points"]["console_scripts"])
    )
    links = dict(path.read_text().split() for path in DEBIAN.glob("*.links"))
    assert set(links.values()) == {f"usr/bin/{name}" for name in declared}
    for program, file in (("blocklistd", "program"), ("blocklistd-sync", "program-sync")):
        text = (DEBIAN / file).read_text()
        assert text.startswith(f"#!/usr/lib/{program}/bin/python3 -I\n")
        assert f"\nfrom blocklistd.__main__ import {declared[program]}\n" in text
        assert text.endswith(f"    {declared[program]}()\n")
        assert '\nif __name__ == "__main__":' in text, "jobs import the program as a module"
        assert links[f"usr/lib/{program}/bin/{program}"] == f"usr/bin/{program}"
    started = [
        line
        for unit in (ROOT / "systemd").glob("*.service")
        for line in re.findall("(?m)^ExecStart=(.*)", unit.read_text())
    ]
    assert {f"/{path}" for path in links.values()} == {line.split()[0] for line in started}


def test_users_and_folders_are_those_of_the_units() -> None:
    for package, unit in (("blocklistd", "blocklistd.service"), ("blocklistd-sync", "blocklistd-sync@.service")):
        text = (ROOT / "systemd" / unit).read_text()
        said = dict(re.findall(r"(?m)^(User|Group|StateDirectory|StateDirectoryMode)=(.*)$", text))
        state = f"/var/lib/{said['StateDirectory']}"
        for kind in ("sysusers", "tmpfiles"):
            assert (DEBIAN / f"{package}.{kind}").resolve() == ROOT / "systemd" / f"{package}.{kind}"
        (user,) = re.findall("(?m)^u .*$", (ROOT / "systemd" / f"{package}.sysusers").read_text())
        assert shlex.split(user)[1::3] == [said["User"], state]
        (folder,) = re.findall("(?m)^d .*$", (ROOT / "systemd" / f"{package}.tmpfiles").read_text())
        assert folder.split() == ["d", state, said["StateDirectoryMode"], said["User"], said["Group"]]
        assert f"rm -rf --one-file-system {state} " in (DEBIAN / f"{package}.postrm").read_text()


def test_files_that_the_packages_name_exist() -> None:
    made = {f"debian/made/{name}" for name in PAGES}
    for kind in ("docs", "examples", "install", "manpages"):
        for path in DEBIAN.glob(f"*.{kind}"):
            for line in path.read_text().splitlines():
                source = line.split()[0]
                assert source in made or list(ROOT.glob(source)), f"{path.name}: {source}"
    documents = re.findall(r"/usr/share/doc/(\S+?)/(\w+\.md)", "".join(text.read_text() for text in units()))
    for package, name in documents:
        named = (DEBIAN / f"{package}.docs").read_text().split()
        assert any((ROOT / "docs" / name).match(pattern) for pattern in named), (package, name)


def units() -> list[Path]:
    return [path for path in (ROOT / "systemd").iterdir() if path.suffix in (".service", ".socket", ".timer")]


def test_the_configuration_is_installed_where_the_unit_reads_it(tmp_path: Path) -> None:
    source, folder = (DEBIAN / "blocklistd.install").read_text().split()
    installed = f"/{folder}/{Path(source).name}"
    assert f" -c {installed}\n" in (ROOT / "systemd" / "blocklistd.service").read_text()
    config = load(ROOT / source)
    (source_of_list,) = config.sources.values()
    assert source_of_list.url == "file:drop"
    assert (DEBIAN / "blocklistd.dirs").read_text() == f"{folder}/drop\n"
    assert f"/var/lib/{'blocklistd'}" == str(config.state_dir)


# -- the image ---------------------------------------------------------------------------------------------------------
def test_the_image_has_what_its_recipe_names() -> None:
    recipe = (ROOT / "Containerfile").read_text().replace("\\\n", " ")
    lines = re.findall(r"(?m)^([A-Z]+) +(.*)$", recipe)
    said = dict(lines)
    assert [word for word, _ in lines if word == "FROM"] == ["FROM"]
    assert said["COPY"].split()[0] == "build/deb/blocklistd_*.deb", "where debian/build leaves it"
    assert "out=build/deb\n" in (DEBIAN / "build").read_text()
    ignored = (ROOT / ".containerignore").read_text().split()
    assert ignored == ["*", "!build/deb/*.deb"]
    (user,) = re.findall("(?m)^u (\\S+)", (ROOT / "systemd" / "blocklistd.sysusers").read_text())
    assert said["USER"] == f"{user}:{user}"
    config = load(ROOT / "config" / "blocklistd.yaml")
    assert json.loads(said["VOLUME"]) == ["/etc/blocklistd", str(config.state_dir)]
    assert said["EXPOSE"] == f"{config.feed.listen[0].port}/tcp"
    entry, arguments = json.loads(said["ENTRYPOINT"]), json.loads(said["CMD"])
    asked = json.loads(re.split(r" CMD ", said["HEALTHCHECK"])[1])
    for command in ([*entry, *arguments], asked):
        assert command[0] == "blocklistd"
        (known,) = (one for name, one in commands() if name == command[1])
        assert set(command[2:]) <= {name for option in known.params for name in option.opts}
    depends = re.findall(r"systemd \| (systemd-standalone-\w+)", (DEBIAN / "control").read_text())
    assert "systemd-standalone-tmpfiles" in depends
    assert "systemd-standalone-tmpfiles" in said["RUN"]
