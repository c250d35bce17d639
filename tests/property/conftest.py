"""Profiles: ``pytest tests/property --hypothesis-profile=long`` looks for hours instead of seconds."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("long", max_examples=20_000, stateful_step_count=100, deadline=None)
