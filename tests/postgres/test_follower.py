"""A follower handles each event of the log in order, and takes up where it stood."""

from __future__ import annotations

import pytest

from consumers.follower import Follower


@pytest.fixture
def log(ledger, shop):
    shop.batch()
    return ledger.store


def positions_of(handled):
    return [recorded.position for _, chunk in handled for recorded in chunk]


def test_handles_the_whole_log_in_order(log):
    handled = []
    follower = Follower(log, "reader", lambda *given: handled.append(given), chunk_events=2)
    assert follower.step() == 0  # its row was not there yet
    while follower.step():
        pass
    assert positions_of(handled) == list(range(1, log.head() + 1))


def test_what_fails_is_handled_again(log):
    handled, failures = [], [RuntimeError("no")]

    def handle(connection, events):
        if failures:
            raise failures.pop()
        handled.append((connection, events))

    follower = Follower(log, "reader", handle)
    follower.step()
    with pytest.raises(RuntimeError):
        follower.step()
    assert follower.step() == log.head()
    assert positions_of(handled) == list(range(1, log.head() + 1))
    assert follower.step() == 0


def test_of_two_processes_one_follows(log):
    handled = []

    def handle(_, events):
        assert other.step() == 0
        handled.extend(events)

    follower = Follower(log, "reader", handle)
    other = Follower(log, "reader", lambda _, events: pytest.fail("it is being followed"))
    follower.step()
    assert follower.step() == len(handled) == log.head()


def test_names_stand_by_themselves(log):
    first, second = [], []
    for name, seen in (("first", first), ("second", second)):
        follower = Follower(log, name, lambda _, events, seen=seen: seen.extend(events))
        follower.step()
        follower.step()
    assert [each.position for each in first] == [each.position for each in second]
