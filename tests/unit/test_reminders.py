"""When a user is reminded: on the merchant's clock, over its changes, and not in quiet hours."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from ledger.errors import InvalidField
from ledger.reminders import Moment, Reminders

MADRID = "Europe/Madrid"
NIGHT = {"quiet_from_minute": 22 * 60, "quiet_until_minute": 8 * 60}
NOON_BREAK = {"quiet_from_minute": 12 * 60, "quiet_until_minute": 14 * 60}


def utc(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}+00:00")


def moments(end: str, *days: int, time_zone: str = MADRID, **quiet: int) -> list[str]:
    found = list(Reminders(days_before=days, **quiet).before_end(utc(end), time_zone))
    for moment in found:
        assert moment.at.tzinfo is UTC
    return [f"{moment.at:%Y-%m-%dT%H:%M}" for moment in found]


@pytest.mark.parametrize(
    ("end", "days", "due"),
    [
        ("2026-06-20T10:00", [7, 1], ["2026-06-13T10:00", "2026-06-19T10:00"]),
        ("2026-06-20T10:00", [1, 7], ["2026-06-13T10:00", "2026-06-19T10:00"]),
        # The clock goes forward on 29 March: the same hour on the wall is another one in UTC.
        ("2026-04-01T10:00", [7, 1], ["2026-03-25T11:00", "2026-03-31T10:00"]),
        # It goes back on 25 October.
        ("2026-10-26T11:00", [1, 2], ["2026-10-24T10:00", "2026-10-25T11:00"]),
        # 02:30 on 29 March is skipped: its earlier reading is half past one.
        ("2026-03-30T00:30", [1], ["2026-03-29T00:30"]),
        # 02:30 on 25 October comes twice: the first one.
        ("2026-10-26T01:30", [1], ["2026-10-25T00:30"]),
        # Ends of months and of years, and the day that most years lack.
        ("2026-03-01T12:00", [1, 2], ["2026-02-27T12:00", "2026-02-28T12:00"]),
        ("2028-03-01T12:00", [1, 2], ["2028-02-28T12:00", "2028-02-29T12:00"]),
        ("2027-01-01T12:00", [1, 31], ["2026-12-01T12:00", "2026-12-31T12:00"]),
        ("2026-05-31T12:00", [30, 31, 90], ["2026-03-02T13:00", "2026-04-30T12:00", "2026-05-01T12:00"]),
    ],
)
def test_so_many_days_before_at_the_same_hour(end: str, days: list[int], due: list[str]) -> None:
    assert moments(end, *days) == due


def test_a_day_that_the_calendar_skipped_comes_before_the_end() -> None:
    """Samoa had no 30 December 2011."""
    end = utc("2011-12-30T20:00")  # ten in the morning of the 31st
    for moment in Reminders(days_before=(1, 2)).before_end(end, "Pacific/Apia"):
        assert moment.at < end


@pytest.mark.parametrize(
    ("end", "quiet", "due", "day"),
    [
        # In Madrid it is two hours later than in UTC then. By day nothing moves.
        ("2026-06-20T10:00", NIGHT, "2026-06-19T10:00", 19),
        ("2026-06-20T06:00", NIGHT, "2026-06-19T06:00", 19),  # eight sharp is not quiet any more
        # Half past eleven in the evening: back to ten the same day.
        ("2026-06-20T21:30", NIGHT, "2026-06-19T20:00", 19),
        # Three in the morning, and midnight: back to ten the day before.
        ("2026-06-20T01:00", NIGHT, "2026-06-18T20:00", 18),
        ("2026-06-19T22:00", NIGHT, "2026-06-18T20:00", 18),
        ("2026-06-20T20:00", NIGHT, "2026-06-19T20:00", 19),
        # Hours within a day.
        ("2026-06-20T11:00", NOON_BREAK, "2026-06-19T10:00", 19),
        ("2026-06-20T12:00", NOON_BREAK, "2026-06-19T12:00", 19),
        ("2026-06-19T22:30", NOON_BREAK, "2026-06-18T22:30", 19),
        # Quiet hours of the night in which the clock goes forward.
        ("2026-03-30T03:00", NIGHT, "2026-03-28T21:00", 28),
    ],
)
def test_what_would_come_in_quiet_hours_comes_when_they_begin(
    end: str, quiet: dict[str, int], due: str, day: int
) -> None:
    [moment] = Reminders(days_before=(1,), **quiet).before_end(utc(end), MADRID)
    assert (moment.at, moment.day.day) == (utc(due), day)


@pytest.mark.parametrize(
    ("opens", "quiet", "due"),
    [
        ("2026-06-20T10:00", NIGHT, Moment(date(2026, 6, 20), utc("2026-06-20T10:00"))),
        ("2026-06-20T21:00", NIGHT, Moment(date(2026, 6, 21), utc("2026-06-21T06:00"))),
        ("2026-06-20T01:00", NIGHT, Moment(date(2026, 6, 20), utc("2026-06-20T06:00"))),
        ("2026-06-20T10:30", NOON_BREAK, Moment(date(2026, 6, 20), utc("2026-06-20T12:00"))),
        ("2026-06-20T22:30", {}, Moment(date(2026, 6, 21), utc("2026-06-20T22:30"))),
        # The night in which the clock goes back has an hour more.
        ("2026-10-25T01:00", NIGHT, Moment(date(2026, 10, 25), utc("2026-10-25T07:00"))),
    ],
)
def test_openings_are_told_when_quiet_hours_end(opens: str, quiet: dict[str, int], due: Moment) -> None:
    assert Reminders(**quiet).at_opening(utc(opens), MADRID) == due


@pytest.mark.parametrize("quiet", [NIGHT, NOON_BREAK, {"quiet_from_minute": 1, "quiet_until_minute": 0}])
@pytest.mark.parametrize("time_zone", [MADRID, "UTC", "Asia/Kathmandu", "America/St_Johns", "Australia/Lord_Howe"])
def test_never_late_and_never_inside_quiet_hours(quiet: dict[str, int], time_zone: str) -> None:
    """At every half hour of a year: it comes before the end, and outside quiet hours or at their very beginning."""
    terms = Reminders(days_before=(1,), **quiet)
    for half_hour in range(0, 2 * 24 * 366, 7):
        end = utc("2026-01-01T00:00") + timedelta(minutes=30 * half_hour)
        [moment] = terms.before_end(end, time_zone)
        assert end - timedelta(days=2, hours=2) < moment.at < end
        for at in (moment.at, terms.at_opening(end, time_zone).at):
            around = terms._quiet_around(at, time_zone)
            assert around is None or around[0] == at


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"days_before": (0,)}, "reminders.days_before"),
        ({"days_before": (91,)}, "reminders.days_before"),
        ({"days_before": (True,)}, "reminders.days_before"),
        ({"days_before": (2, 2)}, "reminders.days_before"),
        ({"days_before": tuple(range(1, 12))}, "reminders.days_before"),
        ({"quiet_from_minute": 5}, "reminders.quiet_until_minute"),
        ({"quiet_until_minute": 5}, "reminders.quiet_until_minute"),
        ({"quiet_from_minute": 5, "quiet_until_minute": 5}, "reminders.quiet_until_minute"),
        ({"quiet_from_minute": -1, "quiet_until_minute": 5}, "reminders.quiet_from_minute"),
        ({"quiet_from_minute": 5, "quiet_until_minute": 1_440}, "reminders.quiet_until_minute"),
    ],
)
def test_reminders_have_bounds(members: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        Reminders(**members)  # type: ignore[arg-type]
    assert refused.value.facts["field"] == field


def test_they_are_stored_and_read() -> None:
    terms = Reminders(days_before=(7, 1), **NIGHT)
    assert Reminders.from_payload({**vars(terms), "days_before": [7, 1]}) == terms
    assert Reminders.from_payload({}) == Reminders()
