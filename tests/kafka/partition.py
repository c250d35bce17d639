"""One partition's messages into an inbox, without a broker: offsets and order are all that an inbox knows of Kafka."""

from __future__ import annotations

from itertools import count
from typing import Any, NamedTuple

from consumers.inbox import Inbox, Taken
from consumers.inputs import BusinessTime, Input
from consumers.messages import Wire
from consumers.waiting import WAIT_SECONDS
from ledger import use_cases
from ledger.application import Ledger
from ledger.rules import RulePlan
from tests.conftest import Shop


class Record(NamedTuple):
    """What Kafka would hand over."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Any


class Partition:
    """Takes messages in their order, each call being one poll."""

    def __init__(
        self,
        ledger: Ledger,
        input: Input,
        *,
        group: str = "test",
        number: int = 0,
        business_time: BusinessTime = "live",
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        self._place = (input.topic, number)
        self._inbox = Inbox(ledger, input, group, business_time, wait_seconds)
        self._inbox.begin([self._place])
        self._offsets = count()

    def records(self, *wires: Wire) -> list[Record]:
        return [Record(*self._place, next(self._offsets), 0, *wire) for wire in wires]

    def poll(self, records: list[Record]) -> Taken:
        return self._inbox.take({self._place: records})

    def take(self, *wires: Wire) -> Taken:
        return self.poll(self.records(*wires))

    def try_again(self) -> Taken:
        """What is due of the messages that wait."""
        return self._inbox.try_again([self._place])

    def note_end(self, offset: int) -> int:
        """Say how far it goes, and hear how many messages are to be read."""
        return self._inbox.note_ends({self._place: offset})


def create_rule(shop: Shop, trigger: Any, batch_id: str | None = None, **plan: Any) -> str:
    """The id of a new rule, on a batch without a limit a user unless one is named."""
    plan = {"trigger": trigger, "batch_id": batch_id or shop.batch(per_user_limit=None), **plan}
    created = shop.ledger.do(use_cases.create_rule(shop.request(), RulePlan(**plan)))
    rule_id: str = created.answer["rule_id"]
    return rule_id
