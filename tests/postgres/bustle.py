"""A ledger in which everything happens that can: each kind of event and each guard, by the use cases themselves."""

from __future__ import annotations

import io
import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from consumers.asked import Asked, perform
from ledger import code_jobs, typed_codes, use_cases
from ledger.application import Ledger
from ledger.audience import Audience, Facts
from ledger.basket import Basket, Line
from ledger.batch import BatchPlan
from ledger.benefit import Benefit
from ledger.codes import CodeKeys, CodeList
from ledger.coupon import Redemption
from ledger.errors import Refusal
from ledger.issuance import jobs as issuance_jobs
from ledger.issuance.uploads import take_file
from ledger.request import Request
from ledger.rules import Occasion, RulePlan
from ledger.terms import ReturnPolicy, Terms
from ledger.work import Work
from tests.http.jobs import settle

KEYS = CodeKeys.parse("test=" + "k" * 32)
USERS = ["ann", 'b"ob', "cy\\d, e", "dée", "eve"]
KEEPS = ReturnPolicy(buyer_refund="keep_used", merchant_refund="restore_with_grace", grace_days=3)
REASONS = ["order_cancelled", "merchant_refund", "buyer_refund"]
OFFERS: list[dict[str, Any]] = [
    {"benefit": Benefit(kind="amount_off", value_minor=500), "stacking_mode": "stackable", "return_policy": KEEPS},
    {"benefit": Benefit(kind="cash_voucher", value_minor=900, leaves_balance=True), "return_policy": KEEPS},
    {"benefit": Benefit(kind="percent_off", percent_permyriad=1_500, max_discount_minor=300), "live_locks_per_user": 2},
    {"benefit": Benefit(kind="order_stated"), "shareable": True, "transferable": True, "late_confirm": "accept"},
    {"benefit": Benefit(kind="amount_off", value_minor=200), "merchant_share_permyriad": 3_333, "lock_ttl_seconds": 60},
]


class Bustle:
    """One merchant of several, and its many callers. Time is told, and goes on; the last steps are of now."""

    def __init__(self, ledger: Ledger, seed: int, merchant_id: str = "merchant-1") -> None:
        self.ledger = ledger
        self.random = random.Random(seed)
        self.merchant_id = merchant_id
        self.now: datetime | None = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)
        self.done: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.coupons: list[str] = []
        self.held: list[tuple[str, list[str]]] = []
        self.used: list[tuple[str, list[str]]] = []
        self._number = 0
        self.batches = [self._batch(offer, number) for number, offer in enumerate(OFFERS)]
        self.points_batch = self._batch({"benefit": OFFERS[0]["benefit"], "points_price": 10}, 9)
        self.codes = self._code_sets()
        self._rules()
        self._jobs()

    def go_on(self, steps: int) -> None:
        """So many commands; some are refused, and some are sent twice."""
        common = [self.claim] * 6 + [self.lock] * 6 + [self.confirm] * 4 + [self.unlock, self.return_] * 2
        seldom = [
            self.claim_with_points, self.exchange, self.redeem, self.lock_basket, self.share, self.transfer,
            self.extend, self.void, self.void_all, self.occasion, self.remind, self.change_batch, self.issue_many,
            self.by_message, self.let_time_pass, self.expire, self.end_lock,
        ]  # fmt: skip
        for _ in range(steps):
            self.random.choice(common + seldom)()

    def live(self) -> None:
        """From here on the database's clock decides."""
        self.now = None
        self.held = []

    def do(self, work: Work) -> dict[str, Any] | None:
        """The answer, or nothing where it is refused."""
        try:
            receipt = self.ledger.do(work)
            if self.random.random() < 0.05:
                assert self.ledger.do(work).replayed
        except Refusal as refusal:
            self.refused[refusal.code()] += 1
            return None
        return receipt.answer

    def request(self, key: str = "") -> Request:
        self._number += 1
        if self.now is not None:
            self.now += timedelta(seconds=self.random.randrange(240))
        return Request(self.merchant_id, "test", key or f"request-{self._number}", "", self.now)

    # --- commands ------------------------------------------------------------------------------------------

    def claim(self) -> None:
        facts = Facts(person=f"person-{self.random.randrange(9)}")
        batch_id, user_id = self.random.choice(self.batches), self.random.choice(USERS)
        self._got(self.do(use_cases.claim(self.request(), batch_id, user_id, facts=facts)))

    def claim_with_points(self) -> None:
        facts, receipt = Facts(person="p"), f"receipt-{self.random.randrange(40)}"
        work = use_cases.claim(self.request(), self.points_batch, "ann", facts=facts, points_receipt=receipt)
        self._got(self.do(work))

    def issue_many(self) -> None:
        users = self.random.choices(USERS, k=3)
        answer = self.do(use_cases.issue(self.request(), self.batches[3], users))
        self.coupons += [each["coupon_id"] for each in answer["coupons"]] if answer else []

    def by_message(self) -> None:
        request = self.request(f"/shop {self._number}")
        work = use_cases.issue_by_message(request, self.batches[1], self.random.choice(USERS), channel="message")
        self.do(work)

    def exchange(self) -> None:
        text = self.random.choice(self.codes)
        try:
            answer = typed_codes.exchange(self.ledger, KEYS, self.request(), text, self.random.choice(USERS)).answer
        except Refusal as refusal:
            self.refused[refusal.code()] += 1
        else:
            self._got(answer)

    def lock(self) -> None:
        if self.coupons:
            some = sorted({self.random.choice(self.coupons) for _ in range(self.random.choice([1, 1, 1, 2]))})
            self._lock(some, order_total_minor=self.random.choice([None, 1_000, 4_000]))

    def lock_basket(self) -> None:
        if self.coupons:
            lines = (
                Line(line_id="1", product_id="p", unit_price_minor=700),
                Line(line_id="2", product_id="q", unit_price_minor=90),
            )
            self._lock([self.random.choice(self.coupons)], basket=Basket(lines=lines, currency="EUR"))

    def _lock(self, coupon_ids: list[str], **said: Any) -> None:
        order_id = f"order-{self.random.randrange(150)}"
        if self.held and self.random.random() < 0.2:
            order_id, coupon_ids = self.random.choice(self.held)
            said["ttl_seconds"] = 5_000
        user_id = self.random.choice(USERS) if self.random.random() < 0.1 else self._owner(coupon_ids[0])
        work = use_cases.lock(self.request(), order_id, user_id=user_id, coupon_ids=coupon_ids, **said)
        if self.do(work):
            self.held.append((order_id, coupon_ids))

    def confirm(self) -> None:
        if self.held:
            place = self.random.randrange(len(self.held))
            order_id, coupon_ids = self.held[place]
            told = [self._redemption(id) for id in coupon_ids]
            if self.do(
                use_cases.confirm(self.request(), order_id, told, order_total_minor=self.random.choice([None, 4_000]))
            ):
                self.used.append(self.held.pop(place))

    def redeem(self) -> None:
        if self.coupons:
            coupon_id, order_id = self.random.choice(self.coupons), f"till-{self._number}"
            discount = self.random.randrange(1, 200)
            work = use_cases.redeem(
                self.request(), order_id, coupon_id=coupon_id, discount_minor=discount, order_total_minor=5_000
            )
            if self.do(work):
                self.used.append((order_id, [coupon_id]))

    def unlock(self) -> None:
        if self.held:
            order_id, coupon_ids = self.held.pop(self.random.randrange(len(self.held)))
            self.do(use_cases.unlock(self.request(), order_id, coupon_ids=coupon_ids, reason="order_cancelled"))

    def end_lock(self) -> None:
        if self.held:
            order_id, coupon_ids = self.random.choice(self.held)
            self.do(use_cases.unlock(self.request(), order_id, coupon_ids=coupon_ids, reason="lock_ended"))

    def return_(self) -> None:
        if self.used:
            order_id, coupon_ids = self.random.choice(self.used)
            lines = self.random.choice([[], [], [{"line_id": "1"}], [{"line_id": "2"}]])
            reason = self.random.choice(REASONS)
            work = use_cases.return_coupons(self.request(), order_id, coupon_ids=coupon_ids, reason=reason, lines=lines)
            self.do(work)

    def share(self) -> None:
        friends = self.random.sample(USERS, self.random.randrange(3))
        self._with_owner(
            lambda request, coupon_id, owner: use_cases.share(request, coupon_id, user_id=owner, with_user_ids=friends)
        )

    def transfer(self) -> None:
        to = self.random.choice(USERS)
        self._with_owner(
            lambda request, coupon_id, owner: use_cases.transfer(request, coupon_id, user_id=owner, to_user_id=to)
        )

    def extend(self) -> None:
        until = (self.now or datetime(2027, 1, 1, tzinfo=UTC)) + timedelta(days=40)
        self._with_owner(
            lambda request, coupon_id, _: use_cases.extend(request, coupon_id, valid_until=until, reason="storm")
        )

    def void(self) -> None:
        if self.random.random() < 0.3:
            self._with_owner(lambda request, coupon_id, _: use_cases.void(request, coupon_id, reason="mistake"))

    def void_all(self) -> None:
        if self.coupons and self.random.random() < 0.2:
            some = sorted({self.random.choice(self.coupons) for _ in range(3)})
            self.do(use_cases.void_all(self.request(), some, reason="mistake"))

    def expire(self) -> None:
        self._with_owner(lambda request, coupon_id, _: use_cases.expire(request, coupon_id))

    def occasion(self) -> None:
        """A member of whom rules hear; what they issue comes with a key of theirs."""
        occasion = Occasion(trigger="registered", user_id=f"new-{self.random.randrange(30)}", at=self.now)
        asked = Asked(self.request(f"/members {self._number}"), occasion=occasion)
        with self.ledger.store.connection() as connection, connection.transaction():
            perform(self.ledger, connection, [asked])

    def remind(self) -> None:
        user_id = self.random.choice(USERS)
        verb = self.random.choice([use_cases.request_claim_reminder, use_cases.cancel_claim_reminder])
        self.do(verb(self.request(), self.later_batch, user_id))

    def change_batch(self) -> None:
        batch_id = self.batches[0]
        verb = self.random.choice([use_cases.pause_batch, use_cases.resume_batch])
        if verb is use_cases.pause_batch:
            self.do(use_cases.pause_batch(self.request(), batch_id, reason="stock count"))
        self.do(use_cases.resume_batch(self.request(), batch_id))
        self.quantity += (
            self.do(
                use_cases.change_quantity(self.request(), batch_id, expected=self.quantity, target=self.quantity + 5)
            )
            is not None
            and 5
        )

    def let_time_pass(self) -> None:
        if self.now is not None:
            self.now += timedelta(hours=self.random.randrange(6))

    # --- what there is -------------------------------------------------------------------------------------

    quantity = 300

    def _batch(self, offer: dict[str, Any], number: int) -> str:
        terms = Terms(**{"currency": "EUR", **offer})
        template_id = self._new(
            use_cases.create_template(self.request(), name=f"Offer {number}", terms=terms), "template_id"
        )
        limits: dict[str, Any] = {"per_user_limit": None}
        if number == 2:
            limits = {"per_user_limit": 40, "per_day_limit": 12, "per_user_day_limit": 4, "time_zone": "Asia/Shanghai"}
        if number == 4:
            limits = {
                "per_user_limit": 9,
                "per_person_limit": 3,
                "budget_minor": 20_000,
                "audience": Audience(newcomers=False),
            }
        days = 2 if number == 4 else 400
        plan = BatchPlan(name="Batch", quantity=self.quantity, valid_for_seconds=days * 86_400, **limits)
        work = use_cases.create_batch(self.request(), plan, template_id=template_id, accept_risk=True)
        batch_id = self._new(work, "batch_id")
        if number == 1:
            reviewed = replace(plan, needs_approval=True)
            batch_id = self._new(
                use_cases.create_batch(self.request(), reviewed, template_id=template_id, accept_risk=True), "batch_id"
            )
            self.do(use_cases.submit_batch(self.request(), batch_id))
            self.do(use_cases.approve_batch(replace(self.request(), actor="second"), batch_id))
        assert self.do(use_cases.start_batch(self.request(), batch_id))
        return batch_id

    def _code_sets(self) -> list[str]:
        codes = []
        for number, texts in enumerate((["GENERIC-1"], [f"UNIQUE-{n}" for n in range(20)], ["LOST-1", "LOST-2"])):
            kind = "generic" if number == 0 else "imported"
            made = code_jobs.import_codes(
                self.ledger, KEYS, self.request(), self.batches[number], CodeList.read(texts), kind
            )
            codes += texts
        exchanged = typed_codes.exchange(self.ledger, KEYS, self.request(), "LOST-2", "ann", facts=Facts(person="x"))
        self._got(exchanged.answer)
        self.do(use_cases.revoke_codes(self.request(), made.answer["codes_id"], reason="leaked"))
        again = CodeList.read(["LOST-1", "MORE-1"])
        code_jobs.import_codes(self.ledger, KEYS, self.request(), self.batches[0], again)
        unique = code_jobs.generate(self.ledger, KEYS, self.request(), self.batches[0], 30).answer["codes_id"]
        codes += list(code_jobs.export(self.ledger, KEYS, self.merchant_id, unique))[:10]
        code_jobs.confirm_export(self.ledger, self.request(), unique)
        return codes

    def _rules(self) -> None:
        self.do(use_cases.create_rule(self.request(), RulePlan(trigger="registered", batch_id=self.batches[0])))
        later = BatchPlan(
            name="Later", quantity=5, valid_for_seconds=86_400, claim_from=datetime(2126, 1, 1, tzinfo=UTC)
        )
        template_id = self._new(
            use_cases.create_template(self.request(), name="L", terms=Terms(**{"currency": "EUR", **OFFERS[0]})),
            "template_id",
        )
        work = use_cases.create_batch(self.request(), later, template_id=template_id, accept_risk=True)
        self.later_batch = self._new(work, "batch_id")
        self.do(use_cases.start_batch(self.request(), self.later_batch))

    def _jobs(self) -> None:
        for number, batch_id in enumerate((self.batches[1], self.batches[3])):
            file = io.BytesIO(b"user_id\n" + b"".join(b"listed-%d\n" % n for n in range(6 + number)))
            request = self.request()
            receipt = take_file(
                self.ledger,
                lambda digest, of=request: replace(of, body_hash=digest),
                batch_id,
                file,
                "csv",
                gzipped=False,
            )
            self.job_id = receipt.answer["job_id"]
        settle(self.ledger)
        issuance_jobs.undo(self.ledger, self.request(), self.job_id, reason="wrong list")
        settle(self.ledger)

    def _new(self, work: Work, name: str) -> str:
        answer = self.do(work)
        assert answer is not None
        id: str = answer[name]
        return id

    def _got(self, answer: dict[str, Any] | None) -> None:
        if answer is not None:
            self.coupons.append(answer["coupon_id"])

    def _owner(self, coupon_id: str) -> str:
        history = self.ledger.store.load([f"coupon-{coupon_id}"]).streams[f"coupon-{coupon_id}"]
        return next(
            (event.to_user_id for event in reversed(history) if hasattr(event, "to_user_id")), history[0].user_id
        )

    def _redemption(self, coupon_id: str) -> Redemption:
        discount = self.random.choice([None, 1, 50, 100, 200, 900])
        allocation = [{"line_id": "1", "product_id": None, "discount_minor": discount}] if discount else []
        return Redemption(coupon_id=coupon_id, discount_minor=discount, allocation=allocation)

    def _with_owner(self, ask: Any) -> None:
        if self.coupons:
            id = self.random.choice(self.coupons)
            self.do(ask(self.request(), id, self._owner(id)))
