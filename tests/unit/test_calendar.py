"""Days of a merchant's clock: where they end, whatever the clock does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.calendar import day_close, local_day, zone
from ledger.errors import InvalidField
from tests.unit.specs import INSTANT


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("time_zone", "moment", "close"),
    [
        ("UTC", "2026-01-01 00:00:00.000001", "2026-01-02"),
        ("UTC", "2026-01-02", "2026-01-02"),
        ("UTC", "2026-01-02 00:00:00.000001", "2026-01-03"),
        # Ends of months and years, of leap and other years.
        ("UTC", "2028-02-28 12:00", "2028-02-29"),
        ("UTC", "2028-02-29 12:00", "2028-03-01"),
        ("UTC", "2100-02-28 12:00", "2100-03-01"),
        ("UTC", "2026-12-31 12:00", "2027-01-01"),
        ("Asia/Shanghai", "2026-04-30 15:59", "2026-04-30 16:00"),
        ("Asia/Shanghai", "2026-04-30 16:01", "2026-05-01 16:00"),
        ("Asia/Kolkata", "2026-04-30 18:29", "2026-04-30 18:30"),
        ("Pacific/Kiritimati", "2026-01-01 10:01", "2026-01-02 10:00"),
        # A day of 23 hours and one of 25: Berlin in 2026.
        ("Europe/Berlin", "2026-03-28 23:00:01", "2026-03-29 22:00"),
        ("Europe/Berlin", "2026-10-24 22:00:01", "2026-10-25 23:00"),
        ("America/New_York", "2026-03-08 06:30", "2026-03-09 04:00"),
        ("America/New_York", "2026-11-01 05:30", "2026-11-02 05:00"),
        # Half an hour of daylight saving: Lord Howe.
        ("Australia/Lord_Howe", "2026-04-04 14:00", "2026-04-05 13:30"),
        # Midnight is skipped: the day ends when the next begins, at one o'clock.
        ("America/Sao_Paulo", "2018-11-03 12:00", "2018-11-04 03:00"),
        ("America/Sao_Paulo", "2018-11-04 03:00:01", "2018-11-05 02:00"),
        ("Africa/Cairo", "2023-04-27 12:00", "2023-04-27 22:00"),
        ("Asia/Beirut", "2026-03-28 12:00", "2026-03-28 22:00"),
        # The hour before midnight comes twice: both are of the day that ends after them.
        ("America/Sao_Paulo", "2018-02-18 01:30", "2018-02-18 03:00"),
        ("America/Sao_Paulo", "2018-02-18 02:30", "2018-02-18 03:00"),
        ("Africa/Cairo", "2023-10-26 20:30", "2023-10-26 22:00"),
        ("Africa/Cairo", "2023-10-26 21:30", "2023-10-26 22:00"),
        # The hour after midnight comes twice, and the day begins with the first.
        ("America/Havana", "2026-11-01 03:30", "2026-11-01 04:00"),
        ("America/Havana", "2026-11-01 04:30", "2026-11-02 05:00"),
        # A whole day is skipped: December 30, 2011 never was in Samoa.
        ("Pacific/Apia", "2011-12-30 09:59", "2011-12-30 10:00"),
        ("Pacific/Apia", "2011-12-30 10:00:01", "2011-12-31 10:00"),
    ],
)
def test_a_day_closes(time_zone: str, moment: str, close: str) -> None:
    assert day_close(utc(moment), time_zone) == utc(close)


def test_the_skipped_day_has_no_name() -> None:
    last, first = utc("2011-12-30 10:00") - INSTANT, utc("2011-12-30 10:00")
    assert (str(local_day(last, "Pacific/Apia")), str(local_day(first, "Pacific/Apia"))) == ("2011-12-29", "2011-12-31")


@given(
    st.sampled_from(sorted(available_timezones() - {"localtime", "Factory"})),
    st.datetimes(datetime(2012, 1, 1), datetime(2037, 1, 1), timezones=st.just(UTC)),
)
def test_every_day_closes_once_in_every_zone(time_zone: str, moment: datetime) -> None:
    """Since 2012 no zone turns its clock back over midnight by less than the time since."""
    close = day_close(moment, time_zone)
    assert moment <= close <= moment + timedelta(hours=26)
    assert close.tzinfo is UTC
    assert local_day(close - INSTANT, time_zone) == local_day(moment - INSTANT, time_zone) < local_day(close, time_zone)
    assert day_close(close, time_zone) == close


@pytest.mark.parametrize(
    "name", ["", "Mars/Olympus", "/etc/passwd", "../UTC", "Europe", "Europe/Berlin\x00", "a" * 300]
)
def test_a_zone_is_of_the_iana_database(name: str) -> None:
    with pytest.raises(InvalidField) as caught:
        zone(name)
    assert caught.value.facts == {"field": "time_zone"}


def test_a_zone_is_found() -> None:
    assert zone("America/Argentina/Buenos_Aires") == ZoneInfo("America/Argentina/Buenos_Aires")
