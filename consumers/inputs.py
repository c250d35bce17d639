"""The ways in: which messages each topic takes, and what they ask of the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from consumers import issuance, members, orders, reminders, topics
from consumers.asked import Asked
from consumers.messages import Message, Raw, Undecodable, decode
from consumers.payloads import Payload
from ledger.request import Request

BusinessTime = Literal["live", "message"]
"""``live``: a message happens now, by the database clock. ``message``: history is imported, and a message happened
at its own ``ce_time``, which must not lie in the future."""


@dataclass(frozen=True)
class Input:
    """One topic, read by one group of consumers."""

    topic: str
    """The name without prefix."""
    group: str
    """The consumer group's name where none is given."""
    kinds: dict[str, type[Payload]]
    asked_by: Callable[[Message, Request], Asked]
    max_poll_records: int
    """Messages of one transaction: more cost less each, but share their fate for longer."""

    def asked(self, record: Raw, actor: str, business_time: BusinessTime, now: datetime) -> Asked:
        """What a record asks of the ledger. Raises ``Undecodable`` or a ``Refusal``; ``now`` is the database clock."""
        message = decode(record, self.kinds)
        at = None
        if business_time == "message":
            at = message.time
            if at > now:
                raise Undecodable("time_in_future", "imported history cannot lie in the future; see ce_time")
        return self.asked_by(message, Request(message.payload.merchant_id, actor, message.request_id, at=at))


def _kinds(kinds: Iterable[type[Payload]]) -> dict[str, type[Payload]]:
    return {kind.TYPE: kind for kind in kinds}


ISSUANCE = Input(topics.ISSUANCE, "ledger-issuance", _kinds(issuance.KINDS), issuance.asked, 1_000)
ORDERS = Input(topics.ORDERS, "ledger-orders", _kinds(orders.KINDS), orders.asked, 200)
MEMBERS = Input(topics.MEMBERS, "ledger-members", _kinds(members.KINDS), members.asked, 200)
REMINDERS = Input(topics.REMINDERS, "ledger-reminders", _kinds(reminders.KINDS), reminders.asked, 200)
BY_NAME = {"issuance": ISSUANCE, "orders": ORDERS, "members": MEMBERS, "reminders": REMINDERS}
"""As operators name them: ``coupon-ledger consume NAME``."""
INPUTS = tuple(BY_NAME.values())


def input_of(topic: str) -> Input:
    """The input of a topic's full name, prefix included. Raises ``LookupError``."""
    for input in INPUTS:
        if topic.endswith(input.topic):
            return input
    raise LookupError(f"no consumer reads the topic {topic}")


def actor_of(group: str) -> str:
    """Who is recorded as the doer of what a group's messages ask."""
    return f"consumer:{group}"
