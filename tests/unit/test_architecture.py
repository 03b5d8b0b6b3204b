"""Dependencies point one way, and what is pure does no I/O and reads no clock. Parsed, not imported."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "blocklistd"

# A part may import what stands above it, and itself.
LAYERS: list[set[str]] = [
    {"change", "model", "errors", "events", "limits", "log_event", "receipts", "telemetry", "times", "__init__"},
    {"language"},
    {"lines", "kinds"},
    {"compose", "rpz", "outputs"},
    {"jobs"},
    {"sources", "store"},
    {"config"},
    {"tls"},
    {"signing", "serve"},
    {"pipeline"},
    {"dashboard", "ops"},
    {"daemon"},
    {"cli", "demo"},
    {"__main__"},
]
LINES = 350
CLIENT = {"model", "errors", "limits", "times", "lines", "outputs", "client", "__init__"}
PURE = [
    *(
        "model.py",
        "change.py",
        "receipts.py",
        "kinds",
        "outputs",
        "signing/roles.py",
        "serve/dns/transfer.py",
    ),
    "sources/formats",
    "lines",
    "compose",
    "rpz",
    *("sources/intake/canonical.py", "sources/intake/entries.py", "sources/intake/form.py", "sources/proofs"),
    *("serve/connections.py", "serve/http/live_lists.py"),
    *("serve/dns/tsig.py", "serve/dns/message.py", "serve/dns/query.py", "serve/dns/notify.py", "serve/dns/zones.py"),
]
IMPURE = {
    "socket",
    "aiohttp",
    "urllib3",
    "sqlalchemy",
    "subprocess",
    "time",
    "random",
    "secrets",
    "uuid",
    "os",
    "shutil",
}
CLOCKS = {"now", "utcnow", "today", "utc_now", "time", "monotonic"}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "migrations" not in path.parts)


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path, only_top: bool = False) -> Iterator[str]:
    """Every module that is imported, in functions too (unless `only_top`), but not for type checking alone."""
    tree = ast.parse(path.read_text())
    if only_top:
        tree.body = [node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.ClassDef)]
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own(path: Path) -> set[str]:
    """The parts of the package that a module imports."""
    names = (name.split(".") for name in imports(path) if name.split(".")[0] == "blocklistd")
    return {"__init__" if name[1:2] in ([], ["__version__"]) else name[1] for name in names}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_dependencies_point_one_way(path: Path) -> None:
    mine = part(path)
    if mine == "client":
        assert own(path) <= CLIENT
        return
    level = next(number for number, names in enumerate(LAYERS) if mine in names)
    allowed = set().union(*LAYERS[: level + 1])
    if mine in ("cli", "demo"):
        allowed |= {"client"}
    if mine == "sources":
        allowed -= {"versions", "tls", "config"}
    if mine == "versions":
        allowed -= {"sources", "tls", "config"}
    assert own(path) <= allowed | {mine}


def is_lazy(path: Path) -> bool:
    """Imports in the functions of these modules are those of other commands than `sync`."""
    return path in (PACKAGE / "cli" / "__init__.py", PACKAGE / "cli" / "common.py", PACKAGE / "kinds" / "name.py")


def test_the_package_of_the_client_has_all_that_it_imports() -> None:
    """debian/blocklistd-sync.modules names whole folders, and modules."""
    named = (PACKAGE.parent / "debian" / "blocklistd-sync.modules").read_text().split()
    paths = {path for name in named for path in ((PACKAGE.parent / name).glob("*.py") if "." not in name else ())}
    paths |= {PACKAGE.parent / name for name in named if name.endswith(".py")}
    assert {part(path) for path in paths} == CLIENT | {"__main__", "cli", "kinds", "language", "rpz"}
    have = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__") for path in paths
    }
    locked = re.findall(r"(?m)^([a-z0-9-]+)==", (PACKAGE.parent / "requirements-client.lock").read_text())
    allowed = {"dns" if name == "dnspython" else name.replace("-", "_") for name in locked} | sys.stdlib_module_names
    for path in paths:
        for name in imports(path, only_top=is_lazy(path)):
            if name.split(".")[0] == "blocklistd":
                assert {name, name.rpartition(".")[0]} & have, f"{path}: {name} is in no file of the package"
            else:
                assert name.split(".")[0] in allowed, f"{path}: {name} is not in requirements-client.lock"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_is_longer_than_it_can_be_read(path: Path) -> None:
    if path.relative_to(PACKAGE) != Path("events.py"):  # a table: each row is read alone
        assert len(path.read_text().splitlines()) <= LINES


def test_all_sql_is_in_the_store() -> None:
    allowed = {"sqlalchemy.Connection"}
    for path in modules():
        if part(path) != "store":
            assert {name for name in imports(path) if name.split(".")[0] == "sqlalchemy"} <= allowed, path


def test_every_part_has_its_place() -> None:
    placed = set().union(*LAYERS) | {"client"}
    assert {part(path) for path in modules()} == placed


@pytest.mark.parametrize("name", PURE)
def test_what_is_pure_does_no_io_and_reads_no_clock(name: str) -> None:
    where = PACKAGE / name
    for path in [where] if where.suffix else sorted(where.glob("*.py")):
        roots = {imported.split(".")[0] for imported in imports(path)}
        assert not roots & IMPURE, path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                assert called not in CLOCKS, f"{path.name}:{node.lineno} reads a clock"
                assert called != "open", f"{path.name}:{node.lineno} opens a file"


def test_nothing_private_of_aiohttp_is_used() -> None:
    """Only what `aiohttp` and `aiohttp.web` export, and no name with an underscore: nor in a subclass of theirs."""
    for path in modules():
        names = [name for name in imports(path) if name.split(".")[0] == "aiohttp"]
        if not names:
            continue
        assert {name.rpartition(".")[0] or name for name in names} <= {"aiohttp", "aiohttp.web"}, path
        tree = ast.parse(path.read_text())
        assert {owner for owner, _ in underscored(tree)} <= {"self"}, path
        for kind in ast.walk(tree):
            if isinstance(kind, ast.ClassDef) and any(ast.unparse(base).startswith("web.") for base in kind.bases):
                assert not list(underscored(kind)), f"{path}: {kind.name}"


def underscored(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(owner, name) of each attribute that begins with one underscore."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            yield ast.unparse(node.value), node.attr
