"""What is installed where: production has what runs, a subscriber has what `sync` needs, and neither has the tests'."""

from __future__ import annotations

import configparser
import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.sim.feed import LIST, TOKEN, FeedSimulator

ROOT = Path(__file__).parents[2]
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")


def locked(name: str) -> dict[str, str]:
    """Packages of a lock file, each with its version and hashes."""
    blocks = re.split(r"(?m)^(?=[a-z0-9])", (ROOT / name).read_text())[1:]
    return {block.split("==")[0]: block for block in blocks}


def needed(names: list[str]) -> set[str]:
    """These packages and all that they need here, as the installed ones say."""
    known: set[tuple[str, tuple[str, ...]]] = set()
    todo = [Requirement(name) for name in names]
    while todo:
        one = todo.pop()
        key = re.sub(r"[-_.]+", "-", one.name).lower(), tuple(sorted(one.extras))
        if key in known:
            continue
        known.add(key)
        for line in importlib.metadata.requires(one.name) or []:
            found = Requirement(line)
            if found.marker is None or any(found.marker.evaluate({"extra": extra}) for extra in ("", *one.extras)):
                todo.append(found)
    return {name for name, _ in known}


def names(section: str, key: str) -> list[str]:
    return SETUP[section][key].split("\n")[1:]


def test_production_installs_what_runs_and_nothing_of_the_tests() -> None:
    production = locked("requirements.lock")
    assert set(production) == needed(names("options", "install_requires")) | {"setuptools"}
    assert not {"mypy", "ruff", "pytest", "hypothesis"} & set(production)
    install = "/opt/blocklistd/bin/pip install --require-hashes -r requirements.lock\n"
    assert install in (ROOT / "docs" / "operator.md").read_text()


def test_the_tests_have_what_production_has_and_their_own() -> None:
    development = (ROOT / "requirements-dev.lock").read_text()
    assert re.findall(r"(?m)^-r (.*)$", development) == ["requirements.lock"]
    own = locked("requirements-dev.lock")
    assert needed(names("options.extras_require", "dev")) <= set(own) | set(locked("requirements.lock"))
    assert not set(own) & set(locked("requirements.lock"))


def test_every_package_has_its_hashes() -> None:
    for name in ("requirements.lock", "requirements-dev.lock", "requirements-client.lock"):
        for package, block in locked(name).items():
            assert re.match(r"[a-z0-9-]+==\S+ \\\n    --hash=sha256:[0-9a-f]{64}", block), package


ALONE = """
import importlib.metadata, re, sys

allowed = set(sys.argv.pop(1).split())

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if modules.get(name.split(".")[0], allowed).isdisjoint(allowed):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

# packages_distributions() does not know modules that are one compiled file
modules = {}
for one in importlib.metadata.distributions():
    name = re.sub(r"[-_.]+", "-", one.name).lower()
    for module in set(re.findall(r"(?m)^[^/.,]+", one.read_text("RECORD") or "")):
        modules.setdefault(module, set()).add(name)
sys.meta_path.insert(0, Refuse())
from blocklistd.__main__ import main, sync
PROGRAM()
"""


def alone(*arguments: str, program: str = "main", folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """A program where nothing is installed but the client. `program`: its function in the __main__ of the package
    blocklistd in `folder`."""
    allowed = " ".join(["blocklistd", *locked("requirements-client.lock")])
    command = [sys.executable, "-c", ALONE.replace("PROGRAM", program), allowed, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=folder)


def modules_of_the_client() -> list[Path]:
    """The files of the package `blocklistd` that the Debian package blocklistd-sync has."""
    named = (ROOT / "debian" / "blocklistd-sync.modules").read_text().split()
    found = []
    for name in named:
        found += (
            [ROOT / name] if name.endswith(".py") else [path for path in (ROOT / name).rglob("*") if path.is_file()]
        )
    found = [path for path in found if path.suffix != ".pyc"]
    assert all(path.is_file() for path in found)
    return found


def test_a_subscriber_needs_no_more_than_the_client(tmp_path: Path) -> None:
    for path in modules_of_the_client():
        copy = tmp_path / "installed" / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    client, production = locked("requirements-client.lock"), locked("requirements.lock")
    assert {name: production[name] for name in client} == client
    assert len(client) < len(production) / 2
    feed = FeedSimulator()
    feed.publish("a.example")
    (tmp_path / "root.json").write_bytes(feed.root)
    (tmp_path / "token").write_text(TOKEN)
    where = [
        "--root",
        str(tmp_path / "root.json"),
        "--token-file",
        str(tmp_path / "token"),
        "--dir",
        str(tmp_path / "d"),
    ]
    installed = {"program": "sync", "folder": tmp_path / "installed"}
    where += ["--format", "plain", "--json"]
    done = alone(feed.url, LIST, *where, **installed)  # type: ignore[arg-type]
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["version"] == 1
    assert (tmp_path / "d" / f"{LIST}.plain").read_bytes() == b"a.example\n"
    feed.publish("a.example", "b.example")
    done = alone("sync", feed.url, LIST, *where)
    feed.close()
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["how"] == "diff"
    assert (tmp_path / "d" / f"{LIST}.plain").read_bytes() == b"a.example\nb.example\n"
    helped = alone("--help", **installed)  # type: ignore[arg-type]
    assert helped.stdout.startswith("Usage: blocklistd-sync [OPTIONS] URL LIST\n"), helped.stderr


@pytest.mark.parametrize("command", [["check-config"], ["status"], ["demo"]])
def test_what_the_client_alone_does_not_have_is_said(command: list[str]) -> None:
    done = alone(*command)
    assert done.returncode == 1
    rest = "install requirements-client.lock for `blocklistd sync`, requirements.lock for every other command"
    assert re.fullmatch(rf"blocklistd: \w+ is not installed here: {rest}\n", done.stderr)
