"""What the seal says no with."""

from __future__ import annotations

from ledger.errors import LedgerError, NotFound, ServiceError


class SealBroken(LedgerError):
    """The log, the tiles or the checkpoints are not what was signed."""


class NotSealed(NotFound):
    """Nothing of this ledger was sealed yet."""


class NotSealedYet(ServiceError):
    """No checkpoint covers the newest events of this object yet."""
