"""The YAML document of a configuration: its nodes, and the problems found in them.

PyYAML only composes the nodes; it does not construct Python values. A node knows its line and keeps a scalar as the
text that was written, so that `no`, `12:30` and `1e3` stay texts: the reader of each key decides what its text means.
Aliases are followed. Merge keys and tags are rejected, because their meaning depends on the YAML library.

A Reader converts a ConfigNode to a value, or raises InvalidValue. ConfigNode.read catches it, reports the problem to
the ConfigDocument, and returns INVALID; so one pass over the file collects all problems.
"""

from __future__ import annotations

import dataclasses
import enum
import errno
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
"""The key that is shown in a problem of the file itself."""

_YAML: Final = "tag:yaml.org,2002:"
_TAGS: Final = {
    "scalar": {_YAML + name for name in ("str", "int", "float", "bool", "null", "timestamp", "merge", "value")},
    "sequence": {_YAML + "seq"},
    "mapping": {_YAML + "map"},
}
KINDS: Final = {"scalar": "a text", "sequence": "a list", "mapping": "a mapping"}
_USERINFO: Final = re.compile(r"^((?:[\w+]+:)?//)?.*@", re.DOTALL)  # greedy: a password may hold a slash or an @
_QUERY: Final = re.compile(r"([?#]).*", re.DOTALL)
_NEEDED: Final = re.compile(r"(.*?)expected (.+?), but (?:got|found) (.+)", re.DOTALL)
MAX_EXCERPT: Final = 60  # characters


class InvalidValue(Exception):
    """The value of a node is invalid.

    `expected` and `found` are phrases for the message; by default the reader's `expected` and the node's text.
    """

    def __init__(self, expected: str = "", found: str = "") -> None:
        super().__init__(expected, found)
        self.expected, self.found = expected, found


class AlreadyReported(Exception):
    """A part of the value is invalid, and its problem is already reported."""


class _Invalid(enum.Enum):
    INVALID = "a value that could not be read"


INVALID: Final = _Invalid.INVALID


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file that the configuration names. `private`: only the daemon's user may read it."""

    key: str
    line: int
    path: Path
    private: bool


def require_regular(path: Path) -> None:
    """Raises OSError for a device, a pipe or a folder: a device may have no end. Accepts a path that does not exist."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file")


def read_regular(path: Path) -> bytes:
    """Reads a file that the configuration names. Raises OSError, also if it is not a regular file."""
    require_regular(path)
    return path.read_bytes()


class ConfigDocument:
    """A configuration file while it is being read; readers and checks add to it.

    | attribute | content |
    |---|---|
    | nodes | the node of each key that was read, by dotted key |
    | sections | the valid values of each section, by dotted key |
    | files | the files that the configuration names |
    | problems | fatal errors: there is no configuration |
    | nonfatal | errors with which the daemon can start: most are about a named file |
    | warnings | remarks that reject nothing |
    """

    def __init__(self, file: Path, *, check_files: bool = True) -> None:
        """`check_files`: whether the named files are checked."""
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
        """Adds a fatal problem. Without `line`, it gets the line of the key or, for a missing key, of its section."""
        self.problems.append(self._problem(key, expected, found, line))

    def report_nonfatal(self, key: str, expected: str, found: str, line: int = 0) -> None:
        """Adds a problem with which the daemon can still start. Arguments as for `report`."""
        self.nonfatal.append(self._problem(key, expected, found, line))

    def warn(self, key: str, expected: str, found: str, line: int = 0) -> None:
        """Adds a warning. Arguments as for `report`."""
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
    """A node of the document.

    `key` is its dotted key, `name` the last part of the key, `line` its line number from 1. `yaml_node` is PyYAML's
    node; None if the key is not written.
    """

    document: ConfigDocument
    key: str
    name: str
    line: int
    yaml_node: YamlNode | None

    @property
    def is_null(self) -> bool:
        """Whether the key is not written, or its value is null."""
        return self.yaml_node is None or (self.yaml_node.id == "scalar" and self.yaml_node.tag == _YAML + "null")

    def read(self, reader: Reader[T]) -> T | _Invalid:
        """Returns the value; INVALID if there is a problem, which is then reported."""
        try:
            return reader.convert(self)
        except InvalidValue as invalid:
            self.document.report(
                self.key, invalid.expected or reader.expected, invalid.found or excerpt(self.yaml_node), line=self.line
            )
        except AlreadyReported:
            pass
        return INVALID

    def add_file(self, path: Path, expected: str, *, private: bool = False) -> bool:
        """Adds `path` to the named files and returns whether it is a file.

        Reports a path that is no file. Returns False without a report if files are not checked or access is denied.
        """
        self.document.files.append(NamedFile(self.key, self.line, path, private))
        if not self.document.check_files:
            return False
        try:
            if path.is_file():
                return True
            found = f"{path}, " + ("which is no file" if path.exists() else "which does not exist")
        except PermissionError:  # this process may not read it; files.check_access checks whether the daemon may
            return False
        except OSError as error:
            found = f"{path}: {error.strerror}"
        self.document.report_nonfatal(self.key, expected, found, self.line)
        return False

    def text(self) -> str:
        """The text of a scalar, as written. Raises InvalidValue for another node, null and control characters."""
        text = self._value("scalar")
        if not isinstance(text, str) or (not text and self.is_null):
            raise InvalidValue
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
            raise InvalidValue("a text without control characters")
        return text

    def items(self) -> list[ConfigNode]:
        """The items of a sequence. Raises InvalidValue for another node."""
        yaml_nodes = self._value("sequence")
        return [
            ConfigNode(self.document, self.key, self.name, yaml_node.start_mark.line + 1, yaml_node)
            for yaml_node in yaml_nodes
        ]

    def pairs(self) -> list[tuple[ConfigNode, ConfigNode]]:
        """The (key, value) nodes of a mapping; none if the node is null. Raises InvalidValue for another node.

        Reports keys that are no scalars, merge keys, and the second use of a key, and skips them.
        """
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
    """Converts a node to a value. `expected` names such values in messages, as in "expected a size like 64MiB".

    `null_is_absent`: a null is read as if the key was not written. `is_section`: a missing key is read as an empty
    section, so that the section's own defaults and required keys apply.
    """

    expected: str
    convert: Callable[[ConfigNode], T_co]
    null_is_absent: bool = False
    is_section: bool = False


def excerpt(yaml_node: YamlNode | None) -> str:
    """A short text of a node for messages, without a URL's user, password, query and fragment: they may be secrets."""
    if yaml_node is None or (yaml_node.id == "scalar" and yaml_node.tag == _YAML + "null" and not yaml_node.value):
        return "nothing"
    if yaml_node.id != "scalar":
        return KINDS[yaml_node.id]
    return repr(shorten(_QUERY.sub(r"\1…", _USERINFO.sub(r"\1…@", yaml_node.value))))


def compose(document: ConfigDocument) -> YamlNode | None:
    """Reads the file and returns the root node of its YAML document; None if it is empty. Raises ConfigError."""
    # Not the C loader: it recurses on the C stack, so that a deeply nested file would crash the process.
    import yaml

    try:
        with document.file.open("rb") as opened:
            data = opened.read(MAX_CONFIG + 1)
        if len(data) > MAX_CONFIG:
            raise _unreadable(document, 1, f"more than {MAX_CONFIG} bytes", f"at most {MAX_CONFIG} bytes")
        return cast("YamlNode | None", yaml.compose(data.decode("utf-8-sig"), yaml.SafeLoader))
    except OSError as error:
        raise _unreadable(document, 1, error.strerror or str(error), "a file that can be read (`-c FILE`)") from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _unreadable(document, line, "bytes that are not UTF-8", "a text in UTF-8") from None
    except yaml.MarkedYAMLError as error:
        position = error.problem_mark or error.context_mark
        what = ": ".join(filter(None, (error.context, error.problem))).removeprefix("found ")
        found, expected = shorten(what, 200), "correct YAML"
        if "expected a single document" in what:
            found, expected = "another document", "one document"
        elif (needed := _NEEDED.fullmatch(what)) is not None:  # PyYAML's own words: name each of the two once
            found, expected = f"{needed[1]}{shorten(needed[3], 200)}", needed[2].strip("<>")
        raise _unreadable(document, position.line + 1 if position else 1, found, expected) from None
    except yaml.reader.ReaderError as error:
        line = data.decode("utf-8-sig").count("\n", 0, error.position) + 1
        raise _unreadable(document, line, error.reason, "a text without control characters") from None
    except (ValueError, OverflowError):
        # PyYAML raises these for an escape beyond Unicode and for a version directive of a thousand digits.
        raise _unreadable(document, 1, "an escape or directive out of range", "correct YAML") from None
    except RecursionError:
        raise _unreadable(document, 1, "too many levels", "a few levels") from None


def _unreadable(document: ConfigDocument, line: int, found: str, expected: str) -> ConfigError:
    return ConfigError([ConfigProblem(document.file, line, DOCUMENT, found, expected)])


def shorten(text: str, length: int = MAX_EXCERPT) -> str:
    """The text, cut to `length` characters with … at its end."""
    return text if len(text) <= length else text[: length - 1] + "…"


def label(name: str) -> str:
    """A key as it is shown in messages: quoted if it is empty, long or not printable."""
    return name if name.isprintable() and 0 < len(name) <= MAX_EXCERPT else repr(shorten(name))
