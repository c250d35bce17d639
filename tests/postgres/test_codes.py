"""Redemption codes on PostgreSQL: made, resumed, imported, handed over, exchanged and guessed, one and many at once."""

from __future__ import annotations

import secrets
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from ledger import code_jobs, code_store, till, use_cases
from ledger.audience import Audience, Facts
from ledger.benefit import Benefit
from ledger.codes import CodeKeys, CodeList, normal
from ledger.errors import (
    BatchNotFound,
    BatchStateConflict,
    CodeNotFound,
    CodesExported,
    CodesNotFound,
    CodeUsed,
    IdempotencyKeyReused,
    InvalidField,
    NotInAudience,
    RedemptionCodeInvalid,
    SoldOut,
    TooManyMisses,
    Unavailable,
    UserLimitReached,
)
from ledger.terms import Terms
from ledger.typed_codes import exchange, use_at_till
from tests.conftest import Shop
from tests.postgres.tools import at_once

KEYS = CodeKeys.parse("one=" + "k" * 32)


@pytest.fixture
def batch_id(shop):
    return shop.batch(per_user_limit=None, quantity=1_000)


def made(shop, batch_id, count, keys=KEYS, key=None):
    """A set's id and its codes."""
    receipt = code_jobs.generate(shop.ledger, keys, shop.request(key), batch_id, count)
    codes_id = receipt.answer["codes_id"]
    return codes_id, list(code_jobs.export(shop.ledger, keys, shop.merchant_id, codes_id))


def asked(shop, code, user_id="user-1", key=None, keys=KEYS, **more):
    return exchange(shop.ledger, keys, shop.request(key), code, user_id, address="10.0.0.1", **more)


def rows(ledger, statement):
    with ledger.store.connection() as connection:
        return [tuple(row.values()) for row in connection.execute(statement)]


# --- making -----------------------------------------------------------------------------------------


def test_codes_are_kept_as_keyed_hashes_only(shop, ledger, batch_id):
    codes_id, codes = made(shop, batch_id, 50)
    assert len(set(codes)) == 50
    stored = {bytes(row[0]) for row in rows(ledger, "select code_hash from codes")}
    assert stored == {KEYS.hashes(shop.merchant_id, normal(code))[0] for code in codes}
    everything = str(rows(ledger, "select * from codes")) + str(rows(ledger, "select * from code_sets"))
    everything += str(rows(ledger, "select convert_from(state, 'utf8') from events"))
    assert not any(code in everything or normal(code) in everything for code in codes)
    (event,) = [recorded.event for recorded in ledger.store.history(f"codes-{codes_id}")]
    assert (event.TOPIC, event.batch_id, event.kind, event.count) == ("codes.generated", batch_id, "unique", 50)


def test_a_job_that_was_cut_off_goes_on(shop, ledger, batch_id, monkeypatch):
    monkeypatch.setattr(code_jobs, "CHUNK", 10)

    def cut_off(done, total):
        if done == 20:
            raise KeyboardInterrupt

    request = shop.request("job")
    with pytest.raises(KeyboardInterrupt):
        code_jobs.generate(ledger, KEYS, request, batch_id, 45, cut_off)
    assert rows(ledger, "select stored from code_sets") == [(20,)]
    (half,) = rows(ledger, "select codes_id from code_sets")
    with pytest.raises(CodesNotFound):
        code_jobs.export(ledger, KEYS, shop.merchant_id, half[0])
    told = []
    receipt = code_jobs.generate(ledger, KEYS, request, batch_id, 45, lambda done, total: told.append(done))
    assert told == [30, 40, 45]
    assert receipt.answer["codes_id"] == half[0]
    codes = list(code_jobs.export(ledger, KEYS, shop.merchant_id, half[0]))
    assert len(set(codes)) == 45
    for code in (codes[0], codes[44]):
        asked(shop, code)


def test_a_code_of_a_set_that_is_not_whole_is_not_there_yet(shop, ledger, batch_id, monkeypatch):
    monkeypatch.setattr(code_jobs, "CHUNK", 1)

    def cut_off(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        code_jobs.generate(ledger, KEYS, shop.request("job"), batch_id, 2, cut_off)
    with ledger.store.connection() as connection:
        half = code_store.find_set(connection, rows(ledger, "select codes_id from code_sets")[0][0])
        (code_hash,) = rows(ledger, "select code_hash from codes")[0]
        assert half.stored == 1
        assert code_store.look_up(connection, shop.merchant_id, [code_hash]) is None


def test_the_same_request_at_once_makes_one_set(shop, ledger, batch_id, monkeypatch):
    monkeypatch.setattr(code_jobs, "CHUNK", 5)
    answers = at_once(6, lambda _: code_jobs.generate(ledger, KEYS, shop.request("job"), batch_id, 40).answer)
    assert len({answer["codes_id"] for answer in answers}) == 1
    assert rows(ledger, "select count(*) from codes") == [(40,)]
    assert rows(ledger, "select count(*) from events where topic = 'codes.generated'") == [(1,)]


def test_another_request_under_the_same_key(shop, ledger, batch_id):
    code_jobs.generate(ledger, KEYS, shop.request("job"), batch_id, 2)
    with pytest.raises(IdempotencyKeyReused):
        code_jobs.generate(ledger, KEYS, shop.request("job"), batch_id, 3)


def test_no_codes_for_what_issues_no_more(shop, ledger, stranger, batch_id):
    with pytest.raises(BatchNotFound):
        code_jobs.generate(ledger, KEYS, stranger.request(), batch_id, 1)
    with pytest.raises(BatchNotFound):
        code_jobs.import_codes(ledger, KEYS, stranger.request(), batch_id, CodeList.read(["SUMMER"]))
    ledger.do(use_cases.stop_batch(shop.request(), batch_id, reason="over"))
    with pytest.raises(BatchStateConflict):
        code_jobs.generate(ledger, KEYS, shop.request(), batch_id, 1)
    with pytest.raises(BatchStateConflict):
        code_jobs.import_codes(ledger, KEYS, shop.request(), batch_id, CodeList.read(["SUMMER"]))
    assert rows(ledger, "select count(*) from codes") == rows(ledger, "select count(*) from code_sets") == [(0,)]


def test_no_codes_for_coupons_that_cost_points(shop, ledger):
    benefit = Benefit(kind="amount_off", value_minor=500)
    batch_id = shop.batch(terms=Terms(benefit=benefit, currency="EUR", points_price=300))
    listed = CodeList.read(["SUMMER-2025"])
    for make in (
        lambda: code_jobs.generate(ledger, KEYS, shop.request(), batch_id, 1),
        lambda: code_jobs.import_codes(ledger, KEYS, shop.request(), batch_id, listed),
    ):
        with pytest.raises(InvalidField, match="costs 300 points"):
            make()
    assert rows(ledger, "select count(*) from events where topic = 'codes.generated'") == [(0,)]


def test_without_a_key_there_are_no_codes(shop, ledger, batch_id):
    with pytest.raises(Unavailable):
        code_jobs.generate(ledger, CodeKeys(), shop.request(), batch_id, 1)


@pytest.fixture
def stranger(ledger):
    return Shop(ledger, "merchant-2")


# --- handing over -------------------------------------------------------------------------------------


def test_codes_are_handed_over_once(shop, ledger, batch_id):
    codes_id, codes = made(shop, batch_id, 20)
    assert list(code_jobs.export(ledger, KEYS, shop.merchant_id, codes_id)) == codes  # a download that broke
    answer = code_jobs.confirm_export(ledger, shop.request("confirm"), codes_id).answer
    assert answer["exported"] is True
    with pytest.raises(CodesExported):
        code_jobs.export(ledger, KEYS, shop.merchant_id, codes_id)
    with pytest.raises(CodesExported):
        code_jobs.confirm_export(ledger, shop.request(), codes_id)
    assert code_jobs.confirm_export(ledger, shop.request("confirm"), codes_id).replayed
    assert rows(ledger, "select salt from code_sets") == [(None,)]
    asked(shop, codes[3])


def test_a_download_may_be_repeated_for_a_day_and_not_longer(shop, ledger, batch_id):
    """By the database's clock and from the first one on; when it is over, nobody makes the codes any more."""
    codes_id, codes = made(shop, batch_id, 3)
    begun = rows(ledger, "select first_export_at from code_sets")

    def later(interval):
        with ledger.store.connection() as connection:
            connection.execute(f"update code_sets set first_export_at = clock_timestamp() - interval '{interval}'")

    assert list(code_jobs.export(ledger, KEYS, shop.merchant_id, codes_id)) == codes
    assert rows(ledger, "select first_export_at from code_sets") == begun != [(None,)]
    later("23 hours 59 minutes")
    assert list(code_jobs.export(ledger, KEYS, shop.merchant_id, codes_id)) == codes
    later("24 hours")
    with pytest.raises(CodesExported):
        code_jobs.export(ledger, KEYS, shop.merchant_id, codes_id)
    assert rows(ledger, "select salt from code_sets") == [(None,)]
    later("1 hour")
    with pytest.raises(CodesExported):
        code_jobs.export(ledger, KEYS, shop.merchant_id, codes_id)
    asked(shop, codes[0])
    assert code_jobs.confirm_export(ledger, shop.request(), codes_id).answer["exported"] is True


def test_what_cannot_be_exported_for_want_of_its_key_begins_no_window(shop, ledger, batch_id):
    codes_id = code_jobs.generate(ledger, KEYS, shop.request(), batch_id, 1).answer["codes_id"]
    with pytest.raises(Unavailable):
        code_jobs.export(ledger, CodeKeys.parse("two=" + "n" * 32), shop.merchant_id, codes_id)
    assert rows(ledger, "select first_export_at from code_sets") == [(None,)]


def test_the_table_alone_does_not_make_the_codes(shop, ledger, batch_id):
    codes_id, codes = made(shop, batch_id, 5)
    thief = CodeKeys.parse("one=" + "x" * 32)
    assert set(code_jobs.export(ledger, thief, shop.merchant_id, codes_id)).isdisjoint(codes)
    with pytest.raises(CodesNotFound):
        code_jobs.export(ledger, KEYS, "merchant-2", codes_id)


# --- importing ----------------------------------------------------------------------------------------


def test_codes_made_elsewhere_are_exchanged_as_typed(shop, ledger, batch_id):
    listed = CodeList.read(["Old-Code 1", "old-code 2"])
    answer = code_jobs.import_codes(ledger, KEYS, shop.request("import"), batch_id, listed).answer
    assert (answer["kind"], answer["count"]) == ("imported", 2)
    assert code_jobs.import_codes(ledger, KEYS, shop.request("import"), batch_id, listed).replayed
    asked(shop, "OLDCODE1")
    with pytest.raises(CodeNotFound):
        asked(shop, "old code 1", "user-2")
    with pytest.raises(CodesExported):
        code_jobs.export(ledger, KEYS, shop.merchant_id, answer["codes_id"])


def test_what_cannot_be_imported_is_named_and_nothing_is_half_done(shop, ledger, batch_id):
    code_jobs.import_codes(ledger, KEYS, shop.request(), batch_id, CodeList.read(["TAKEN-1", "TAKEN-2"]))
    head, stored = ledger.store.head(), rows(ledger, "select * from codes order by code_hash")
    with pytest.raises(InvalidField) as refused:
        code_jobs.import_codes(ledger, KEYS, shop.request(), batch_id, CodeList.read(["NEW1", "abc", "new 1"]))
    assert [number for number, _ in refused.value.facts["faults"]] == [2, 3]
    listed = CodeList.read(["NEW1", "", "taken 2", "NEW2", "taken 1"])
    with pytest.raises(InvalidField) as refused:
        code_jobs.import_codes(ledger, KEYS, shop.request(), batch_id, listed)
    assert [number for number, _ in refused.value.facts["faults"]] == [3, 5]
    assert rows(ledger, "select * from codes order by code_hash") == stored
    assert rows(ledger, "select count(*) from code_sets") == [(1,)]
    assert ledger.store.head() == head


def test_a_code_is_imported_once_at_once(shop, ledger, batch_id):
    def ask(number):
        listed = CodeList.read(["SAME-CODE", f"OTHER-{number}"])
        return code_jobs.import_codes(ledger, KEYS, shop.request(f"import-{number}"), batch_id, listed).answer["count"]

    answers = at_once(5, ask)
    assert [answer for answer in answers if answer == 2] == [2]
    assert {type(answer) for answer in answers if answer != 2} == {InvalidField}
    assert rows(ledger, "select count(*) from codes") == [(2,)]


def test_a_code_is_known_under_an_older_key(shop, ledger, batch_id):
    code_jobs.import_codes(ledger, KEYS, shop.request(), batch_id, CodeList.read(["SUMMER"]))
    rotated = CodeKeys.parse("two=" + "n" * 32 + ",one=" + "k" * 32)
    with pytest.raises(InvalidField):
        code_jobs.import_codes(ledger, rotated, shop.request(), batch_id, CodeList.read(["SUMMER"]))
    asked(shop, "summer", keys=rotated)
    _, codes = made(shop, batch_id, 1, rotated)
    asked(shop, codes[0], keys=rotated)


def imported(shop, batch_id, *texts, kind="imported", keys=KEYS):
    """The id of a set of codes that were made elsewhere."""
    receipt = code_jobs.import_codes(shop.ledger, keys, shop.request(), batch_id, CodeList.read(list(texts)), kind)
    return receipt.answer["codes_id"]


def revoked(shop, codes_id):
    shop.ledger.do(use_cases.revoke_codes(shop.request(), codes_id, reason="the wrong batch"))


def test_an_import_into_the_wrong_batch_is_repaired(shop, ledger, batch_id):
    wrong = imported(shop, shop.batch(), "PRINTED-1", "PRINTED-2")
    with pytest.raises(InvalidField, match="is a code of this merchant already"):
        imported(shop, batch_id, "PRINTED-1", "PRINTED-2")
    revoked(shop, wrong)
    again = imported(shop, batch_id, "PRINTED-1", "PRINTED-2", "PRINTED-3")
    assert asked(shop, "printed-1").answer["batch_id"] == batch_id
    assert asked(shop, "printed-2", "user-2").answer["batch_id"] == batch_id
    assert code_jobs.owned_codes(ledger, shop.merchant_id, wrong).revoked
    assert not code_jobs.owned_codes(ledger, shop.merchant_id, again).revoked
    assert rows(ledger, "select count(*) as codes, count(distinct codes_id) as sets from codes") == [(3, 1)]


def test_codes_of_ours_are_taken_over_too(shop, batch_id):
    """They may be printed already."""
    wrong, codes = made(shop, shop.batch(), 3)
    revoked(shop, wrong)
    imported(shop, batch_id, *codes)
    assert asked(shop, codes[2]).answer["batch_id"] == batch_id


@pytest.mark.parametrize("right_batch", [True, False])
def test_a_code_that_was_exchanged_once_never_comes_back(shop, ledger, batch_id, right_batch):
    """Into neither its own batch nor another, whether its coupon was voided or not."""
    wrong = shop.batch(per_user_limit=None)
    codes_id = imported(shop, wrong, "PRINTED-1", "PRINTED-2", "PRINTED-3")
    for code, user_id in (("PRINTED-1", "user-1"), ("PRINTED-3", "user-2")):
        coupon_id = asked(shop, code, user_id).answer["coupon_id"]
    ledger.do(use_cases.void(shop.request(), coupon_id, reason="the wrong batch"))
    revoked(shop, codes_id)
    head, stored = ledger.store.head(), rows(ledger, "select * from codes order by code_hash")
    into = batch_id if right_batch else wrong
    with pytest.raises(InvalidField) as refused:
        imported(shop, into, "PRINTED-1", "PRINTED-2", "PRINTED-3")
    exchanged = "was exchanged for a coupon, and is good for one"
    assert refused.value.facts["faults"] == [(1, exchanged), (3, exchanged)]
    assert rows(ledger, "select * from codes order by code_hash") == stored
    assert ledger.store.head() == head
    imported(shop, into, "PRINTED-2")
    asked(shop, "printed-2", "user-3")
    with pytest.raises(CodeNotFound):
        asked(shop, "printed-1", "user-3")


def test_a_code_that_moved_and_was_exchanged_then_never_comes_back(shop, ledger, batch_id):
    first = imported(shop, shop.batch(), "PRINTED-1")
    revoked(shop, first)
    second = imported(shop, batch_id, "PRINTED-1")
    asked(shop, "printed-1")
    revoked(shop, second)
    for into in (shop.batch(), batch_id):
        with pytest.raises(InvalidField, match="was exchanged"):
            imported(shop, into, "PRINTED-1")


def test_a_word_of_a_revoked_set_is_free_again(shop, ledger, batch_id):
    """It was for many from the beginning, so who exchanged it does not matter."""
    wrong = shop.batch()
    codes_id = imported(shop, wrong, "SUMMER", kind="generic")
    kept = asked(shop, "summer").answer["coupon_id"]
    with pytest.raises(InvalidField):
        imported(shop, batch_id, "SUMMER", kind="generic")
    revoked(shop, codes_id)
    imported(shop, batch_id, "SUMMER", kind="generic")
    assert asked(shop, "summer").answer["batch_id"] == batch_id
    assert len(ledger.store.history(f"coupon-{kept}")) == 1


def test_a_code_under_an_older_key_is_taken_over_under_the_newest(shop, ledger, batch_id):
    wrong = imported(shop, shop.batch(), "PRINTED-1", "PRINTED-2")
    asked(shop, "printed-2")
    revoked(shop, wrong)
    rotated = CodeKeys.parse("two=" + "n" * 32 + ",one=" + "k" * 32)
    with pytest.raises(InvalidField, match="was exchanged"):
        imported(shop, batch_id, "PRINTED-2", keys=rotated)
    imported(shop, batch_id, "PRINTED-1", keys=rotated)
    newest = CodeKeys.parse("two=" + "n" * 32)
    assert asked(shop, "printed-1", keys=newest).answer["batch_id"] == batch_id
    assert rows(ledger, "select count(*) from codes") == [(2,)]


def test_one_of_many_takes_a_code_over(shop, ledger, batch_id):
    """Whoever still has the old set in hand exchanges nothing by it."""
    wrong = imported(shop, shop.batch(), "PRINTED-1")
    with ledger.store.connection() as connection:
        found = code_store.look_up(connection, shop.merchant_id, KEYS.hashes(shop.merchant_id, "PRINTED1"))
    revoked(shop, wrong)
    answers = at_once(6, lambda n: imported(shop, batch_id, "PRINTED-1", f"OTHER-{n}"))
    assert len([answer for answer in answers if isinstance(answer, str)]) == 1
    assert {type(answer) for answer in answers if not isinstance(answer, str)} == {InvalidField}
    assert rows(ledger, "select count(*) from codes") == [(2,)]
    with pytest.raises(CodeNotFound):
        ledger.do(use_cases.redeem_code(shop.request(), found, "user-1"))
    asked(shop, "printed-1")


def test_an_import_that_fails_lets_nothing_go(shop, ledger, batch_id, monkeypatch):
    wrong = imported(shop, shop.batch(), "PRINTED-1")
    revoked(shop, wrong)
    stored = rows(ledger, "select * from codes")
    ledger.do(use_cases.stop_batch(shop.request(), batch_id, reason="over"))
    monkeypatch.setattr(code_jobs, "_check_batch", lambda *_: None)
    with pytest.raises(BatchStateConflict):
        imported(shop, batch_id, "PRINTED-1")
    assert rows(ledger, "select * from codes") == stored


def test_the_service_lets_no_code_of_a_live_set_go(shop, ledger, batch_id):
    imported(shop, batch_id, "PRINTED-1")
    stored = rows(ledger, "select * from codes")
    with ledger.store.connection() as connection:
        found = code_store.known(connection, shop.merchant_id, KEYS.hashes(shop.merchant_id, "PRINTED1"))
        assert len(found) == 1
        code_store.release(connection, shop.merchant_id, found)
    assert rows(ledger, "select * from codes") == stored


# --- exchanging ---------------------------------------------------------------------------------------


def test_a_code_becomes_a_coupon_that_does_not_tell_it(shop, ledger, batch_id):
    codes_id, codes = made(shop, batch_id, 1)
    coupon = asked(shop, codes[0].lower().replace("-", " ")).answer
    (event,) = [recorded.event for recorded in ledger.store.history(f"coupon-{coupon['coupon_id']}")]
    assert (event.batch_id, event.user_id, event.channel) == (batch_id, "user-1", "code")
    assert event.facts == {"codes_id": codes_id}


def test_a_repeat_gets_the_first_coupon_whatever_came_between(shop, ledger, batch_id):
    codes_id, (code,) = made(shop, batch_id, 1)
    first = asked(shop, code, key="first")
    for _ in range(code_store.USER_MISSES):
        with pytest.raises(CodeNotFound):
            asked(shop, "no such code")
    with pytest.raises(TooManyMisses):
        asked(shop, code)
    ledger.do(use_cases.revoke_codes(shop.request(), codes_id, reason="leak"))
    again = asked(shop, code, key="first")
    assert (again.answer, again.replayed) == (first.answer, True)


def test_who_hears_that_a_code_was_used(shop, batch_id):
    """The holder and staff do; to a stranger it is a code like any other that does not exist.

    https://github.com/liberusoftware/ecommerce-laravel/pull/1046, https://github.com/mozilla/fxa/issues/11442
    """
    _, (code,) = made(shop, batch_id, 1)
    coupon_id = asked(shop, code).answer["coupon_id"]
    with pytest.raises(CodeUsed) as refused:
        asked(shop, code)
    assert refused.value.facts == {"coupon_id": coupon_id}
    with pytest.raises(CodeUsed):
        asked(shop, code, "user-2", to_staff=True)
    with pytest.raises(CodeNotFound) as used:
        asked(shop, code, "user-2")
    with pytest.raises(CodeNotFound) as unknown:
        asked(shop, "no such code", "user-2")
    assert (used.value.detail, used.value.facts) == (unknown.value.detail, unknown.value.facts)


def test_revoked_and_another_merchants_codes_look_like_unknown_ones(shop, stranger, ledger, batch_id):
    codes_id, codes = made(shop, batch_id, 2)
    with pytest.raises(CodeNotFound) as foreign:
        asked(stranger, codes[0])
    kept = asked(shop, codes[1]).answer["coupon_id"]
    ledger.do(use_cases.revoke_codes(shop.request(), codes_id, reason="leak"))
    with pytest.raises(CodeNotFound) as revoked:
        asked(shop, codes[0])
    with pytest.raises(CodeNotFound) as unknown:
        asked(shop, "no such code")
    told = {(refusal.value.detail, str(refusal.value.facts)) for refusal in (foreign, revoked, unknown)}
    assert len(told) == 1
    assert len(ledger.store.history(f"coupon-{kept}")) == 1


def test_a_typing_error_is_told_and_counts(shop, batch_id):
    _, (code,) = made(shop, batch_id, 1)
    typed = code[:-1] + ("2" if code[-1] != "2" else "3")
    for _ in range(code_store.USER_MISSES):
        with pytest.raises(CodeNotFound, match="typing error"):
            asked(shop, typed)
    with pytest.raises(TooManyMisses):
        asked(shop, typed)


def test_a_generic_code_is_for_many_users_within_the_batchs_limits(shop, ledger):
    batch_id = shop.batch(per_user_limit=1, quantity=2)
    listed = code_jobs.generic_code("Summer-25")
    code_jobs.import_codes(ledger, KEYS, shop.request(), batch_id, listed, "generic")
    asked(shop, "SUMMER25", "user-1", key="first")
    with pytest.raises(UserLimitReached):
        asked(shop, "SUMMER25", "user-1")
    asked(shop, "SUMMER25", "user-2")
    with pytest.raises(SoldOut):
        asked(shop, "SUMMER25", "user-3")
    assert asked(shop, "SUMMER25", "user-1", key="first").replayed


def test_the_batchs_audience_is_asked(shop, ledger):
    batch_id = shop.batch(audience=Audience(tiers=("gold",)))
    _, (code,) = made(shop, batch_id, 1)
    with pytest.raises(NotInAudience):
        asked(shop, code, facts=Facts(tier="silver"))
    coupon_id = asked(shop, code, facts=Facts(tier="gold")).answer["coupon_id"]
    (recorded,) = ledger.store.history(f"coupon-{coupon_id}")
    assert recorded.event.facts["tier"] == "gold"


def test_a_revocation_is_seen_by_who_looked_the_code_up_before(shop, ledger, batch_id):
    codes_id, (code,) = made(shop, batch_id, 1)
    with ledger.store.connection() as connection:
        found = code_store.look_up(connection, shop.merchant_id, KEYS.hashes(shop.merchant_id, normal(code)))
    ledger.do(use_cases.revoke_codes(shop.request(), codes_id, reason="leak"))
    with pytest.raises(CodeNotFound):
        ledger.do(use_cases.redeem_code(shop.request(), found, "user-1"))


@pytest.mark.parametrize("per_user_limit", [1, None])
def test_a_code_is_used_once_by_whoever_comes_first(shop, ledger, per_user_limit):
    batch_id = shop.batch(per_user_limit=per_user_limit, quantity=1_000)
    _, codes = made(shop, batch_id, 4)
    answers = at_once(32, lambda n: asked(shop, codes[n % 4], f"user-{n}", key=f"{n}").answer["coupon_id"])
    coupons = [answer for answer in answers if isinstance(answer, str)]
    assert len(coupons) == len(set(coupons)) == 4
    assert {type(answer) for answer in answers if not isinstance(answer, str)} == {CodeNotFound}
    assert rows(ledger, "select issued from batch_stock") == [(4,)]


def test_many_codes_under_64_threads_each_give_one_coupon(shop, ledger):
    count = 2_000
    batch_id = shop.batch(per_user_limit=None, quantity=count)
    _, codes = made(shop, batch_id, count)
    repeats = [*range(count), *secrets.SystemRandom().sample(range(count), 200)]

    def ask(place):
        number = repeats[place]
        try:
            return asked(shop, codes[number], f"user-{place}", key=f"{place}").answer["coupon_id"]
        except (CodeNotFound, TooManyMisses) as refusal:
            return refusal.code()

    with ThreadPoolExecutor(64) as pool:
        answers = Counter(pool.map(ask, range(len(repeats))))
    assert answers.pop("code_not_found", 0) + answers.pop("too_many_misses", 0) == 200
    assert len(answers) == count
    assert set(answers.values()) == {1}
    assert rows(ledger, "select issued from batch_stock") == [(count,)]


# --- guessing -----------------------------------------------------------------------------------------


def test_misses_are_limited_by_user_and_hits_do_not_help(shop, batch_id):
    _, codes = made(shop, batch_id, 3)
    for number in range(code_store.USER_MISSES):
        with pytest.raises(CodeNotFound):
            asked(shop, f"guess {number}")
        if number < 2:
            asked(shop, codes[number])
    with pytest.raises(TooManyMisses) as refused:
        asked(shop, codes[2])
    assert 0 < refused.value.facts["retry_after_seconds"] <= code_store.MISS_WINDOW_SECONDS
    asked(shop, codes[2], "user-2")


def test_misses_are_limited_by_address(shop, ledger, batch_id, monkeypatch):
    monkeypatch.setattr(code_store, "ADDRESS_MISSES", 5)
    _, codes = made(shop, batch_id, 2)
    for number in range(5):
        with pytest.raises(CodeNotFound):
            asked(shop, "guess", f"user-{number}")
    with pytest.raises(TooManyMisses):
        asked(shop, codes[0], "somebody-else")
    exchange(ledger, KEYS, shop.request(), codes[0], "somebody-else", address="10.0.0.2")


def test_a_window_ends_and_its_rows_are_swept_away(shop, ledger, batch_id):
    for _ in range(code_store.USER_MISSES):
        with pytest.raises(CodeNotFound):
            asked(shop, "guess", "user-1")
    with pytest.raises(TooManyMisses):
        asked(shop, "guess", "user-1")
    with ledger.store.connection() as connection:
        connection.execute("update code_misses set window_ends_at = clock_timestamp() - interval '1 second'")
    with pytest.raises(CodeNotFound):
        asked(shop, "guess", "user-2")
    assert len(rows(ledger, "select * from code_misses")) == 2  # user-2, and the address anew
    with pytest.raises(CodeNotFound):
        asked(shop, "guess", "user-1")


def test_the_table_of_misses_names_nobody(shop, ledger, batch_id):
    with pytest.raises(CodeNotFound):
        asked(shop, "guess", "somebody")
    text = str(rows(ledger, "select convert_from(decode(encode(who, 'hex'), 'escape'), 'latin1') from code_misses"))
    assert "somebody" not in text
    assert "10.0.0.1" not in text


def test_misses_at_once_are_all_counted(shop, ledger, batch_id):
    at_once(8, lambda n: asked(shop, "guess", f"user-{n % 2}", key=f"{n}"))
    assert sorted(row[0] for row in rows(ledger, "select misses from code_misses")) == [4, 4, 8]


def test_the_service_cannot_lose_codes(ledger):
    for statement in ("delete from codes", "update codes set codes_id = ''", "delete from code_sets"):
        with ledger.store.connection() as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement)


# --- the till -----------------------------------------------------------------------------------------


def test_a_coupon_is_found_among_those_whose_ids_begin_alike(shop, ledger, batch_id):
    """The till has a few digits of the id, so the proof must say which coupon it is."""
    coupon_id = shop.coupon(batch_id=batch_id)
    with ledger.store.connection() as connection:
        found = code_store.streams_beginning(connection, f"coupon-{coupon_id[:8]}", 10)
        shop.coupon("user-2", batch_id)
        both = code_store.streams_beginning(connection, f"coupon-{coupon_id[:8]}", 10)
        assert code_store.streams_beginning(connection, "coupon-" + "f" * 14, 10) == []
    assert found == [f"coupon-{coupon_id}"]
    assert len(both) == 2
    code = till.till_code(KEYS, shop.merchant_id, coupon_id, "user-1", ledger.store.now()).code
    receipt = use_at_till(ledger, KEYS, shop.request(), code, "order-1", discount_minor=500)
    assert receipt.answer["redemptions"][0]["coupon_id"] == coupon_id


@pytest.mark.parametrize("analyzed", [True, False])
def test_look_ups_use_indexes_though_their_plans_were_made_when_tables_were_small(shop, ledger, batch_id, analyzed):
    look_up = code_store._LOOK_UP.replace("%(hashes)s", "$1").replace("%(merchant_id)s", "$2")
    beginning = code_store._BEGINNING.replace("%(beginning)s", "'coupon-00000001'").replace("%(limit)s", "9")
    made(shop, batch_id, 3)
    with ledger.store.connection() as connection:
        connection.execute(f"prepare look_up (bytea[], text) as {look_up}")
        for _ in range(3):
            connection.execute("execute look_up (array['x'::bytea], 'm')")
        with psycopg.connect(ledger.store.database.url) as owner:
            owner.execute(f'set search_path to "{ledger.store.database.schema}"')
            owner.execute(
                "insert into codes select 'm', substr(sha256(n::text::bytea), 1, 16), 'x'"
                " from generate_series(1, 30000) n"
            )
            owner.execute(
                "insert into events select 'coupon-' || lpad(n::text, 8, '0'), 1, 'coupon.issued', '', n + 100"
                " from generate_series(1, 30000) n"
            )
            if analyzed:
                owner.execute("analyze codes, code_sets, events")
        plans = str(list(connection.execute("explain execute look_up (array['x'::bytea], 'm')")))
        plans += str(list(connection.execute("explain " + beginning)))
    assert "Seq Scan" not in plans.replace("Seq Scan on code_sets", "")
    assert "originator_id >=" in plans


def test_one_code_is_one_use_also_of_a_coupon_that_came_back(shop, ledger, batch_id):
    coupon_id = shop.coupon(batch_id=batch_id)
    code = till.till_code(KEYS, shop.merchant_id, coupon_id, "user-1", ledger.store.now()).code
    use_at_till(ledger, KEYS, shop.request(), code, "order-1", discount_minor=500)
    back = use_cases.return_coupons(shop.request(), "order-1", coupon_ids=[coupon_id], reason="order_cancelled")
    ledger.do(back)
    with pytest.raises(RedemptionCodeInvalid):
        use_at_till(ledger, KEYS, shop.request(), code, "order-2", discount_minor=500)
    static = till.static_code(KEYS, shop.merchant_id, coupon_id, "user-1")
    use_at_till(ledger, KEYS, shop.request(), static, "order-2", discount_minor=500)


def test_wrong_proofs_of_one_coupon_are_limited(shop, ledger, batch_id):
    coupon_id = shop.coupon(batch_id=batch_id)
    stranger_keys = CodeKeys.parse("one=" + "x" * 32)
    forged = till.static_code(stranger_keys, shop.merchant_id, coupon_id, "user-1")
    for _ in range(code_store.USER_MISSES):
        with pytest.raises(RedemptionCodeInvalid):
            use_at_till(ledger, KEYS, shop.request(), forged, "order-1", discount_minor=500)
    code = till.till_code(KEYS, shop.merchant_id, coupon_id, "user-1", ledger.store.now()).code
    with pytest.raises(TooManyMisses):
        use_at_till(ledger, KEYS, shop.request(), code, "order-1", discount_minor=500)
