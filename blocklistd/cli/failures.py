"""How a command ends when it does not succeed; the exit codes are in `blocklistd --help`."""

from __future__ import annotations


class Failed(Exception):
    """Ends the command; the text, if any, goes to stderr."""

    def __init__(self, text: str = "", code: int = 1) -> None:
        super().__init__(text)
        self.code = code


class Unreachable(Exception):
    """The daemon does not answer on its control socket."""
