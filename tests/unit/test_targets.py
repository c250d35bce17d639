"""What a target may look like."""

from __future__ import annotations

import pytest

from ledger.errors import InvalidField
from ledger.telling.targets import check_address, check_url

GOOD = [
    "https://hooks.example",
    "https://hooks.example:8443/a/b?c=d&e=%20",
    "https://a-b.c.example/",
    "https://xn--bcher-kva.example/",
    "https://inner/",
]
BAD = [
    None,
    "",
    "http://hooks.example/",
    "ftp://hooks.example/",
    "file:///etc/passwd",
    "https://",
    "https:///a",
    "https://user@hooks.example/",
    "https://user:secret@hooks.example/",
    "https://hooks.example/#part",
    "https://hooks.example\\@inner/",
    "https://127.0.0.1/",
    "https://2130706433/",
    "https://0x7f.1/",
    "https://[::1]/",
    "https://hooks.example:0/",
    "https://hooks.example:99999/",
    "https://hooks.example:x/",
    "https://hooks..example/",
    "https://-a.example/",
    "https://b\u00fccher.example/",
    "https://hooks.example/\r\nHost: x",
    "https://hooks.example/ a",
    " https://hooks.example/",
    "https://hooks.example/" + "a" * 500,
]


@pytest.mark.parametrize("url", GOOD)
def test_urls_that_may_be(url: str) -> None:
    check_url("target", url)


@pytest.mark.parametrize("url", BAD)
def test_urls_that_may_not(url: str | None) -> None:
    with pytest.raises(InvalidField) as refusal:
        check_url("target", url)
    assert refusal.value.facts["field"] == "target"


@pytest.mark.parametrize("address", ["a@b.example", "first.last+tag@mail.shop.example", "o'neill@b.example"])
def test_addresses_that_may_be(address: str) -> None:
    check_address("email", address)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "a",
        "@b.example",
        "a@",
        "a@b@c.example",
        "a b@c.example",
        "a@b.example,c@d.example",
        "A <a@b.example>",
        "a@b.example\nBcc: c@d.example",
        "a@b.example\n",
        "a" * 65 + "@b.example",
        "a@" + "b." * 130 + "example",
    ],
)
def test_addresses_that_may_not(address: str) -> None:
    with pytest.raises(InvalidField):
        check_address("email", address)
