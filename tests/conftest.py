"""Hypothesis looks at 100 examples of each property, and with HYPOTHESIS_PROFILE=fuzz (`make fuzz`) at 2,000."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("fuzz", max_examples=2000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
