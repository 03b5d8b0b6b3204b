"""Secrets: the configuration names a file, a systemd credential or an environment variable, never the secret itself."""

from __future__ import annotations

import base64
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NoReturn

from blocklistd.config.document import ConfigNode, InvalidValue, Reader, read_regular
from blocklistd.config.reader import one_of
from blocklistd.config.values import match, path
from blocklistd.errors import ConfigError, ConfigProblem
from blocklistd.store.encrypted import SECRET_EXPECTED, FileKey


@dataclass(frozen=True, slots=True)
class Secret:
    """A reference to a secret. `read` reads the secret each time; it is not kept.

    `name` is the path of a file, or the name of a systemd credential or environment variable, as `kind` says. `file`,
    `line` and `key` are the place in the configuration, for messages.
    """

    kind: Literal["file", "credential", "env"]
    name: str
    file: Path = field(default=Path("-"), compare=False, repr=False)
    line: int = field(default=0, compare=False, repr=False)
    key: str = field(default="-", compare=False, repr=False)

    @property
    def path(self) -> Path | None:
        """The file with the secret; None for an environment variable.

        Raises ConfigError for a systemd credential if systemd passed none to this process.
        """
        if self.kind == "file":
            return Path(self.name)
        if self.kind == "env":
            return None
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if not folder:
            self._fail("no $CREDENTIALS_DIRECTORY", f"systemd to pass the credential {self.name} (LoadCredential=)")
        return Path(folder, self.name)

    def read(self) -> str:
        """Reads the secret, without newlines at its end.

        Raises ConfigError if it is missing, empty, not UTF-8 or more than one line.
        """
        where = self.path or f"${self.name}"
        try:
            secret = self.read_bytes().decode()
        except UnicodeDecodeError:
            self._fail(f"{where} with bytes that are not UTF-8", "a text in UTF-8")
        secret = secret.rstrip("\r\n")
        if not secret:
            self._fail(f"nothing in {where}", "a secret")
        if re.search(r"[\x00-\x1f\x7f]", secret):  # an HTTP library would reject it in a header, at each pull
            self._fail(f"several lines or control characters in {where}", "a secret in one line")
        return secret

    def read_bytes(self) -> bytes:
        """Reads a secret of any form and any number of lines. Raises ConfigError if it can't be read."""
        path = self.path
        try:
            return (
                os.environ.get(self.name, "").encode(errors="surrogateescape") if path is None else read_regular(path)
            )
        except OSError as error:
            self._fail(f"{path}: {error.strerror}", "a file that can be read")

    def read_key(self) -> FileKey:
        """Reads a secret of 32 bytes. Raises ConfigError."""
        try:
            return FileKey.parse(self.read())
        except ValueError:
            self._fail("a secret of another form", SECRET_EXPECTED)

    def read_base64(self) -> bytes:
        """Reads the secret, and decodes it from base64 (RFC 4648 section 4). Raises ConfigError as `read`."""
        try:
            return base64.b64decode(self.read(), validate=True)
        except ValueError:
            self._fail(f"no base64 in {self.kind} {self.name}", "a secret in base64")

    def _fail(self, found: str, expected: str) -> NoReturn:
        raise ConfigError([ConfigProblem(self.file, self.line, self.key, found, expected)]) from None


def _secret_file(node: ConfigNode) -> Secret:
    made = path.convert(node)
    expected = "a file that holds the secret"
    if node.add_file(made, expected, private=True):
        try:
            if not made.read_bytes().strip(b"\r\n"):
                node.document.report_nonfatal(node.key, expected, f"{made}, which is empty", node.line)
        except OSError:  # this process may not read it; files.check_access checks whether the daemon may
            pass
    return Secret("file", str(made), node.document.file, node.line, node.key)


def _evidence_key(node: ConfigNode) -> Secret:
    """A secret of 32 bytes. It is checked where this process can read it."""
    found = secret.convert(node)
    try:
        text = found.read()
    except (ConfigError, OSError):  # the reader of the secret, files.check_access or the start reports that
        return found
    try:
        FileKey.parse(text)
    except ValueError:
        where = f"${found.name}" if found.kind == "env" else found.name
        node.document.report_nonfatal(node.key, SECRET_EXPECTED, f"another text in {where}", node.line)
    return found


def _named(kind: Literal["credential", "env"], pattern: str, expected: str) -> Reader[Secret]:
    def convert(node: ConfigNode) -> Secret:
        try:
            name = match(pattern, node.text())[0]
        except InvalidValue:
            raise InvalidValue(found="something else") from None  # the text is not shown: it may be the secret itself
        return Secret(kind, name, node.document.file, node.line, node.key)

    return Reader(expected, convert)


credential: Final = _named("credential", "[A-Za-z0-9_][A-Za-z0-9._-]{0,254}", "the name of a systemd credential")
secret: Final = one_of(
    {
        "file": Reader("a file that holds the secret", _secret_file),
        "credential": credential,
        "env": _named("env", "[A-Za-z_][A-Za-z0-9_]*", "the name of an environment variable"),
    }
)
evidence_key: Final = Reader(secret.expected, _evidence_key, is_section=secret.is_section)
"""A secret of 32 bytes, with which evidence is encrypted."""
