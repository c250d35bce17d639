"""Units that may share a group, and what a broken connection tells."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors as pg
from psycopg_pool import PoolClosed, PoolTimeout

from ledger import commit
from ledger.commit import Unit, independent
from ledger.request import Request
from ledger.store import _is_lost
from tests.unit.specs import after, issued

A, B = issued(coupon="a").event(1), issued(coupon="b").event(1)


def request(request_id: str, merchant_id: str = "m") -> Request:
    return Request(merchant_id, "test", request_id)


@pytest.mark.parametrize(
    ("units", "count"),
    [
        ([], 0),
        ([Unit([A])], 1),
        ([Unit([A]), Unit([B])], 2),
        ([Unit([A]), Unit([A])], 1),
        ([Unit([A]), Unit([B]), Unit([B, A])], 2),
        ([Unit([A], request("r")), Unit([B], request("r"))], 1),
        ([Unit([A], request("r")), Unit([B], request("r", "other"))], 2),
        ([Unit([], request("r")), Unit([], request("s")), Unit([], request("r"))], 2),
        ([Unit([A], reads={"batch-b": 1}), Unit([B], reads={"batch-b": 1})], 2),
        ([Unit([A]), Unit([B], reads={"coupon-a": 1})], 1),
        ([Unit([B], reads={"coupon-a": 1}), Unit([A])], 1),
        ([Unit([A], reads={"coupon-a": 1}), Unit([B])], 2),
    ],
)
def test_units_that_share_a_group(units: list[Unit], count: int) -> None:
    assert independent(units) == count


def test_a_group_carries_no_more_events_than_one_statement_should(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "GROUP_EVENT_LIMIT", 3)
    coupons = [issued(coupon=str(n)).event(1) for n in range(10)]
    assert independent([Unit(coupons[:2]), Unit(coupons[2:3]), Unit(coupons[3:4])]) == 2
    assert independent([Unit(coupons[:5]), Unit(coupons[5:6])]) == 1


@pytest.mark.parametrize(
    ("error", "nothing"),
    [
        (PoolTimeout(), True),
        (PoolClosed(), True),
        (pg.LockNotAvailable(), True),
        (pg.QueryCanceled(), True),
        (pg.DiskFull(), True),
        (pg.AdminShutdown(), False),
        (pg.CrashShutdown(), False),
        (pg.ConnectionFailure(), False),
        (psycopg.OperationalError("server closed the connection unexpectedly"), False),
    ],
)
def test_only_a_server_that_answered_says_that_nothing_was_written(
    error: psycopg.OperationalError, nothing: bool
) -> None:
    assert _is_lost(error) is not nothing


def test_a_hold_that_its_unit_lets_go_again_is_not_held_at_its_end() -> None:
    owner = ("m t u", after(1), 2)
    unit = Unit([A], holds={"a": owner, "b": owner}, releases=["b", "c"])
    lock = {"coupon_id": "a", "owner": "m t u", "ends_at": "2026-01-02T00:00:00+00:00", "most": 2}
    assert commit._held(unit) == {"locks": [lock], "touched": ["a", "b", "b", "c"]}
    assert commit._whole([Unit([B]), unit])[1]["holds"] == [commit._held(unit)]
    assert commit._by_unit([Unit([B]), unit])["holds"] == [commit._held(unit) | {"unit": 2}]
    assert "holds" not in commit._whole([Unit([B])])[1]
