"""The number of examples of a property test; `make fuzz` (HYPOTHESIS_PROFILE=fuzz) multiplies it."""

from __future__ import annotations

import os
from typing import Final

PROFILE: Final = os.environ.get("HYPOTHESIS_PROFILE", "default")
TIMES: Final = 20 if PROFILE == "fuzz" else 1


def examples(number: int) -> int:
    """The value of `max_examples` for a test that sets its own number: a profile would not change that."""
    return number * TIMES
