"""Who may get a coupon, decided on facts that the asking system sends along and the event keeps."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ledger.benefit import bounded_if_given, check_ids
from ledger.errors import FactRequired, InvalidField, NotInAudience
from ledger.scope import SCOPE_LIMIT, WORD_LIMIT

POINTS_LIMIT = 10**12


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the asking system knows of the user at this moment. Each may be left out where no condition needs it."""

    person: str | None = None
    """An opaque key of the natural person, such as a keyed hash of a phone number; never the number."""
    newcomer: bool | None = None
    tier: str | None = None
    points: int | None = None
    tags: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("person", "tier"):
            value = getattr(self, name)
            if value is not None:
                check_ids(f"facts.{name}", (value,), 1)
        if self.newcomer is not None and type(self.newcomer) is not bool:
            raise InvalidField("facts.newcomer is true or false", field="facts.newcomer")
        bounded_if_given("facts.points", self.points, 0, POINTS_LIMIT)
        if self.tags is not None:
            check_ids("facts.tags", self.tags, WORD_LIMIT)

    def to_payload(self) -> dict[str, Any]:
        """The form that an event stores: only what was said."""
        said = {name: value for name, value in asdict(self).items() if value is not None}
        return said | ({"tags": list(self.tags)} if self.tags is not None else {})


@dataclass(frozen=True, kw_only=True)
class Audience:
    """Conditions that a user must meet, all of them; an absent one asks for nothing."""

    users: tuple[str, ...] = ()
    """Only these (features.md S7)."""
    newcomers: bool = False
    """Only who is new (K12)."""
    tiers: tuple[str, ...] = ()
    """Only members of these tiers (S8)."""
    min_points: int | None = None
    """Only who has at least so many points (S9)."""
    tags: tuple[str, ...] = ()
    """Only who has one of these tags."""

    def __post_init__(self) -> None:
        check_ids("audience.users", self.users, SCOPE_LIMIT)
        check_ids("audience.tiers", self.tiers, WORD_LIMIT)
        check_ids("audience.tags", self.tags, WORD_LIMIT)
        bounded_if_given("audience.min_points", self.min_points, 1, POINTS_LIMIT)
        if type(self.newcomers) is not bool:
            raise InvalidField("audience.newcomers is true or false", field="audience.newcomers")

    def check(self, user_id: str, facts: Facts) -> None:
        """Raise ``NotInAudience``, or ``FactRequired`` when a condition cannot be judged."""
        if self.users and user_id not in self.users:
            raise NotInAudience(condition="users")
        if self.newcomers and not _said("newcomer", facts.newcomer):
            raise NotInAudience(condition="newcomers")
        if self.tiers and _said("tier", facts.tier) not in self.tiers:
            raise NotInAudience(condition="tiers")
        if self.min_points is not None and _said("points", facts.points) < self.min_points:
            raise NotInAudience(condition="min_points")
        if self.tags and set(self.tags).isdisjoint(_said("tags", facts.tags)):
            raise NotInAudience(condition="tags")

    def to_payload(self) -> dict[str, Any]:
        """The form that an event stores: only the conditions that there are."""
        told = {name: value for name, value in asdict(self).items() if value}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in told.items()}

    @classmethod
    def from_payload(cls, payload: dict[str, Any]) -> Audience:
        """As an event stored it."""
        told: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in payload.items()
        }
        return cls(**told)


def _said(name: str, value: Any) -> Any:
    if value is None:
        raise FactRequired(f"the batch's audience needs facts.{name}", fact=name)
    return value
