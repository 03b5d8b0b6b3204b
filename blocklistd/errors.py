"""The errors that blocklistd raises on purpose, grouped by the person who has to act.

    BlocklistError
    ├── ConfigError            the administrator: the configuration file
    ├── GuardFileError         the administrator: a file of names, or a warning list
    ├── SourceError            the hotline, or the network to it; the last good version stays live
    │   ├── FetchError         no complete body arrived
    │   ├── VerifyError        the body does not prove its origin
    │   │   ├── StaleError     the body proves its origin, but is older than an accepted one
    │   │   └── DistrustedError    an operator distrusts the key that signed the body
    │   ├── ParseError         the body is not a list in the configured format
    │   └── JobError           the job that read the body crashed, hung or exceeded a limit
    ├── StoreError             the administrator: disk, database, state_dir
    │   ├── DatabaseDamagedError   the database can't be read, or the file is not a database
    │   ├── BehindError        a number is lower than one that was served before
    │   ├── DamagedError       a sealed file is missing, or does not match its digest
    │   └── FencedError        another daemon has taken over the state_dir
    ├── SigningError           the administrator: keys, root.json
    ├── SubscriberError        the subscriber, or who registers it: its request or registration
    │   └── SyncError          the subscriber's client: nothing newer could be verified
    └── RefusedError           the operator: a command that is not possible in this state

A message says what was found, what was expected, and what to do. It never contains an entry. A held candidate is
not an error: it is a value, `Hold` (compose/guard.py).
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


class BlocklistError(Exception):
    """Base class of the errors that are raised on purpose; the text may be logged and shown to users."""


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One error in a configuration file. `line` counts from 1."""

    file: Path
    line: int
    key: str
    found: str
    expected: str

    def document(self) -> dict[str, str | int]:
        """The problem as `--json` prints it."""
        return {
            "file": str(self.file),
            "line": self.line,
            "key": self.key,
            "found": self.found,
            "expected": self.expected,
        }

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.key}: found {self.found}, expected {self.expected}"


class ConfigError(BlocklistError):
    """The configuration can't be used. `problems`: all its errors, in the order of lines."""

    def __init__(self, problems: list[ConfigProblem]) -> None:
        self.problems = problems
        super().__init__("\n".join(map(str, problems)))


class GuardFileError(BlocklistError):
    """A file of names, or a warning list, that a guard refers to can't be used. `names`: those that could be read."""

    def __init__(self, text: str, names: frozenset[str] = frozenset()) -> None:
        self.names = names
        super().__init__(text)


class SourceError(BlocklistError):
    """A pull failed; nothing live changed."""


class FetchError(SourceError):
    """No complete body arrived within the limits."""


class VerifyError(SourceError):
    """The body does not prove its origin; it was not parsed."""


class StaleError(VerifyError):
    """The body proves its origin, but a newer one was accepted before: a replay."""


class DistrustedError(VerifyError):
    """The body is signed by a key that an operator distrusts (`source distrust`)."""


class ParseError(SourceError):
    """The body is not a list in the configured format."""


class JobError(SourceError):
    """A job was killed, crashed, or exceeded a limit. `cause`: one word of jobs.runner.CAUSES."""

    def __init__(self, text: str, cause: str = "failed") -> None:
        self.cause = cause
        super().__init__(text)


class StoreError(BlocklistError):
    """The database or a file of the state_dir can't be read or written, or has unexpected content."""


class DatabaseDamagedError(StoreError):
    """SQLite finds damage in the database, or the file is not a database."""


class BehindError(StoreError):
    """A version or serial is lower than one that was served before, so it could stand for two contents."""


class DamagedError(StoreError):
    """A sealed file is missing or damaged, so nothing may be made from it. `digest`: its name.

    Made from the digest, or from a text that begins with it, as it comes back from a job.
    """

    def __init__(self, text: str) -> None:
        self.digest = text[:64]
        super().__init__(
            text
            if len(text) > 64
            else f"{text}: the sealed file is missing or damaged: it is repaired if possible, see `blocklistd status`"
        )


class FencedError(StoreError):
    """Another daemon took over the state_dir after this process started; nothing was written."""


class SigningError(BlocklistError):
    """A key, a certificate or root.json is missing or can't be used."""


class SubscriberError(BlocklistError):
    """A subscriber's request or registration can't be used."""


class SyncError(SubscriberError):
    """The client could not verify anything newer; its files stay as they are."""


class RefusedError(BlocklistError):
    """An operator's command is not possible in the present state."""


def safe_message(error: BaseException) -> str:
    """A safe message for any error: the text of a BlocklistError; only the class name of any other error, whose text
    could contain an entry."""
    return str(error) if isinstance(error, BlocklistError) else type(error).__name__


def redacted(error: BaseException) -> BaseException:
    """An unexpected error for a traceback, redacted: with its class name instead of its text, which could contain an
    entry."""
    return RuntimeError(type(error).__name__).with_traceback(error.__traceback__)


def redacted_if_unexpected(error: BaseException) -> BaseException | None:
    """The redacted error of an unexpected error; None for a BlocklistError, whose message needs no traceback."""
    return None if isinstance(error, BlocklistError) else redacted(error)


@contextmanager
def store_errors(place: Path) -> Iterator[None]:
    """Turns an OSError of the block into a StoreError that names the path `place` and the next step."""
    try:
        yield
    except OSError as error:
        what = {
            errno.ENOSPC: "the disk is full: free space there; nothing live changed",
            errno.EDQUOT: "the quota is used up: raise it; nothing live changed",
            errno.EROFS: "the file system is read-only: mount it read-write",
            errno.EACCES: "permission denied: it must belong to the user that runs the daemon",
            errno.EPERM: "not permitted: it must belong to the user that runs the daemon",
        }.get(error.errno or 0, error.strerror or type(error).__name__)
        raise StoreError(f"{place}: {what}") from error
