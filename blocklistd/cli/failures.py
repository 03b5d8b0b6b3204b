"""The exceptions that end a command. `blocklistd --help` lists the exit codes."""

from __future__ import annotations


class Failed(Exception):
    """Ends the command with the exit code `code`; a text goes to stderr."""

    def __init__(self, text: str = "", code: int = 1) -> None:
        super().__init__(text)
        self.code = code


class Unreachable(Exception):
    """The daemon does not answer on its control socket."""
