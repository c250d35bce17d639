"""Days and hours on a merchant's clock: the IANA zone decides where a day ends, over every change of the clock."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from ledger.errors import InvalidField


@lru_cache(maxsize=1_000)
def zone(name: str) -> ZoneInfo:
    """The IANA zone of that name. Raises ``InvalidField``."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown, malformed (an absolute path), or a directory of zones
        raise InvalidField(
            "time_zone is a name of the IANA database, such as Asia/Shanghai", field="time_zone"
        ) from None


def local_day(moment: datetime, time_zone: str) -> date:
    """The day that the merchant's calendar shows at that instant."""
    return moment.astimezone(zone(time_zone)).date()


def day_close(moment: datetime, time_zone: str) -> datetime:
    """The end, in UTC, of the merchant's day that holds the instant before ``moment``.

    A moment that is itself midnight is already the close of the day before it, so closing twice changes nothing. Where
    the clock skips midnight, the day ends when the next one begins.
    """
    of = zone(time_zone)
    last = (moment - timedelta(microseconds=1)).astimezone(of).date()
    close = datetime.combine(last + timedelta(days=1), time(), of)
    if close.astimezone(UTC) < moment:  # the clock was turned back over midnight, as in St. John's until 2011
        close = close.replace(fold=1)
    return close.astimezone(UTC)
