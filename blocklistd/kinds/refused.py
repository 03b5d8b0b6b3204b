"""Why a text is no value of its kind."""

from __future__ import annotations


class Refused(ValueError):
    """`code` is a short static reason (`wildcard`, `label-too-long`, …); it never holds a part of the text.

    Raised outside of `except` blocks, so that no chained exception carries the text either.
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code
