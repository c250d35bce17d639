"""docs/features.md has a line for each feature that the product's sources name, and each leads to a test of it."""

from __future__ import annotations

import re
from pathlib import Path

from api.problems import kinds, status_of

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "features.md"
FEATURES = [
    f"{letter}{n}"
    for letter, most in (("K", 15), ("D", 14), ("S", 19), ("I", 14), ("U", 20), ("O", 7))
    for n in range(1, most + 1)
]
REFUSALS = [
    "NOT_STARTED",
    "EXPIRED",
    "NOT_OWNER",
    "LOCKED_BY_OTHER",
    "ALREADY_USED",
    "VOIDED",
    "OUT_OF_SCOPE",
    "BELOW_MIN_SPEND",
    "EXCLUSIVE_CONFLICT",
    "OUT_OF_STOCK",
    "PER_USER_LIMIT",
    "PER_DAY_LIMIT",
    "BATCH_NOT_RUNNING",
    "REQUEST_ID_CONFLICT",
    "LOCK_TOKEN_MISMATCH",
    "RETURN_NOT_ALLOWED",
]
"""What the field calls them."""
ROW = re.compile(r"^\| ([A-Z]\d+) \| (.+?) \| (.+?) \| (.+) \|$", re.MULTILINE)
TEST = re.compile(r"\[`([^`]+)`\]\(\.\./(tests/[^)#]+)\)")
REFUSAL = re.compile(r"^\| `([A-Z_]+)` \| `([a-z_]+)` \| (\d+) \| (.*) ?\|$", re.MULTILINE)


def test_every_feature_has_its_line() -> None:
    assert [row[0] for row in ROW.findall(PAGE.read_text("utf-8"))] == FEATURES


def test_every_line_leads_to_a_test_that_is_there() -> None:
    for feature, _, _, shown_by in ROW.findall(PAGE.read_text("utf-8")):
        tests = TEST.findall(shown_by)
        assert tests, feature
        for name, path in tests:
            text = (ROOT / path).read_text("utf-8")
            assert f"def {name}(" in text or f'"{name}"' in text, f"{feature}: {name} in {path}"


def test_every_refusal_of_the_field_has_a_code_of_ours() -> None:
    rows = REFUSAL.findall(PAGE.read_text("utf-8"))
    assert [field for field, *_ in rows] == REFUSALS
    known = kinds()
    for _, code, status, near in rows:
        assert status_of(known[code]) == int(status), code
        assert set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", near)) <= known.keys(), near
