"""E-mails to a real mail server."""

from __future__ import annotations

import ssl
from dataclasses import replace
from datetime import datetime

import pytest

from consumers.mail import MailServer, email
from consumers.sending import Sender
from ledger.telling import channels
from tests.receivers.conftest import Desk, Mailbox


@pytest.fixture
def mailing(desk: Desk, mailbox: Mailbox, tls: ssl.SSLContext) -> Desk:
    """A desk that has a mail server."""
    server = MailServer("localhost", mailbox.port, "ledger@shop.example", context=tls)
    desk.sender = replace(desk.sender, mail=server)
    return desk


def contact(desk: Desk, user_id: str, address: str) -> None:
    with desk.shop.ledger.store.connection() as connection:
        channels.set_contact(connection, desk.shop.merchant_id, user_id, address)


def test_it_goes_to_the_address_of_the_channel(mailing: Desk, mailbox: Mailbox) -> None:
    channel_id = mailing.channel("ops@shop.example", "email")
    body = {"title": "Low stock: Gru\u00df\nBcc: x@y.example", "text": "Ten left.\n\u4f18\u60e0\u5238"}
    (key,) = mailing.enqueue(channel_id, body=body)
    mailing.deliver()
    (message,) = mailbox.got
    assert (message["X-To"], message["X-Encrypted"]) == ("ops@shop.example", "True")
    assert message["Subject"] == "Low stock: Gru\u00df Bcc: x@y.example"
    assert message["Bcc"] is None
    assert message.get_content().splitlines() == ["Ten left.", "\u4f18\u60e0\u5238"]
    assert (message["From"], message["To"]) == ("ledger@shop.example", "ops@shop.example")
    assert mailing.rows() == {key: ("sent", 1, None)}


def test_a_channel_without_an_address_writes_to_the_user(mailing: Desk, mailbox: Mailbox) -> None:
    channel_id = mailing.channel(None, "email", wants=("reminder",))
    contact(mailing, "user-1", "one@mail.example")
    contact(mailing, "user-1", "two@mail.example")
    contact(mailing, "user-2", "gone@mail.example")
    with mailing.shop.ledger.store.connection() as connection:
        channels.forget_contact(connection, mailing.shop.merchant_id, "user-2")
        assert channels.contact_of(connection, mailing.shop.merchant_id, "user-2") is None
        assert channels.contact_of(connection, "merchant-2", "user-1") is None
    (first,) = mailing.enqueue(channel_id, user="user-1")
    (second,) = mailing.enqueue(channel_id, user="user-2")
    mailing.deliver()
    assert [message["X-To"] for message in mailbox.got] == ["two@mail.example"]
    assert mailing.rows() == {first: ("sent", 1, None), second: ("dropped", 1, "nobody knows an address")}


@pytest.mark.parametrize(("answer", "state"), [("550 no such user", "dead"), ("451 later", "due")])
def test_what_the_mail_server_says_counts(answer: str, state: str, mailing: Desk, mailbox: Mailbox) -> None:
    mailbox.refusals["x@mail.example"] = answer
    (key,) = mailing.enqueue(mailing.channel("x@mail.example", "email"))
    mailing.deliver()
    assert mailing.rows() == {key: (state, 1, f"SMTP {answer}")}
    mailbox.refusals.clear()
    mailing.make_due()
    mailing.deliver()
    assert len(mailbox.got) == (state == "due")


def test_without_a_mail_server_it_waits(desk: Desk) -> None:
    (key,) = desk.enqueue(desk.channel("x@mail.example", "email"))
    desk.deliver()
    assert desk.rows() == {key: ("due", 1, "the settings name no mail server")}


def test_a_mail_server_that_is_away_or_not_itself_is_no_end(
    desk: Desk, mailbox: Mailbox, tls: ssl.SSLContext, free_port: int
) -> None:
    away = MailServer("localhost", free_port, "a@shop.example", context=tls)
    stranger = MailServer("localhost", mailbox.port, "a@shop.example")  # whose certificate nobody vouches for
    wrong = MailServer("localhost", mailbox.port, "a@shop.example", "user", "secret", context=tls)
    bare = MailServer("localhost", mailbox.port, "a@shop.example", tls="none")
    errors = []
    for server in (away, stranger, wrong, bare):
        desk.sender = Sender(mail=server)
        (key,) = desk.enqueue(desk.channel("x@mail.example", "email"))
        desk.deliver()
        state, _, error = desk.rows()[key]
        assert state == "due"
        errors.append(error or "")
    assert "refused" in errors[0]
    assert "certificate" in errors[1].lower()
    assert "secret" not in "".join(errors)
    assert errors[3].startswith("SMTP 530")
    assert mailbox.got == []


def test_a_repeat_has_the_same_message_id(moment: datetime) -> None:
    to = {"sender": "l@shop.example", "to": "a@b.example", "at": moment}
    first, again = email("k", "alert", {"n": 1}, **to), email("k", "alert", {"n": 2}, **to)
    other = email("j", "alert", {"n": 1}, **to)
    assert first["Message-ID"] == again["Message-ID"] != other["Message-ID"]
    assert first["Subject"] == "alert"
    assert first.get_content() == '{\n  "n": 1\n}\n'
