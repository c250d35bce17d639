"""Refusals: one class, one code, one title."""

from __future__ import annotations

import inspect
import re

import pytest

from ledger import errors
from ledger.errors import CouponLocked, LedgerError, Refusal, ServiceError
from tests.unit.batch_stories import BATCH_STORIES
from tests.unit.coupon_stories import COUPON_STORIES
from tests.unit.test_rules import RULE_STORIES

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, LedgerError)]
LEAVES = [kind for kind in CLASSES if issubclass(kind, Refusal) and not kind.__subclasses__()]
GUARDED = {
    errors.SoldOut,
    errors.UserLimitReached,
    errors.UserDayLimitReached,
    errors.PersonLimitReached,
    errors.DayLimitReached,
    errors.BudgetSpent,
    errors.PointsReceiptUsed,
    errors.LockLimitReached,
    errors.IdempotencyKeyReused,
}
"""Refusals that no aggregate can know of: the guards of the commit do (tests/postgres/test_limits.py)."""
PRICED = {errors.QuoteChanged}
"""Told by tests/http/test_lock_coupons.py: pricing comes before the command."""
OF_CODES = {
    errors.CodeNotFound,
    errors.CodesNotFound,
    errors.CodeUsed,
    errors.CodesExported,
    errors.TooManyMisses,
    errors.RedemptionCodeInvalid,
}
"""Told by tests/postgres/test_codes.py and tests/http/test_redemptions.py: a code is looked up before the command."""


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_has_a_code_and_a_title(kind: type[LedgerError]) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", kind.code())
    assert inspect.getdoc(kind)
    assert not kind.title().endswith(".")
    assert str(kind()) == kind.title()


def test_codes_are_unique() -> None:
    assert len({kind.code() for kind in CLASSES}) == len(CLASSES)


def test_codes_that_callers_know() -> None:
    assert CouponLocked.code() == "coupon_locked"
    assert errors.IdempotencyKeyReused.code() == "idempotency_key_reused"
    assert errors.OutcomeUnknown.code() == "outcome_unknown"


def test_an_error_says_what_it_is_about() -> None:
    error = CouponLocked("held until noon", coupon_id="c")
    assert (str(error), error.detail, error.facts) == ("held until noon", "held until noon", {"coupon_id": "c"})
    assert (CouponLocked().detail, CouponLocked().facts) == ("Another order holds the coupon", {})


def test_a_refusal_is_final_and_a_service_error_is_not() -> None:
    assert not [kind for kind in CLASSES if issubclass(kind, Refusal) and issubclass(kind, ServiceError)]


def test_every_refusal_of_an_aggregate_is_told_by_a_story() -> None:
    told = {
        story.then
        for stories in (*COUPON_STORIES.values(), *BATCH_STORIES.values(), RULE_STORIES)
        for story in stories
        if isinstance(story.then, type)
    }
    assert set(LEAVES) - GUARDED - OF_CODES - PRICED == told - {errors.NotApplicable}
