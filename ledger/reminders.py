"""When users are reminded: so many days before a coupon ends, and when a batch's claims open, but not in quiet hours.

Days and hours are on the merchant's clock. Where that clock shows a time twice or skips it, the earlier of its two
readings counts, so that no reminder comes later than was meant.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple

from ledger.benefit import bounded
from ledger.calendar import zone
from ledger.errors import InvalidField
from ledger.scope import MINUTES_OF_DAY

LEAD_LIMIT = 10
"""Lead times of one template."""
LEAD_LIMIT_DAYS = 90


class Moment(NamedTuple):
    """When a reminder is due."""

    day: date
    """On the merchant's calendar; a user hears of a batch once a day at most."""
    at: datetime
    """In UTC."""


@dataclass(frozen=True, kw_only=True)
class Reminders:
    """Whether and when the owners of coupons are reminded of their ends; never, where no days are given."""

    days_before: tuple[int, ...] = ()
    """Each is one reminder: at the hour of the end, so many days of the calendar earlier."""
    quiet_from_minute: int | None = None
    """Quiet hours begin so many minutes after midnight, and may run on over midnight."""
    quiet_until_minute: int | None = None
    """Not included."""

    def __post_init__(self) -> None:
        if len(self.days_before) > LEAD_LIMIT or len(set(self.days_before)) != len(self.days_before):
            detail = f"reminders.days_before are at most {LEAD_LIMIT} different numbers"
            raise InvalidField(detail, field="reminders.days_before")
        for days in self.days_before:
            bounded("reminders.days_before", days, 1, LEAD_LIMIT_DAYS)
        if (self.quiet_from_minute is None) != (self.quiet_until_minute is None):
            detail = "quiet hours have a beginning and an end, or neither"
            raise InvalidField(detail, field="reminders.quiet_until_minute")
        if self.quiet_from_minute is None:
            return
        for name in ("quiet_from_minute", "quiet_until_minute"):
            bounded(f"reminders.{name}", getattr(self, name), 0, MINUTES_OF_DAY - 1)
        if self.quiet_from_minute == self.quiet_until_minute:
            raise InvalidField("quiet hours leave some of the day", field="reminders.quiet_until_minute")

    def before_end(self, valid_until: datetime, time_zone: str) -> Iterator[Moment]:
        """When the owner of a coupon with this end is to be reminded, the earliest first.

        What falls into quiet hours comes when they begin, for after them it might be too late.
        """
        end = valid_until.astimezone(zone(time_zone))
        for days in sorted(self.days_before, reverse=True):
            at = _instant(end.date() - timedelta(days=days), end.time(), time_zone)
            quiet = self._quiet_around(at, time_zone)
            yield _moment(quiet[0] if quiet else at, time_zone)

    def at_opening(self, claim_from: datetime, time_zone: str) -> Moment:
        """When to tell that claims are open: at once, or when the quiet hours are over."""
        quiet = self._quiet_around(claim_from, time_zone)
        return _moment(quiet[1] if quiet else claim_from.astimezone(UTC), time_zone)

    def _quiet_around(self, at: datetime, time_zone: str) -> tuple[datetime, datetime] | None:
        """The quiet hours that hold this instant."""
        if self.quiet_from_minute is None or self.quiet_until_minute is None:
            return None
        today = at.astimezone(zone(time_zone)).date()
        begin, end = _clock(self.quiet_from_minute), _clock(self.quiet_until_minute)
        over_midnight = timedelta(days=1 if end < begin else 0)
        for day in (today - timedelta(days=1), today):  # the day before, for hours that run on over midnight
            hours = _instant(day, begin, time_zone), _instant(day + over_midnight, end, time_zone)
            if hours[0] <= at < hours[1]:
                return hours
        return None

    @classmethod
    def from_payload(cls, payload: dict[str, Any]) -> Reminders:
        """As an event stored it."""
        return cls(
            **(payload | {"days_before": tuple(payload["days_before"])} if "days_before" in payload else payload)
        )


def _instant(day: date, clock: time, time_zone: str) -> datetime:
    local = datetime.combine(day, clock.replace(fold=0), zone(time_zone))
    return min(local.replace(fold=fold).astimezone(UTC) for fold in (0, 1))


def _moment(at: datetime, time_zone: str) -> Moment:
    return Moment(at.astimezone(zone(time_zone)).date(), at)


def _clock(minute: int) -> time:
    return time(minute // 60, minute % 60)
