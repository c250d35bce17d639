"""The commands of offers and batches, and those that issue coupons."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from ledger import use_cases
from ledger.application import Ledger
from ledger.audience import Audience, Facts
from ledger.batch import BatchPlan
from ledger.benefit import Benefit
from ledger.code_store import FoundCode
from ledger.events import CodesGenerated
from ledger.terms import ReturnPolicy, Terms
from ledger.use_cases.codes import record_codes
from ledger.work import Receipt
from tests.property.asking import Asking
from tests.property.coupon_model import CouponModel
from tests.property.model import GRACE, LOCK_TTL, OFFERS, VALUE, BatchModel, Given, Limits, Offer

numbers = st.integers(0, 3)
users = st.sampled_from(["ann", "bob", "cy"])
persons = st.sampled_from([None, "p1", "p1", "p2"])
tiers = st.sampled_from(["gold", "gold", "silver", None])
receipts = st.sampled_from(["receipt-1", "receipt-1", "receipt-2", "receipt-3"])
actors = st.sampled_from(["test", "boss"])
REST = ("reject", "stop")
NOT_STOPPED = ("DRAFT", "IN_REVIEW", "APPROVED", "RUNNING", "PAUSED", "ENDED")


def terms_of(offer: Offer) -> Terms:
    """The offer as a template has it."""
    kind = "cash_voucher" if offer.voucher else "amount_off"
    return Terms(
        benefit=Benefit(kind=kind, value_minor=VALUE, leaves_balance=offer.voucher),
        currency="EUR",
        stacking_mode="exclusive" if offer.alone else "stackable",
        return_policy=ReturnPolicy(**offer.returns, grace_days=GRACE.days),  # type: ignore[arg-type]
        lock_ttl_seconds=int(LOCK_TTL.total_seconds()),
        late_confirm="accept" if offer.late else "refuse",
        transferable=offer.given_away,
        shareable=offer.shared,
        points_price=100 if offer.points else None,
        live_locks_per_user=offer.live_locks,
    )


class BatchCommands(Asking):
    """One merchant's templates and batches."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self.templates: dict[str, str] = {}
        self.batches: list[BatchModel] = []
        self.coupons: list[CouponModel] = []
        self.receipts: set[str] = set()

    @initialize()
    def define_offers(self) -> None:
        for name, offer in OFFERS.items():
            work = use_cases.create_template(self.request(name), name=name, terms=terms_of(offer), accept_risk=True)
            self.templates[name] = self.ledger.do(work).answer["template_id"]
        limits = (Limits(user=2), Limits(day=4, user_day=3), Limits(), Limits())
        for name, most, budget in zip(OFFERS, limits, (None, None, 4 * VALUE, None), strict=True):
            self.plan_batch(name, 6, most, budget, None, 0, 200, reviewed=False, start=True)
            if not OFFERS[name].points:
                self.issue(0, ["ann", "bob"])
        for receipt in ("receipt-ann-1", "receipt-ann-2"):
            self.claim(0, "ann", None, receipt=receipt)

    @precondition(lambda self: len(self.batches) < 6)
    @rule(
        offer=st.sampled_from(sorted(OFFERS)),
        quantity=st.integers(1, 6),
        limits=st.builds(
            Limits,
            user=st.sampled_from([None, 1, 2]),
            day=st.sampled_from([None, 2]),
            user_day=st.sampled_from([None, 1]),
            person=st.sampled_from([None, 1]),
        ),
        budget=st.sampled_from([None, None, VALUE, 3 * VALUE + 1]),
        window=st.sampled_from([None, 100]),
        delay=st.sampled_from([0, 0, 20]),
        lasting=st.sampled_from([40, 200]),
        reviewed=st.sampled_from([False, False, True]),
        start=st.booleans(),
        tiers=st.sampled_from([(), (), ("gold",)]),
    )
    def plan_batch(
        self,
        offer: str,
        quantity: int,
        limits: Limits,
        budget: int | None,
        window: int | None,
        delay: int,
        lasting: int,
        reviewed: bool,
        start: bool,
        tiers: tuple[str, ...] = (),
    ) -> None:
        claim_until = self.now + timedelta(seconds=window) if window else None
        plan = BatchPlan(
            name="b",
            quantity=quantity,
            per_user_limit=limits.user,
            per_day_limit=limits.day,
            per_user_day_limit=limits.user_day,
            per_person_limit=limits.person,
            budget_minor=budget,
            claim_until=claim_until,
            valid_delay_seconds=delay,
            valid_for_seconds=lasting,
            time_zone="Asia/Shanghai",
            needs_approval=reviewed,
            audience=Audience(tiers=tiers),
        )
        receipt = self.ask(
            use_cases.create_batch, lambda: None, plan=plan, template_id=self.templates[offer], accept_risk=True
        )
        assert receipt is not None
        self.batches.append(
            BatchModel(
                id=receipt.answer["batch_id"],
                offer=OFFERS[offer],
                quantity=quantity,
                limits=limits,
                budget=budget,
                claim_until=claim_until,
                delay=timedelta(seconds=delay),
                lasting=timedelta(seconds=lasting),
                reviewed=reviewed,
                tiers=tiers,
            )
        )
        for word in (["submit", "approve"] if start and reviewed else []) + (["start"] if start else []):
            self.step(0, word, "boss" if word == "approve" else "test")

    def batch(self, number: int) -> BatchModel:
        """One of the batches, the newest first."""
        return self.batches[-1 - number % len(self.batches)]

    @rule(number=numbers, word=st.sampled_from(["submit", "approve", "start", "pause", "resume", *REST]), actor=actors)
    def step(self, number: int, word: str, actor: str) -> None:
        """One step of a batch's life; few examples need to lose one for good."""
        batch = self.batch(number)
        if word == "stop" and len(self.batches) < 4:
            word = "pause"
        steps = {
            "submit": (use_cases.submit_batch, lambda: batch.submit(self.now, actor)),
            "approve": (use_cases.approve_batch, lambda: batch.approve(self.now, actor)),
            "reject": (use_cases.reject_batch, lambda: batch.step(self.now, "DRAFT", "IN_REVIEW")),
            "start": (use_cases.start_batch, lambda: batch.start(self.now)),
            "pause": (use_cases.pause_batch, lambda: batch.step(self.now, "PAUSED", "RUNNING")),
            "resume": (use_cases.resume_batch, lambda: batch.step(self.now, "RUNNING", "PAUSED")),
            "stop": (use_cases.stop_batch, lambda: batch.step(self.now, "STOPPED", *NOT_STOPPED)),
        }
        use_case, expect = steps[word]
        reason = {"reason": "r"} if word in ("reject", "pause", "stop") else {}
        self.ask(use_case, expect, actor=actor, batch_id=batch.id, **reason)

    @rule(number=numbers, known=st.sampled_from([0, 0, 1]), quantity=st.integers(1, 8), actor=actors)
    def change_quantity(self, number: int, known: int, quantity: int, actor: str) -> None:
        batch = self.batch(number)
        expected = batch.quantity + known
        self.ask(
            use_cases.change_quantity,
            lambda: batch.change_quantity(self.now, expected, quantity),
            actor=actor,
            batch_id=batch.id,
            expected=expected,
            target=quantity,
        )

    @rule(
        number=numbers, known=st.sampled_from([0, 0, 1]), coupons=st.integers(1, 8), short=st.booleans(), actor=actors
    )
    def change_budget(self, number: int, known: int, coupons: int, short: bool, actor: str) -> None:
        """To what so many coupons are worth, or one minor unit short of it."""
        batch = next((batch for batch in reversed(self.batches) if batch.budget), self.batch(number))
        expected, target = (batch.budget or VALUE) + known, coupons * VALUE - short
        self.ask(
            use_cases.change_budget,
            lambda: batch.change_budget(self.now, expected, target),
            actor=actor,
            batch_id=batch.id,
            expected_minor=expected,
            target_minor=target,
        )

    # --- coupons -----------------------------------------------------------------------------------------

    @rule(number=numbers, user_ids=st.lists(users, min_size=1, max_size=4))
    def issue(self, number: int, user_ids: list[str]) -> None:
        batch = self.batch(number)
        receipt = self.ask(
            use_cases.issue, lambda: batch.issue(self.now, user_ids), batch_id=batch.id, user_ids=user_ids
        )
        if receipt is not None:
            self.remember_coupons(receipt)

    @rule(number=numbers, user_id=users, person=persons, tier=tiers, receipt=receipts, confused=st.integers(0, 4))
    def claim_as_asked(
        self, number: int, user_id: str, person: str | None, tier: str | None, receipt: str, confused: int
    ) -> None:
        """With a receipt where the coupons cost points, and now and then the other way round."""
        pays = self.batch(number).offer.points != (confused == 0)
        self.claim(number, user_id, person, tier, receipt if pays else None)

    def claim(
        self, number: int, user_id: str, person: str | None, tier: str | None = None, receipt: str | None = None
    ) -> None:
        batch, given = self.batch(number), Given(person, tier, receipt, self.receipts)
        answer = self.ask(
            use_cases.claim,
            lambda: batch.issue(self.now, [user_id], given),
            batch_id=batch.id,
            user_id=user_id,
            facts=Facts(person=person, tier=tier),
            points_receipt=receipt,
        )
        if answer is not None:
            self.remember_coupons(answer)

    @rule(number=numbers, code=st.integers(0, 2), user_id=users, person=persons, tier=tiers)
    def exchange_code(self, number: int, code: int, user_id: str, person: str | None, tier: str | None = None) -> None:
        """A unique code of the batch, perhaps exchanged before."""
        batch, given = self.batch(number), Given(person, tier, None, self.receipts)
        if not batch.codes:
            if batch.state(self.now) in ("STOPPED", "ENDED") or batch.offer.points:
                return  # no codes are made then
            request = self.request(f"codes {batch.id}")
            work = record_codes(request, batch.id, batch_id=batch.id, kind="unique", count=3)
            self.ledger.do(work)
            batch.codes.update(dict.fromkeys(range(3)))
        found = FoundCode(batch.id, batch.id, "unique", bytes([code] * 16), [CodesGenerated.TOPIC])
        answer = self.ask(
            use_cases.redeem_code,
            lambda: batch.exchange(self.now, code, user_id, given),
            found=found,
            user_id=user_id,
            facts=Facts(person=person, tier=tier),
        )
        if answer is not None:
            self.remember_coupons(answer)

    def remember_coupons(self, receipt: Receipt) -> None:
        batch = next(batch for batch in self.batches if batch.id == receipt.answer["batch_id"])
        begin = self.now + batch.delay
        for coupon in receipt.answer.get("coupons", [receipt.answer]):
            self.coupons.append(
                CouponModel(coupon["coupon_id"], batch, coupon["user_id"], begin, begin + batch.lasting)
            )

    @rule(number=numbers, user_id=users, stop=st.booleans())
    def claim_and_repeat(self, number: int, user_id: str, stop: bool) -> None:
        """A repeat finds its answer though the batch issues no more."""
        self.claim(number, user_id, "p1")
        if stop:
            self.step(number, "pause", "test")
        self.ask_again(int(stop), "same")

    @rule(number=numbers, user_id=users, person=persons)
    def claim_until_refused(self, number: int, user_id: str, person: str | None) -> None:
        """Some limit is reached, and which one must be known."""
        for _ in range(4):
            self.claim(number, user_id, person)
