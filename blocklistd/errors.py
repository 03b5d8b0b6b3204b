"""Every error that blocklistd raises on purpose, divided by who must act.

    BlocklistError
    ├── ConfigError            the administrator: the configuration file
    ├── SourceError            the hotline (or the way to it); the last good version stays live
    │   ├── FetchError         no complete body arrived
    │   ├── VerifyError        it does not prove its origin
    │   │   └── StaleError     it proves its origin, and is older than what was accepted
    │   ├── ParseError         it is not a list in the configured format
    │   └── JobError           the job that read it crashed, looped or ran into its limits
    ├── StoreError             the administrator: disk, database, state_dir
    │   ├── DatabaseDamagedError   the database can't be read, or is none
    │   ├── BehindError        a number is lower than one that was shown before
    │   ├── DamagedError       a sealed file is missing, or not what its name says
    │   └── FencedError        another daemon has taken the state_dir over
    ├── SigningError           the administrator: keys, root.json
    ├── SubscriberError        the subscriber: what it asked for or what it was given
    │   └── SyncError          the subscriber's client: nothing newer could be verified
    └── RefusedError           the operator: a command that can't be done now

A message says what was found, what was expected and what to do. It never holds the text of an entry. A held
candidate is no error: it is a `Hold`, a value (compose/guard.py).
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


class BlocklistError(Exception):
    """Base of all errors that are raised on purpose; its text is fit for a log and for a person."""


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One error in a configuration file; line is counted from 1."""

    file: Path
    line: int
    key: str
    found: str
    expected: str

    def document(self) -> dict[str, str | int]:
        """As `--json` has it."""
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
    """The configuration can't be used; `problems` holds every error in it, in the order of lines."""

    def __init__(self, problems: list[ConfigProblem]) -> None:
        self.problems = problems
        super().__init__("\n".join(map(str, problems)))


class SourceError(BlocklistError):
    """A pull failed; nothing live changed."""


class FetchError(SourceError):
    """No complete body arrived within the limits."""


class VerifyError(SourceError):
    """The body does not prove its origin; not one byte of it was parsed."""


class StaleError(VerifyError):
    """The body proves its origin, but something newer was accepted before: a replay."""


class ParseError(SourceError):
    """The body is not a list in the configured format."""


class JobError(SourceError):
    """The job that read the body was killed, crashed, or ran into a limit: `cause` in one word (jobs.runner.CAUSES)."""

    def __init__(self, text: str, cause: str = "failed") -> None:
        self.cause = cause
        super().__init__(text)


class StoreError(BlocklistError):
    """The database or a sealed file can't be read or written, or is not what it should be."""


class DatabaseDamagedError(StoreError):
    """A page of the database can't be read, or the file is no database."""


class BehindError(StoreError):
    """A version or serial is lower than one that was shown before: it could stand for another content."""


class DamagedError(StoreError):
    """A sealed file is missing or damaged: nothing may be derived from it. `digest` names it."""

    def __init__(self, text: str) -> None:
        self.digest = text[:64]
        super().__init__(
            text if len(text) > 64 else f"{text}: the sealed file is missing or damaged; it is made again if it can be"
        )


class FencedError(StoreError):
    """Another daemon took the state_dir over after this process was started; nothing was written."""


class SigningError(BlocklistError):
    """A key or a root of trust is missing, wrong, or about to expire."""


class SubscriberError(BlocklistError):
    """A subscriber's request or registration can't be used."""


class SyncError(SubscriberError):
    """The client could not verify anything newer; what it has stays in place."""


class RefusedError(BlocklistError):
    """An operator's command can't be done in the present state."""


def told(error: BaseException) -> str:
    """A safe message for any error: the text of a BlocklistError, of any other error its class name alone."""
    return str(error) if isinstance(error, BlocklistError) else type(error).__name__


def without_text(error: BaseException) -> BaseException:
    """A copy of an unexpected error for a traceback, without its message, which could hold what was being read."""
    return RuntimeError(type(error).__name__).with_traceback(error.__traceback__)


@contextmanager
def store_errors(place: Path) -> Iterator[None]:
    """Raises an OSError of the block as a StoreError that names `place` and says what to do."""
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
