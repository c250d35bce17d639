"""Grouping: who asks at once is answered at once, and nobody suffers for a neighbour."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from ledger.errors import OutcomeUnknown, Unavailable
from ledger.grouping import Grouping, Onward


class Squares:
    """Answers with squares; a gate holds the first group until the others wait."""

    def __init__(self, take: int = 100) -> None:
        self.take = take
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.groups: list[list[int]] = []

    def __call__(self, numbers: Sequence[int]) -> Sequence[int | Exception]:
        self.entered.set()
        self.gate.wait(10)
        self.groups.append(list(numbers))
        if 1313 in numbers:
            raise ValueError("1313")
        if 99 in numbers:
            raise Unavailable("away")
        return [number * number for number in numbers[: self.take]]


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(40) as pool:
        yield pool


def ask_all(squares: Squares, callers: ThreadPoolExecutor, numbers: Sequence[int]) -> list[int | BaseException]:
    """The outcomes of numbers that wait behind a first group of one, in their order."""
    grouping: Grouping[int, int] = Grouping("test", squares, 10)
    first = callers.submit(grouping.ask, 1)
    assert squares.entered.wait(10)
    calls = []
    for count, number in enumerate(numbers, 1):
        calls.append(callers.submit(grouping.ask, number))
        while grouping._waiting.qsize() < count:
            threading.Event().wait(0.001)
    squares.gate.set()
    assert first.result(10) == 1
    outcomes = [call.exception(10) or call.result() for call in calls]
    grouping.close()
    return outcomes


def test_who_waits_shares_the_next_group_up_to_its_limit(callers: ThreadPoolExecutor) -> None:
    squares = Squares()
    assert ask_all(squares, callers, range(2, 17)) == [number * number for number in range(2, 17)]
    assert squares.groups == [[1], list(range(2, 12)), list(range(12, 17))]


def test_what_may_not_share_the_group_goes_into_the_next(callers: ThreadPoolExecutor) -> None:
    squares = Squares(take=2)
    assert ask_all(squares, callers, [2, 3, 4]) == [4, 9, 16]
    assert squares.groups == [[1], [2, 3, 4], [4]]


def test_one_question_that_cannot_be_answered_fails_alone(callers: ThreadPoolExecutor) -> None:
    bad, *good = ask_all(Squares(), callers, [1313, *range(2, 9)])
    assert isinstance(bad, ValueError)
    assert good == [number * number for number in range(2, 9)]


def test_a_service_that_is_away_is_told_to_each_caller_by_an_error_of_its_own(callers: ThreadPoolExecutor) -> None:
    errors = ask_all(Squares(), callers, [2, 99, 3])
    assert [type(error) for error in errors] == [Unavailable] * 3
    assert len({id(error) for error in errors}) == 3
    assert {str(error) for error in errors} == {"away"}


def test_an_answer_that_never_comes(callers: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.grouping.ANSWER_WAIT_SECONDS", 0.2)
    squares = Squares()
    grouping: Grouping[int, int] = Grouping("test", squares, 10)
    calls = [callers.submit(grouping.ask, number) for number in (1, 2)]
    assert [type(call.exception(10)) for call in calls] == [OutcomeUnknown] * 2
    squares.gate.set()
    grouping.close()


def test_a_question_may_go_on_to_another_group(callers: ThreadPoolExecutor) -> None:
    squares = Squares()
    squares.gate.set()
    last: Grouping[int, int] = Grouping("last", squares, 10)

    def halve(numbers: Sequence[int]) -> Sequence[int | Onward]:
        return [Onward(last, number // 2) if number % 2 == 0 else -number for number in numbers]

    first: Grouping[int, int] = Grouping("first", halve, 10)
    assert list(callers.map(first.ask, range(1, 7))) == [-1, 1, -3, 4, -5, 9]
    with pytest.raises(ValueError, match="1313"):
        first.ask(2626)
    last.close()
    with pytest.raises(Unavailable, match="closed"):
        first.ask(2)
    assert first.ask(3) == -3
    first.close()
