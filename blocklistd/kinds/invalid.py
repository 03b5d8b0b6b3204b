"""The error of a text that is no value of its kind."""

from __future__ import annotations


class InvalidEntry(ValueError):
    """A text is no value of its kind. `code` is a short static reason (`wildcard`, `label-too-long`, …), never a part
    of the text.

    Raise it outside of `except` blocks: a chained exception could contain the text.
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code
