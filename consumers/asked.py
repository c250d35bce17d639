"""What messages ask of the ledger, and doing it: the work itself, then what the merchant's rules issue because of it.

Both happen in one transaction, so a crash leaves both or none. A coupon that a rule could not issue never makes the
message a dead letter: the order was paid and the member is new whether or not a batch is sold out. It is counted
(``rule_refusals``) and logged instead.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import psycopg

from ledger import rule_refusals, use_cases
from ledger.application import Ledger
from ledger.errors import Refusal
from ledger.issuance import rows as issuance_rows
from ledger.request import Request
from ledger.rules import Award, Occasion, Rules
from ledger.telling import messages
from ledger.telling.reminding import Due, tell
from ledger.work import Receipt, Work, fold

log = logging.getLogger(__name__)

Connection = psycopg.Connection[Any]
Result = Receipt | Refusal | None
"""``None`` where nothing was there to be done: no rule was waiting for the occasion, or a row of a job is refused."""


class Asked(NamedTuple):
    """What one message asks."""

    request: Request
    work: Work | None = None
    """Where it is refused the message has no effect, and no rule issues because of it."""
    occasion: Occasion | None = None
    curable: tuple[type[Refusal], ...] = ()
    """Refusals that end when something else is done that may be on its way: the message came too early."""
    reminder: Due | None = None
    """What a user is to be told, if it still holds."""
    joined: tuple[str, datetime] | None = None
    """A user, and since when they are there: broadcasts of before are not for them."""


def perform(ledger: Ledger, connection: Connection, asked: Sequence[Asked]) -> list[Result]:
    """Do what these messages ask, in the connection's transaction; each has its own result, in their order."""
    works = [each.work for each in asked if each.work is not None]
    done = iter(issuance_rows.do_all(ledger, works, connection))
    results: list[Result] = [next(done) if each.work is not None else None for each in asked]
    occasions = {
        place: each.occasion
        for place, each in enumerate(asked)
        if each.occasion is not None and not isinstance(results[place], Refusal)
    }
    if occasions:
        for place, receipt in _issue(ledger, connection, asked, occasions).items():
            results[place] = results[place] or receipt
    reminders = {place: each.reminder for place, each in enumerate(asked) if each.reminder is not None}
    if reminders:
        for place, told in zip(reminders, tell(ledger, connection, list(reminders.values())), strict=True):
            results[place] = told
    joined: dict[str, list[tuple[str, datetime]]] = defaultdict(list)
    for each in asked:
        if each.joined is not None:
            joined[each.request.merchant_id].append(each.joined)
    for merchant_id in sorted(joined):  # in one order, so that two consumers never wait for each other in a ring
        messages.joined(connection, merchant_id, joined[merchant_id])
    return results


def _issue(
    ledger: Ledger, connection: Connection, asked: Sequence[Asked], occasions: dict[int, Occasion]
) -> dict[int, Receipt]:
    """Issue what rules say, having read each merchant's once. By place, whether anything was issued now or before."""
    merchants = {asked[place].request.merchant_id for place in occasions}
    rules = _rules(ledger, connection, merchants)
    places: list[int] = []
    awards: list[tuple[Award, Work]] = []
    for place, occasion in occasions.items():
        request = asked[place].request
        found = use_cases.issue_by_rules(request, rules[request.merchant_id], occasion)
        awards += found
        places += [place] * len(found)
    receipts: dict[int, list[Receipt]] = defaultdict(list)
    refused: list[tuple[Award, Refusal]] = []
    results = ledger.do_all([work for _, work in awards], connection)
    for place, (award, _), result in zip(places, awards, results, strict=True):
        if isinstance(result, Refusal):
            refused.append((award, result))
        else:
            receipts[place].append(result)
    for (rule_id, code), times in rule_refusals.count(connection, refused).items():
        log.warning("rule %s could not issue, %d times in this poll: %s", rule_id, times, code)
    return {
        place: Receipt({}, 0, replayed=all(receipt.replayed for receipt in found)) for place, found in receipts.items()
    }


def _rules(ledger: Ledger, connection: Connection, merchants: set[str]) -> dict[str, Rules]:
    streams = {merchant: use_cases.rules_stream(merchant) for merchant in merchants}
    loaded = ledger.store.load(list(streams.values()), (), connection).streams
    return {merchant: fold(Rules(stream), loaded[stream]) for merchant, stream in streams.items()}
