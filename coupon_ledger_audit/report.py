"""What an auditor brings along to an audit, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from coupon_ledger_audit.bundle import Row
from coupon_ledger_audit.note import Checkpoint, VerifierKey


class Finding(Exception):
    """Something is wrong. ``position`` is that of the first bad event, where one can be named.

    ``step`` is one of bundle, signature, witness, last, root, rows, rules, balances, coupons.
    """

    def __init__(self, step: str, text: str, position: int | None = None) -> None:
        super().__init__(text)
        self.step = step
        self.text = text
        self.position = position


@dataclass(frozen=True)
class Trust:
    """What the auditor brings along, and has from elsewhere than the bundle."""

    keys: Sequence[VerifierKey]
    origin: str
    last: Sequence[str | bytes] = ()
    """Checkpoints that the auditor verified before, as signed notes."""
    witnesses: Sequence[VerifierKey] = ()
    """Every one of them must have signed the bundle's checkpoint too."""
    whole: bool = False
    """Whether only a bundle of the whole log will do."""


OPEN = ("not checked: ", "not shown: ")
"""How what was left open is told, among what was checked."""


@dataclass
class Report:
    """What was checked, in order, and what was found."""

    passed: list[tuple[str, str]] = field(default_factory=list)
    """Step and text. A text that begins with one of ``OPEN`` says what was left open."""
    finding: Finding | None = None
    nothing_checked: bool = False
    """Whether the finding is that the file holds nothing that could be checked."""
    checkpoint: Checkpoint | None = None
    note: bytes = b""
    coupons: dict[str, list[Row]] = field(default_factory=dict)
    """The events of the coupons that the auditor chose."""

    def add(self, step: str, text: str) -> None:
        self.passed.append((step, text))
