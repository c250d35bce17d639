"""How the property tests ask: every request goes to the model and to the ledger, and may come again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from ledger import use_cases
from ledger.application import Ledger
from ledger.errors import Refusal
from ledger.request import Request
from ledger.work import Receipt, Work
from tests.property.model import Refused
from tests.unit.specs import T0

EXAMPLES = count(1)
ISSUING = (use_cases.issue, use_cases.claim, use_cases.redeem_code)
bodies = st.sampled_from(["same", "another"])


@dataclass
class Asked:
    """A request as it was sent, and the answer of the one time that it had its effect."""

    use_case: Callable[..., Work]
    arguments: dict[str, Any]
    request_id: str
    actor: str
    expect: Callable[[], Any]
    receipt: Receipt | None = None
    body: str = ""


class Asking(RuleBasedStateMachine):
    """One merchant's requests; repeats are a rule like any other."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self.ledger = ledger
        self.merchant_id = f"merchant-{next(EXAMPLES)}"
        self.keys = count(1)
        self.now = T0
        self.asked: list[Asked] = []
        self.heard: Counter[tuple[str, str]] = Counter()
        """Use cases and what became of them."""

    def request(self, request_id: str, body: str = "same", actor: str = "test") -> Request:
        return Request(self.merchant_id, actor, request_id, body, self.now)

    def ask(
        self, use_case: Callable[..., Work], expect: Callable[[], Any], *, actor: str = "test", **arguments: Any
    ) -> Receipt | None:
        """Send a new request: the ledger must do, or refuse, what the model does or refuses."""
        asked = Asked(use_case, arguments, f"request-{next(self.keys)}", actor, expect)
        self.asked.append(asked)
        return self.send(asked, "same")

    def send(self, asked: Asked, body: str) -> Receipt | None:
        try:
            asked.expect()
            due = {"done"}
        except Refused as refused:
            due = refused.codes
        head = self.ledger.store.head()
        try:
            receipt: Receipt | None = self.ledger.do(
                asked.use_case(self.request(asked.request_id, body, asked.actor), **asked.arguments)
            )
        except Refusal as refusal:
            said, receipt = refusal.code(), None
        else:
            said = "replayed" if receipt and receipt.replayed else "done"
        assert said in due
        self.heard[asked.use_case.__name__, said] += 1
        if receipt is None:
            assert self.ledger.store.head() == head
            return None
        asked.receipt = receipt
        asked.body = body
        return receipt

    @rule(number=st.integers(0, 30), body=bodies)
    def ask_again(self, number: int, body: str) -> None:
        """An earlier request: one that had its effect has it once, one that was refused is decided afresh."""
        asked = self.asked[-1 - number % len(self.asked)]
        if asked.receipt is None:
            receipt = self.send(asked, body)
            if receipt is not None and asked.use_case in ISSUING:
                self.remember_coupons(receipt)
            return
        head = self.ledger.store.head()
        work = asked.use_case(self.request(asked.request_id, body, asked.actor), **asked.arguments)
        if body == asked.body:
            again = self.ledger.do(work)
            assert (again.answer, again.position, again.replayed) == (
                asked.receipt.answer,
                asked.receipt.position,
                True,
            )
        else:
            with pytest.raises(Refusal) as caught:
                self.ledger.do(work)
            assert caught.value.code() == "idempotency_key_reused"
        assert self.ledger.store.head() == head

    def remember_coupons(self, receipt: Receipt) -> None:
        """Take note of what an issue gave."""
        raise NotImplementedError
