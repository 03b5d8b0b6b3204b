"""Shows the daemon's current stage on a terminal while a command waits, on stderr; erases the line at the end."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Final

from blocklistd.language.context import N_, _

SHOWN_AFTER: Final = 1.0  # seconds until the line appears
UPDATED_EVERY: Final = 0.5  # seconds between two updates of the line

WORDS: Final = {
    "fetch": N_("fetching from {subject}"),
    "intake": N_("verifying and parsing {subject}"),
    "store_entries": N_("storing the entries of {subject}"),
    "store_body": N_("storing the body of {subject}"),
    "commit": N_("composing and checking the new version of {subject}"),
    "sign": N_("signing {subject}"),
    "zone": N_("making the zone {subject}"),
}
"""The text for each stage (ops.metrics.STAGES)."""


@contextmanager
def show_stage(stage: Callable[[], tuple[str | None, str | None]]) -> Iterator[None]:
    """Within the block, shows the current stage on a terminal, from SHOWN_AFTER seconds on. Shows nothing if stderr is
    not a terminal.

    `stage` returns the stage and its subject; None for both while the command waits for its turn.
    """
    if not os.isatty(2) or os.environ.get("TERM", "dumb") == "dumb":
        yield
        return
    ended = threading.Event()
    run = copy_context().run  # with the language in force
    thread = threading.Thread(target=run, args=(_show, stage, ended), daemon=True, name="stages")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _show(stage: Callable[[], tuple[str | None, str | None]], ended: threading.Event) -> None:
    began = time.monotonic()
    if ended.wait(SHOWN_AFTER):
        return
    while not ended.is_set():
        line = f"{line_of(*stage())} … {time.monotonic() - began:.0f} s"
        _write(f"\r{line[: shutil.get_terminal_size().columns - 1]}\x1b[K")
        ended.wait(UPDATED_EVERY)
    _write("\r\x1b[K")


def line_of(stage: str | None, subject: str | None) -> str:
    """The line for a stage and its subject."""
    if not stage:
        return _("waiting for its turn")
    return _(WORDS.get(stage, f"{stage} {{subject}}"), subject=subject or "").rstrip()


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
