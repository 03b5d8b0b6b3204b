"""What the daemon is at, while a command waits for it: a line on a terminal's stderr, which goes again."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

AFTER: Final = 1.0  # seconds that a command may take without a word
EVERY: Final = 0.5  # seconds

WORDS: Final = {
    "fetch": "fetching from",
    "intake": "verifying and reading",
    "seal": "sealing the entries of",
    "keep": "keeping the body of",
    "settle": "composing and judging the change of",
    "sign": "signing",
    "zone": "making zone",
}
"""Of each station (ops.metrics.STATIONS), before its subject."""


@contextmanager
def shown(stage: Callable[[], tuple[str | None, str | None]]) -> Iterator[None]:
    """Shows the stage of what the block waits for, once that has taken a second, where a person looks on."""
    if not os.isatty(2) or os.environ.get("TERM", "dumb") == "dumb":
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(target=_show, args=(stage, ended), daemon=True, name="stages")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _show(stage: Callable[[], tuple[str | None, str | None]], ended: threading.Event) -> None:
    began = time.monotonic()
    if ended.wait(AFTER):
        return
    while not ended.is_set():
        line = f"{line_of(*stage())} … {time.monotonic() - began:.0f} s"
        _write(f"\r{line[: shutil.get_terminal_size().columns - 1]}\x1b[K")
        ended.wait(EVERY)
    _write("\r\x1b[K")


def line_of(stage: str | None, subject: str | None) -> str:
    """What is said of a stage."""
    return f"{WORDS.get(stage, stage)} {subject or ''}".rstrip() if stage else "waiting for its turn"


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
