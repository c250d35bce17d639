"""What a member message asks of the ledger: to know since when a user is there, and what the merchant's rules issue."""

from __future__ import annotations

from dataclasses import replace

from consumers.asked import Asked
from consumers.messages import Message
from consumers.payloads import MemberReferred, MemberRegistered, MemberTierChanged, facts_of
from ledger.audience import Facts
from ledger.request import Request
from ledger.rules import Occasion
from ledger.use_cases import check_id

KINDS = (MemberRegistered, MemberReferred, MemberTierChanged)


def asked(message: Message, request: Request) -> Asked:
    """The occasion. Raises ``InvalidInput`` where the ledger's own rules for a field are stricter."""
    member = message.payload
    joined = (member.user_id, message.time) if isinstance(member, MemberRegistered) else None
    return Asked(request, occasion=_occasion(message, request), joined=joined)


def _occasion(message: Message, request: Request) -> Occasion:
    match message.payload:
        case MemberRegistered() as member:
            check_id("user_id", member.user_id)
            return Occasion(
                trigger="registered", user_id=member.user_id, facts=_new(facts_of(member.facts)), at=request.at
            )
        case MemberReferred() as member:
            check_id("user_id", member.user_id)
            check_id("referrer_id", member.referrer_id)
            return Occasion(
                trigger="referred",
                user_id=member.user_id,
                facts=_new(facts_of(member.facts)),
                referrer_id=member.referrer_id,
                referrer_facts=facts_of(member.referrer_facts),
                at=request.at,
            )
        case MemberTierChanged() as member:
            check_id("user_id", member.user_id)
            facts = replace(facts_of(member.facts), tier=member.tier)
            return Occasion(
                trigger="tier_changed", user_id=member.user_id, facts=facts, tier=member.tier, at=request.at
            )
    raise AssertionError(f"{type(message.payload).__name__} is not a member message")


def _new(facts: Facts) -> Facts:
    """Who just came is a newcomer, unless the message says otherwise."""
    return replace(facts, newcomer=True) if facts.newcomer is None else facts
