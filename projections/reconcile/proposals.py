"""Commands that would mend what differs: proposed by one, approved by another, done by the use cases themselves.

Whether a command would mend something is asked of the use case that would do it, on the ledger as it is now. So a late
confirmation is proposed where the terms let it count, and a use only where it would say the same as the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from ledger import use_cases
from ledger.aggregate import derived_id
from ledger.application import Ledger
from ledger.commit import Unit
from ledger.coupon import Redemption
from ledger.errors import InvalidField, InvalidInput, Refusal
from ledger.events import CouponSpent, Event
from ledger.request import Request
from ledger.use_cases import ORDER_COUPON_LIMIT
from ledger.work import Loaded, Receipt, Work
from projections.reconcile.compare import Finding

NAME_LIMIT = 64
TELL_THEM = "no command can mend this: tell the order system"
AGAIN = "the ledger was changed meanwhile: compare again"


class BadProposal(InvalidInput):
    """A line of the file is no proposal, or was changed since; nothing of the file was done."""


class NotApproved(InvalidInput):
    """Who approves is another than who proposed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One command, as a line of the file. Its request id is made from all the rest of the line.

    So it shows a line that was changed by mistake, and no more: who knows how it is made can write any line.
    """

    merchant_id: str
    operation: str
    arguments: dict[str, Any]
    versions: dict[str, int]
    """Of the coupons' streams when it was proposed, so that the same command proposed later is another request."""
    proposed_by: str
    why: str

    @property
    def request_id(self) -> str:
        """The same for the same command on the same coupons as they were: to apply it twice changes nothing.

        It begins with a space, which no caller's key does.
        """
        told = [self.arguments, self.versions, self.proposed_by, self.why]
        said = orjson.dumps(told, option=orjson.OPT_SORT_KEYS).decode()
        return f" reconcile {derived_id('reconcile', self.merchant_id, self.operation, said)}"

    def to_line(self) -> bytes:
        """As the file has it."""
        names = ("operation", "merchant_id", "arguments", "versions", "proposed_by", "why")
        said = {"request_id": self.request_id} | {name: getattr(self, name) for name in names}
        return orjson.dumps(said, option=orjson.OPT_APPEND_NEWLINE)

    def work(self, actor: str) -> Work:
        """The use case. Raises ``InvalidInput``, ``TypeError``, ``KeyError`` for arguments that it does not take."""
        body_hash = derived_id("body", self.request_id, self.operation)
        return _OPERATIONS[self.operation](Request(self.merchant_id, actor, self.request_id, body_hash), self.arguments)


class Answer(NamedTuple):
    """What can be done about findings of one order."""

    findings: list[Finding]
    proposal: Proposal | None
    told: str
    """What to do, in words."""


class Outcome(NamedTuple):
    """What became of a proposal."""

    line: int
    operation: str
    request_id: str
    result: str
    """``done``, ``done before``, or the code of the refusal."""
    position: int | None
    detail: str


# --- proposing --------------------------------------------------------------------------------------


def answers(ledger: Ledger, merchant_id: str, findings: Iterable[Finding], proposed_by: str) -> Iterator[Answer]:
    """What would mend each finding; findings come by order (``Comparison.findings``)."""
    check_name("proposed_by", proposed_by)
    for order_id, of_order in groupby(findings, lambda finding: finding.order_id):
        proposing = _Proposing(ledger, merchant_id, order_id, proposed_by)
        for _, group in groupby(sorted(of_order, key=_sort), _sort):
            alike = list(group)
            for begin in range(0, len(alike), ORDER_COUPON_LIMIT):
                yield from proposing.answer(alike[begin : begin + ORDER_COUPON_LIMIT])


def _sort(finding: Finding) -> tuple[str, str, str, str, str]:
    """What one command can do together: what a confirmation says was paid, it says of all that it names."""
    told = finding.told or {}
    paid_minor = str(told.get("paid_minor", "")) if finding.kind == "missing" else ""
    return finding.kind, finding.state or "", str(told.get("reason", "")), str(finding.ledger["use"]), paid_minor


class _Proposing:
    """Proposals about one order."""

    def __init__(self, ledger: Ledger, merchant_id: str, order_id: str, proposed_by: str) -> None:
        self._ledger = ledger
        self._merchant_id = merchant_id
        self._order_id = order_id
        self._proposed_by = proposed_by

    def answer(self, alike: list[Finding]) -> Iterator[Answer]:
        """What can be done about findings that one command could mend together."""
        kind, state, reason, use, _ = _sort(alike[0])
        why = f"{kind}: the order system says {state or 'nothing'}, the ledger {use}"
        if kind == "missing":
            yield from self._missing(alike, use, why)
        elif kind == "differing" and state != "paid" and use in ("used", "held"):
            yield from self._over(alike, "order_cancelled" if state == "cancelled" else reason, use, why)
        else:
            yield Answer(alike, None, TELL_THEM)

    def _missing(self, alike: list[Finding], use: str, why: str) -> Iterator[Answer]:
        """Spent by the order system alone: confirmed where the order holds it, and otherwise used now."""
        for found in self._together_or_each(alike, "confirm", self._confirm, why):
            if found.proposal is None and use != "held":
                for finding in found.findings:
                    yield self._try([finding], "redeem", self._redeem(finding), why)
            else:
                yield found

    def _over(self, alike: list[Finding], reason: str, use: str, why: str) -> Iterator[Answer]:
        """The order is over, and the ledger does not know: its use is returned, or its hold let go."""

        def over(findings: Sequence[Finding]) -> dict[str, Any]:
            coupon_ids = [finding.coupon_id for finding in findings]
            return {"order_id": self._order_id, "coupon_ids": coupon_ids, "reason": reason or "order_cancelled"}

        if use == "held":
            yield from self._together_or_each(alike, "unlock", over, why)
        elif reason:
            yield from self._together_or_each(alike, "return", over, why)
        else:
            yield Answer(alike, None, "the file does not say whose refund it was: a column reason would")

    def _together_or_each(
        self, alike: list[Finding], operation: str, arguments: Callable[[Sequence[Finding]], dict[str, Any]], why: str
    ) -> Iterator[Answer]:
        """One command for all of them where that would be done, else one for each."""
        together = self._try(alike, operation, arguments(alike), why)
        if together.proposal is not None or len(alike) == 1:
            yield together
            return
        for finding in alike:
            yield self._try([finding], operation, arguments([finding]), why)

    def _confirm(self, findings: Sequence[Finding]) -> dict[str, Any]:
        told = [finding.told or {} for finding in findings]
        redemptions = [
            {"coupon_id": finding.coupon_id, "discount_minor": said["discount_minor"]}
            for finding, said in zip(findings, told, strict=True)
        ]
        return {"order_id": self._order_id, "redemptions": redemptions, "paid_minor": told[0].get("paid_minor")}

    def _redeem(self, finding: Finding) -> dict[str, Any]:
        told = finding.told or {}
        return {
            "order_id": self._order_id,
            "coupon_id": finding.coupon_id,
            "discount_minor": told["discount_minor"],
            "user_id": told.get("user_id"),
            "paid_minor": told.get("paid_minor"),
            "channel": "online",
        }

    def _try(self, findings: list[Finding], operation: str, arguments: dict[str, Any], why: str) -> Answer:
        """The proposal, if it would be done now; otherwise what the use case says against it."""
        streams = [f"coupon-{finding.coupon_id}" for finding in findings]
        loaded = self._ledger.store.load(streams).streams
        proposal = Proposal(
            merchant_id=self._merchant_id,
            operation=operation,
            arguments=arguments,
            versions={stream.removeprefix("coupon-"): len(loaded[stream]) for stream in streams},
            proposed_by=self._proposed_by,
            why=why,
        )
        try:
            short = _falls_short(_asked(self._ledger, proposal.work("reconcile")), findings)
        except Refusal as refusal:
            short = f"{TELL_THEM} ({refusal.code()}: {refusal.detail})"
        return Answer(findings, proposal, operation) if short is None else Answer(findings, None, short)


def _asked(ledger: Ledger, work: Work) -> list[Event]:
    """What the work would write now; nothing is committed."""
    events: list[Event] = []

    def decide(loaded: Loaded) -> Receipt:
        decided = work.decide(loaded)
        assert isinstance(decided, Unit)
        events.extend(decided.events)
        return Receipt({}, 0)

    ledger.ask(Work(work.request, work.streams, decide, order_id=work.order_id))
    return events


def _falls_short(events: Sequence[Event], findings: Sequence[Finding]) -> str | None:
    """Why these events would not mend all of the findings, in words."""
    of_coupon = {event.originator_id.removeprefix("coupon-"): event for event in events}
    for finding in findings:
        event = of_coupon.get(finding.coupon_id)
        if event is None:
            return AGAIN
        if not isinstance(event, CouponSpent):
            continue
        said = {
            "discount_minor": event.discount_minor,
            "currency": event.currency,
            "paid_minor": event.paid_minor,
            "user_id": event.holder_id,
        }
        told = finding.told or {}
        if differs := [f"{name} {value}" for name, value in said.items() if told.get(name, value) != value]:
            return f"{TELL_THEM} (the ledger would say {', '.join(differs)})"
    return None


# --- applying ---------------------------------------------------------------------------------------


class Approved(NamedTuple):
    """Proposals as they were when somebody approved them, whatever becomes of their file."""

    approved_by: str
    proposals: list[tuple[int, Proposal]]
    """By the line of the file."""


def approve(path: Path, approved_by: str) -> Approved:
    """All proposals of the file. Raises ``BadProposal``, ``NotApproved``, ``InvalidField`` for a name that is none."""
    check_name("approved_by", approved_by)
    proposals = list(_read_proposals(path))
    for number, proposal in proposals:
        if proposal.proposed_by.strip().casefold() == approved_by.strip().casefold():
            raise NotApproved(f"line {number} was proposed by {proposal.proposed_by}, who cannot approve it")
    return Approved(approved_by, proposals)


def apply(ledger: Ledger, approved: Approved) -> Iterator[Outcome]:
    """Do each, one after the other; a repeat changes nothing.

    Each is recorded with who approved and who proposed it as its actor. Raises a ``ServiceError`` where the ledger
    cannot be reached; then the same file may be applied again.
    """
    for number, proposal in approved.proposals:
        work = proposal.work(f"reconcile:{approved.approved_by}, proposed by {proposal.proposed_by}")
        named = (number, proposal.operation, proposal.request_id)
        try:
            receipt = ledger.do(work)
        except Refusal as refusal:
            yield Outcome(*named, refusal.code(), None, refusal.detail)
        else:
            yield Outcome(*named, "done before" if receipt.replayed else "done", receipt.position, proposal.why)


def _read_proposals(path: Path) -> Iterator[tuple[int, Proposal]]:
    """(Line, proposal). Raises ``BadProposal``."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                said: Any = orjson.loads(line)
                request_id = said.pop("request_id")
                proposal = Proposal(**said)
                check_name("proposed_by", proposal.proposed_by)
                proposal.work("reconcile")
            except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError, InvalidInput) as error:
                raise BadProposal(f"line {number} is no proposal: {getattr(error, 'detail', error)}") from None
            if request_id != proposal.request_id:
                raise BadProposal(f"line {number} was changed since it was proposed")
            yield number, proposal


def check_name(field: str, name: Any) -> None:
    """Raise ``InvalidField`` unless it names somebody in 1 to 64 printable ASCII characters.

    Two names that look alike are then the same but for the case of letters and space around them.
    """
    if not isinstance(name, str) or not name.strip() or not re.fullmatch(f"[ -~]{{1,{NAME_LIMIT}}}", name):
        raise InvalidField(f"{field} is a name of 1 to {NAME_LIMIT} printable ASCII characters", field=field)


def _confirm(request: Request, said: Mapping[str, Any]) -> Work:
    redemptions = [Redemption(**each) for each in said["redemptions"]]
    others = {name: value for name, value in said.items() if name not in ("order_id", "redemptions")}
    return use_cases.confirm(request, said["order_id"], redemptions, **others)


_OPERATIONS: dict[str, Callable[[Request, Mapping[str, Any]], Work]] = {
    "confirm": _confirm,
    "redeem": lambda request, said: use_cases.redeem(request, **said),
    "return": lambda request, said: use_cases.return_coupons(request, **said),
    "unlock": lambda request, said: use_cases.unlock(request, **said),
}
