"""A configuration file as PyYAML's nodes: what stands where, and everything that is wrong with it.

PyYAML goes as far as its nodes, which know their lines and hold every scalar as the text that was written: `no`,
`12:30` and `1e3` stay what they are, and what a text means is decided by the reader of its key. Plain aliases are
followed; merge keys and tags are refused, because what they mean depends on who reads them.

A reader takes a `Spot` and returns a value or raises `Wrong`; only containers catch that, report it, and go on.
"""

from __future__ import annotations

import dataclasses
import enum
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

from blocklistd.errors import ConfigError, ConfigProblem
from blocklistd.limits import MAX_CONFIG

if TYPE_CHECKING:
    from yaml.nodes import MappingNode, ScalarNode, SequenceNode

    Node = ScalarNode | SequenceNode | MappingNode


T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

DOCUMENT: Final = "(document)"
"""Stands for the key in a problem of the whole file."""

_YAML: Final = "tag:yaml.org,2002:"
_TAGS: Final = {
    "scalar": {_YAML + name for name in ("str", "int", "float", "bool", "null", "timestamp", "merge", "value")},
    "sequence": {_YAML + "seq"},
    "mapping": {_YAML + "map"},
}
KINDS: Final = {"scalar": "a text", "sequence": "a list", "mapping": "a mapping"}
_USERINFO: Final = re.compile(r"^((?:[\w+]+:)?//)?.*@", re.DOTALL)  # greedy: a password may hold a slash or an @
_QUERY: Final = re.compile(r"([?#]).*", re.DOTALL)
SHOWN: Final = 60  # characters of what was found


class Wrong(Exception):
    """The value at hand can't be used; without arguments, `expected` is the reader's and `found` what stands there."""

    def __init__(self, expected: str = "", found: str = "") -> None:
        super().__init__(expected, found)
        self.expected, self.found = expected, found


class Spoiled(Exception):
    """Something inside the value can't be used, and has been reported."""


class _Bad(enum.Enum):
    BAD = "a value that could not be read"


BAD: Final = _Bad.BAD


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file that the configuration names. `private`: nobody but the daemon may read it."""

    key: str
    line: int
    path: Path
    private: bool


class Page:
    """A configuration file while it is read.

    `spots` has every key that was read, `parts` the usable values of every section, both by dotted key; `files` has the
    named files. `problems` are errors. `tolerable` are errors too, mostly of a named file, with which a start can serve
    everything else: the value is used as far as possible. `warnings` are no errors.
    """

    def __init__(self, file: Path, *, looks: bool = True) -> None:
        """`looks`: whether the named files are checked."""
        self.file = file
        self.looks = looks
        self.folder = file.absolute().parent
        self.problems: list[ConfigProblem] = []
        self.tolerable: list[ConfigProblem] = []
        self.warnings: list[ConfigProblem] = []
        self.files: list[NamedFile] = []
        self.spots: dict[str, Spot] = {}
        self.parts: dict[str, Mapping[str, Any]] = {}

    def report(self, key: str, expected: str, found: str = "", line: int = 0) -> None:
        """Notes a problem; its line is that of the key, or of the nearest section around a key that is not there."""
        self.problems.append(self._problem(key, expected, found, line))

    def tolerate(self, key: str, expected: str, found: str, line: int = 0) -> None:
        """As `report`, for an error that a start tolerates."""
        self.tolerable.append(self._problem(key, expected, found, line))

    def warn(self, key: str, expected: str, found: str, line: int = 0) -> None:
        """As `report`, for a warning."""
        self.warnings.append(self._problem(key, expected, found, line))

    def _problem(self, key: str, expected: str, found: str, line: int) -> ConfigProblem:
        spot, around = self.spots.get(key), key
        while around and around not in self.spots:
            around = around.rpartition(".")[0]
        line = line or (self.spots[around].line if around else 1)
        found = found or (shown(spot.node) if spot else "nothing")
        return ConfigProblem(self.file, line, key or DOCUMENT, found, expected)


@dataclass(frozen=True, slots=True)
class Spot:
    """A place in the file: a dotted key, its last part, its line, and the node there (None: nothing is written)."""

    page: Page
    key: str
    name: str
    line: int
    node: Node | None

    @property
    def is_null(self) -> bool:
        return self.node is None or (self.node.id == "scalar" and self.node.tag == _YAML + "null")

    def read(self, reader: Reader[T]) -> T | _Bad:
        """The value, or BAD after what is wrong was reported."""
        try:
            return reader.convert(self)
        except Wrong as wrong:
            self.page.report(
                self.key, wrong.expected or reader.expected, wrong.found or shown(self.node), line=self.line
            )
        except Spoiled:
            pass
        return BAD

    def names(self, path: Path, expected: str, *, private: bool = False) -> bool:
        """Adds the value to the named files. True where it is a file; False where it is none, which is reported, and
        where that can't be checked."""
        self.page.files.append(NamedFile(self.key, self.line, path, private))
        if not self.page.looks:
            return False
        try:
            if path.is_file():
                return True
            found = f"{path}, " + ("which is no file" if path.exists() else "which does not exist")
        except PermissionError:  # we may not read it; files.look_at checks whether the daemon may
            return False
        except OSError as error:
            found = f"{path}: {error.strerror}"
        self.page.tolerate(self.key, expected, found, self.line)
        return False

    def text(self) -> str:
        """The scalar as it is written. Raises Wrong for anything else, for nothing, and for control characters."""
        text = self._value("scalar")
        if not isinstance(text, str) or (not text and self.is_null):
            raise Wrong
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
            raise Wrong("a text without control characters")
        return text

    def items(self) -> list[Spot]:
        nodes = self._value("sequence")
        return [Spot(self.page, self.key, self.name, node.start_mark.line + 1, node) for node in nodes]

    def pairs(self) -> list[tuple[Spot, Spot]]:
        """(key, value), each key once; nothing is an empty mapping. Reports what is no usable key."""
        found: dict[str, tuple[Spot, Spot]] = {}
        for key_node, node in () if self.is_null else self._value("mapping"):
            line = key_node.start_mark.line + 1
            if key_node.id != "scalar" or key_node.tag not in _TAGS["scalar"]:
                self.page.report(self.key, "keys that are texts", f"{KINDS[key_node.id]} as a key", line)
            elif key_node.tag == _YAML + "merge":
                self.page.report(self.key, "keys that are written out", "a merge key (<<)", line)
            elif key_node.value in found:
                first = found[key_node.value][0]
                again = f"the key a second time (first on line {first.line})"
                self.page.report(first.key, "each key once", again, line)
            else:
                name = key_node.value
                dotted = f"{self.key}.{label(name)}" if self.key else label(name)
                value = Spot(self.page, dotted, name, line, node)
                self.page.spots[dotted] = value
                found[name] = dataclasses.replace(value, node=key_node), value
        return list(found.values())

    def _value(self, kind: str) -> Any:
        if self.node is None or self.node.id != kind:
            raise Wrong
        if self.node.tag not in _TAGS[kind]:
            raise Wrong("a value without a tag", f"the tag {cut(self.node.tag)}")
        return self.node.value


@dataclass(frozen=True, slots=True)
class Reader(Generic[T_co]):
    """How a value is read, and what is expected there, in words.

    `nothing`: a null there is the same as no key. `whole`: a section, whose own defaults apply where it is not there.
    """

    expected: str
    convert: Callable[[Spot], T_co]
    nothing: bool = False
    whole: bool = False


def shown(node: Node | None) -> str:
    """What stands there, short, and of a URL neither user and password nor the query: they may be secrets."""
    if node is None or (node.id == "scalar" and node.tag == _YAML + "null" and not node.value):
        return "nothing"
    if node.id != "scalar":
        return KINDS[node.id]
    return repr(cut(_QUERY.sub(r"\1…", _USERINFO.sub(r"\1…@", node.value))))


def compose(page: Page) -> Node | None:
    """The file's one YAML document; None where it is empty. Raises ConfigError."""
    # The C loader is faster, and recurses on the C stack: a deeply nested file would end the process.
    import yaml

    try:
        with page.file.open("rb") as opened:
            data = opened.read(MAX_CONFIG + 1)
        if len(data) > MAX_CONFIG:
            raise _broken(page, 1, f"more than {MAX_CONFIG} bytes", f"at most {MAX_CONFIG} bytes")
        return cast("Node | None", yaml.compose(data.decode("utf-8-sig"), yaml.SafeLoader))
    except OSError as error:
        raise _broken(page, 1, error.strerror or str(error), "a file that can be read") from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _broken(page, line, "bytes that are not UTF-8", "a text in UTF-8") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(filter(None, (error.context, error.problem))).removeprefix("found ")
        several = "expected a single document" in what
        found, expected = ("another document", "one document") if several else (cut(what, 200), "correct YAML")
        raise _broken(page, mark.line + 1 if mark else 1, found, expected) from None
    except yaml.reader.ReaderError as error:
        line = data.decode("utf-8-sig").count("\n", 0, error.position) + 1
        raise _broken(page, line, error.reason, "a text without control characters") from None
    except (ValueError, OverflowError):
        # PyYAML's own: an escape beyond Unicode, a version of a thousand digits
        raise _broken(page, 1, "an escape or directive out of range", "correct YAML") from None
    except RecursionError:
        raise _broken(page, 1, "too many levels", "a few levels") from None


def _broken(page: Page, line: int, found: str, expected: str) -> ConfigError:
    return ConfigError([ConfigProblem(page.file, line, DOCUMENT, found, expected)])


def cut(text: str, length: int = SHOWN) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def label(name: str) -> str:
    return name if name.isprintable() and 0 < len(name) <= SHOWN else repr(cut(name))
