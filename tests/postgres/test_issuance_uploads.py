"""Files of users are taken in memory that does not grow with them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

from ledger.application import Ledger
from ledger.issuance.uploads import take_file
from ledger.request import Request
from tests.conftest import Shop


class Generated:
    """A file of so many users, every tenth of them a bad row, that is made as it is read."""

    def __init__(self, users: int) -> None:
        self._pieces = self._made(users)

    def _made(self, users: int) -> Iterator[bytes]:
        yield b"user_id\n"
        for start in range(0, users, 500):
            numbers = range(start, min(start + 500, users))
            yield b"".join(b"user %d\n" % number if number % 10 else b" %d\n" % number for number in numbers)

    def read(self, size: int, /) -> bytes:
        piece = next(self._pieces, b"")
        assert len(piece) <= size
        return piece


def test_memory_does_not_grow_while_a_large_file_is_taken(ledger: Ledger, shop: Shop) -> None:
    def peak(users: int) -> int:
        """Bytes at most, above what was there."""
        batch_id = shop.batch()
        tracemalloc.start()
        receipt = take_file(
            ledger,
            lambda digest: Request("merchant-1", "test", f"upload-{users}", digest),
            batch_id,
            Generated(users),
            "csv",
            gzipped=False,
        )
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert receipt.answer["accepted"] + receipt.answer["rejected"] == users
        return most

    # Both hold a whole chunk of good rows and one of bad ones at most; the second file has three times as many.
    small = peak(100_000)
    assert peak(300_000) < small + 300_000
    assert small < 8_000_000
