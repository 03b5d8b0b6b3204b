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

    YamlNode = ScalarNode | SequenceNode | MappingNode


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
MAX_EXCERPT: Final = 60  # characters of what was found


class InvalidValue(Exception):
    """The value at hand can't be used; without arguments, `expected` is the reader's and `found` what stands there."""

    def __init__(self, expected: str = "", found: str = "") -> None:
        super().__init__(expected, found)
        self.expected, self.found = expected, found


class AlreadyReported(Exception):
    """Something inside the value can't be used, and has been reported."""


class _Invalid(enum.Enum):
    INVALID = "a value that could not be read"


INVALID: Final = _Invalid.INVALID


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file that the configuration names. `private`: nobody but the daemon may read it."""

    key: str
    line: int
    path: Path
    private: bool


class ConfigDocument:
    """A configuration file while it is read.

    `spots` has every key that was read, `parts` the usable values of every section, both by dotted key; `files` has the
    named files. `problems` are errors. `tolerable` are errors too, mostly of a named file, with which a start can serve
    everything else: the value is used as far as possible. `warnings` are no errors.
    """

    def __init__(self, file: Path, *, check_files: bool = True) -> None:
        """`looks`: whether the named files are checked."""
        self.file = file
        self.check_files = check_files
        self.folder = file.absolute().parent
        self.problems: list[ConfigProblem] = []
        self.nonfatal: list[ConfigProblem] = []
        self.warnings: list[ConfigProblem] = []
        self.files: list[NamedFile] = []
        self.nodes: dict[str, ConfigNode] = {}
        self.sections: dict[str, Mapping[str, Any]] = {}

    def report(self, key: str, expected: str, found: str = "", line: int = 0) -> None:
        """Notes a problem; its line is that of the key, or of the nearest section around a key that is not there."""
        self.problems.append(self._problem(key, expected, found, line))

    def report_nonfatal(self, key: str, expected: str, found: str, line: int = 0) -> None:
        """As `report`, for an error that a start tolerates."""
        self.nonfatal.append(self._problem(key, expected, found, line))

    def warn(self, key: str, expected: str, found: str, line: int = 0) -> None:
        """As `report`, for a warning."""
        self.warnings.append(self._problem(key, expected, found, line))

    def _problem(self, key: str, expected: str, found: str, line: int) -> ConfigProblem:
        node, around = self.nodes.get(key), key
        while around and around not in self.nodes:
            around = around.rpartition(".")[0]
        line = line or (self.nodes[around].line if around else 1)
        found = found or (excerpt(node.yaml_node) if node else "nothing")
        return ConfigProblem(self.file, line, key or DOCUMENT, found, expected)


@dataclass(frozen=True, slots=True)
class ConfigNode:
    """A place in the file: a dotted key, its last part, its line, and the node there (None: nothing is written)."""

    document: ConfigDocument
    key: str
    name: str
    line: int
    yaml_node: YamlNode | None

    @property
    def is_null(self) -> bool:
        return self.yaml_node is None or (self.yaml_node.id == "scalar" and self.yaml_node.tag == _YAML + "null")

    def read(self, reader: Reader[T]) -> T | _Invalid:
        """The value, or BAD after what is wrong was reported."""
        try:
            return reader.convert(self)
        except InvalidValue as invalid:
            self.document.report(
                self.key, invalid.expected or reader.expected, invalid.found or excerpt(self.yaml_node), line=self.line
            )
        except AlreadyReported:
            pass
        return INVALID

    def names(self, path: Path, expected: str, *, private: bool = False) -> bool:
        """Adds the value to the named files. True where it is a file; False where it is none, which is reported, and
        where that can't be checked."""
        self.document.files.append(NamedFile(self.key, self.line, path, private))
        if not self.document.check_files:
            return False
        try:
            if path.is_file():
                return True
            found = f"{path}, " + ("which is no file" if path.exists() else "which does not exist")
        except PermissionError:  # we may not read it; files.check_access checks whether the daemon may
            return False
        except OSError as error:
            found = f"{path}: {error.strerror}"
        self.document.report_nonfatal(self.key, expected, found, self.line)
        return False

    def text(self) -> str:
        """The scalar as it is written. Raises Wrong for anything else, for nothing, and for control characters."""
        text = self._value("scalar")
        if not isinstance(text, str) or (not text and self.is_null):
            raise InvalidValue
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
            raise InvalidValue("a text without control characters")
        return text

    def items(self) -> list[ConfigNode]:
        yaml_nodes = self._value("sequence")
        return [
            ConfigNode(self.document, self.key, self.name, yaml_node.start_mark.line + 1, yaml_node)
            for yaml_node in yaml_nodes
        ]

    def pairs(self) -> list[tuple[ConfigNode, ConfigNode]]:
        """(key, value), each key once; nothing is an empty mapping. Reports what is no usable key."""
        found: dict[str, tuple[ConfigNode, ConfigNode]] = {}
        for yaml_key, yaml_node in () if self.is_null else self._value("mapping"):
            line = yaml_key.start_mark.line + 1
            if yaml_key.id != "scalar" or yaml_key.tag not in _TAGS["scalar"]:
                self.document.report(self.key, "keys that are texts", f"{KINDS[yaml_key.id]} as a key", line)
            elif yaml_key.tag == _YAML + "merge":
                self.document.report(self.key, "keys that are written out", "a merge key (<<)", line)
            elif yaml_key.value in found:
                first = found[yaml_key.value][0]
                again = f"the key a second time (first on line {first.line})"
                self.document.report(first.key, "each key once", again, line)
            else:
                name = yaml_key.value
                dotted = f"{self.key}.{label(name)}" if self.key else label(name)
                value = ConfigNode(self.document, dotted, name, line, yaml_node)
                self.document.nodes[dotted] = value
                found[name] = dataclasses.replace(value, yaml_node=yaml_key), value
        return list(found.values())

    def _value(self, kind: str) -> Any:
        if self.yaml_node is None or self.yaml_node.id != kind:
            raise InvalidValue
        if self.yaml_node.tag not in _TAGS[kind]:
            raise InvalidValue("a value without a tag", f"the tag {shorten(self.yaml_node.tag)}")
        return self.yaml_node.value


@dataclass(frozen=True, slots=True)
class Reader(Generic[T_co]):
    """How a value is read, and what is expected there, in words.

    `nothing`: a null there is the same as no key. `whole`: a section, whose own defaults apply where it is not there.
    """

    expected: str
    convert: Callable[[ConfigNode], T_co]
    null_is_absent: bool = False
    is_section: bool = False


def excerpt(yaml_node: YamlNode | None) -> str:
    """What stands there, short, and of a URL neither user and password nor the query: they may be secrets."""
    if yaml_node is None or (yaml_node.id == "scalar" and yaml_node.tag == _YAML + "null" and not yaml_node.value):
        return "nothing"
    if yaml_node.id != "scalar":
        return KINDS[yaml_node.id]
    return repr(shorten(_QUERY.sub(r"\1…", _USERINFO.sub(r"\1…@", yaml_node.value))))


def compose(document: ConfigDocument) -> YamlNode | None:
    """The file's one YAML document; None where it is empty. Raises ConfigError."""
    # The C loader is faster, and recurses on the C stack: a deeply nested file would end the process.
    import yaml

    try:
        with document.file.open("rb") as opened:
            data = opened.read(MAX_CONFIG + 1)
        if len(data) > MAX_CONFIG:
            raise _unreadable(document, 1, f"more than {MAX_CONFIG} bytes", f"at most {MAX_CONFIG} bytes")
        return cast("YamlNode | None", yaml.compose(data.decode("utf-8-sig"), yaml.SafeLoader))
    except OSError as error:
        raise _unreadable(document, 1, error.strerror or str(error), "a file that can be read") from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _unreadable(document, line, "bytes that are not UTF-8", "a text in UTF-8") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(filter(None, (error.context, error.problem))).removeprefix("found ")
        several = "expected a single document" in what
        found, expected = ("another document", "one document") if several else (shorten(what, 200), "correct YAML")
        raise _unreadable(document, mark.line + 1 if mark else 1, found, expected) from None
    except yaml.reader.ReaderError as error:
        line = data.decode("utf-8-sig").count("\n", 0, error.position) + 1
        raise _unreadable(document, line, error.reason, "a text without control characters") from None
    except (ValueError, OverflowError):
        # PyYAML's own: an escape beyond Unicode, a version of a thousand digits
        raise _unreadable(document, 1, "an escape or directive out of range", "correct YAML") from None
    except RecursionError:
        raise _unreadable(document, 1, "too many levels", "a few levels") from None


def _unreadable(document: ConfigDocument, line: int, found: str, expected: str) -> ConfigError:
    return ConfigError([ConfigProblem(document.file, line, DOCUMENT, found, expected)])


def shorten(text: str, length: int = MAX_EXCERPT) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def label(name: str) -> str:
    return name if name.isprintable() and 0 < len(name) <= MAX_EXCERPT else repr(shorten(name))
