"""The pages of the guide for providers: docs/dns.md, and one for each program."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

DOCS: Final = Path(__file__).parents[2] / "docs"
COMMON: Final = DOCS / "dns.md"
PAGES: Final = {path.stem: path for path in sorted((DOCS / "dns").glob("*.md"))}
"""By the names that `--software` has for the programs."""


def one_line(text: str) -> str:
    """The text without its line breaks."""
    return re.sub(r"\s+", " ", text)


def says(software: str, text: str) -> str:
    """The text, which the page of this program contains, whatever its lines."""
    assert one_line(text) in one_line(PAGES[software].read_text()), (software, text)
    return text
