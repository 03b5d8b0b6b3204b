"""Hypothesis looks at 100 examples of each property, and with HYPOTHESIS_PROFILE=fuzz (`make fuzz`) at 2,000."""

from __future__ import annotations

from hypothesis import settings

from tests.examples import PROFILE, examples

settings.register_profile("fuzz", max_examples=examples(100), deadline=None)
settings.load_profile(PROFILE)
