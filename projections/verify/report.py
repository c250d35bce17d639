"""What a verification asks, and what it found."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

FINDINGS_SHOWN = 20
"""Of each check, those at the first positions; all of them are counted."""


OF_DATABASE = "database"
GIVEN = "given"
"""Whose keys the seal was checked with."""


class Broken(Exception):
    """An event is not as it must be."""

    def __init__(self, check: str, expected: str, found: str) -> None:
        super().__init__(check, expected, found)


class Check(NamedTuple):
    """One question."""

    id: str
    sentence: str
    not_here: str = ""
    """What no data can show, so that it is shown elsewhere."""


CHECKS = (
    Check("catalogue", "Each row of the log is an event of the catalogue, and has its fields."),
    Check(
        "plans",
        "Templates, batches, codes and jobs take only the steps that there are, and those that need it with approval.",
    ),
    Check(
        "custody",
        "Each event of a coupon names its batch, terms and owner of then, and it changes hands as the terms allow.",
    ),
    Check("I1", "Of each batch, the coupons issued are those that are unused, locked, used, expired and voided."),
    Check("I2", "No batch ever issued more than its quantity, or while it did not run."),
    Check("I3", "No user, person or day got more of a batch than its limits allow, and no receipt was used twice."),
    Check("I4", "An order that holds a coupon holds it alone, for a day at most, and no lock of it is shortened."),
    Check(
        "I5",
        "A coupon is used at most once at a time, by an order once, and returned once; no redemption is there twice.",
    ),
    Check(
        "I6",
        "Only the order and lock that hold a coupon use it or let it go; a late use says so, and the terms accept it.",
    ),
    Check(
        "I7",
        "Nothing leaves a final state but by the return policy; validity is as planned, and no lock is out of it.",
    ),
    Check("I8", "The events of each stream are numbered from 1 without a hole, in the order of their positions."),
    Check(
        "I9",
        "Positions run from 1 without a hole, and the store's clock never falls between two of them.",
        "That a reader who follows the log misses none is shown by tests of readers beside writers.",
    ),
    Check(
        "times",
        "No event happened later than it was recorded: what is imported is of the past, and nothing is of the future.",
    ),
    Check("I10", "Each read model is the fold of the log at its position, row by row."),
    Check("I11", "Each request has one answer, and its events and its answer name each other."),
    Check(
        "I12",
        "Each message that waits or is dead lies before its consumer's offset, and does not do both.",
        "That no message is lost on its way is shown by tests that count messages against effects and dead letters.",
    ),
    Check(
        "I13",
        "What was answered is in the log: its position, and the objects that the answer names.",
        "That an acknowledged write survives a crash is shown by tests that kill processes and servers.",
    ),
    Check(
        "I14",
        "No request had two effects: its events lie together, and an id is that of its request.",
        "That a lost answer is found by asking again is shown by tests that cut connections.",
    ),
    Check("I15", "The log is what was sealed: each checkpoint is a prefix of it."),
    Check(
        "I16",
        "Every event names the merchant whose stream, batch and template it concerns.",
        "That no merchant sees another's objects is shown by tests of every operation.",
    ),
    Check(
        "I17",
        "What locks promise, discounts, returns, balances and budgets are what the pinned terms and the batch allow.",
    ),
    Check(
        "I18",
        "No guard counts anything that no event explains, so nothing is left of what was refused or cut off.",
        "That a refusal changes nothing at all is shown by tests that compare every table before and after.",
    ),
    Check("stock", "What each batch and budget may still issue is its quantity, and what the log took of it."),
    Check("quota", "What users, days, persons, receipts and orders are counted with is what the log says they had."),
    Check("holds", "What users hold of templates that limit it is what the log says they hold now."),
    Check("codes", "Sets of codes are as the log has them, and each coupon for a code was given for one of its set."),
    Check("jobs", "Jobs are as the log has them, and issued and voided what they say."),
)
IDS = tuple(check.id for check in CHECKS)
OF_TABLES = frozenset({"I10", "stock", "quota", "holds"})
"""Checks of what is beside the log: the event that one names is where the table went another way, and may be right."""


class Finding(NamedTuple):
    """Something that is not as it must be."""

    position: int | None
    """Of the first event that is wrong; of a table that differs, of an event that counted. ``None`` where none is."""
    stream: str | None
    expected: str
    found: str


class Findings:
    """Everything that is wrong, by check: all counted, the first by position kept."""

    def __init__(self, ids: Collection[str] = IDS) -> None:
        self.ids = frozenset(ids)
        self.counts: dict[str, int] = defaultdict(int)
        self.looked_at: dict[str, int] = defaultdict(int)
        self.notes: dict[str, str] = {}
        self._kept: dict[str, list[Finding]] = defaultdict(list)

    def add(self, check: str, position: int | None, stream: str | None, expected: str, found: str) -> None:
        """Tell of one; those of checks that were not asked for are dropped."""
        if check not in self.ids:
            return
        self.counts[check] += 1
        kept = self._kept[check]
        kept.append(Finding(position, stream, expected, found))
        if len(kept) > 10 * FINDINGS_SHOWN:
            kept.sort(key=_place)
            del kept[FINDINGS_SHOWN:]

    def of(self, check: str) -> list[Finding]:
        """The first of a check."""
        return sorted(self._kept[check], key=_place)[:FINDINGS_SHOWN]

    def asks(self, *checks: str) -> bool:
        """Whether one of these is wanted."""
        return not self.ids.isdisjoint(checks)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer to one question."""

    id: str
    sentence: str
    ok: bool
    looked_at: int
    wrong: int
    first_bad_position: int | None
    findings: list[Finding]
    note: str
    not_here: str


@dataclass(frozen=True, slots=True)
class Report:
    """The answers, at one position of the log."""

    position: int
    at: datetime
    seconds: float
    seal_keys: str | None
    """``GIVEN``, or ``OF_DATABASE``: who can rewrite all of the database passes those. ``None`` without ``I15``."""
    checks: list[Outcome] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return all(check.ok for check in self.checks)

    @property
    def first_bad_position(self) -> int | None:
        """Of all checks; ``None`` where no event is named."""
        return self.first_wrong.first_bad_position if self.first_wrong else None

    @property
    def first_wrong(self) -> Outcome | None:
        """The check with the first position: those of the log itself come before those of tables beside it."""
        return min((check for check in self.checks if not check.ok), key=_rank, default=None)


def outcomes(found: Findings) -> list[Outcome]:
    """The answers to what was asked, in the order of the questions."""
    return [_outcome(check, found) for check in CHECKS if check.id in found.ids]


def check_ids(names: Sequence[str]) -> list[str]:
    """The checks of these names, whatever their letters' case. Raises ``ValueError`` for one that is not known."""
    known = {id.lower(): id for id in IDS}
    unknown = [name for name in names if name.lower() not in known]
    if unknown:
        raise ValueError(f"{unknown[0] or 'an empty name'} is no check: {', '.join(IDS)}")
    return [known[name.lower()] for name in names]


def _outcome(check: Check, found: Findings) -> Outcome:
    findings = found.of(check.id)
    first = findings[0].position if findings else None
    wrong = found.counts[check.id]
    return Outcome(
        id=check.id,
        sentence=check.sentence,
        ok=not wrong,
        looked_at=found.looked_at[check.id],
        wrong=wrong,
        first_bad_position=first,
        findings=findings,
        note=found.notes.get(check.id, ""),
        not_here=check.not_here,
    )


def _rank(check: Outcome) -> tuple[bool, bool, int]:
    return check.first_bad_position is None, check.id in OF_TABLES, check.first_bad_position or 0


def _place(finding: Finding) -> tuple[bool, int]:
    return finding.position is None, finding.position or 0
