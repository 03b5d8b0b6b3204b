"""How many examples a property is tried on: `make fuzz` (HYPOTHESIS_PROFILE=fuzz) takes many times as many of each."""

from __future__ import annotations

import os
from typing import Final

PROFILE: Final = os.environ.get("HYPOTHESIS_PROFILE", "default")
TIMES: Final = 20 if PROFILE == "fuzz" else 1


def examples(number: int) -> int:
    """For `max_examples` of a property that says its own number, which no profile would change."""
    return number * TIMES
