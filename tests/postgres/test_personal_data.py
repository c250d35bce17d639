"""Personal data: what is noted of a user can be erased from everywhere, and every proof of the log still holds."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cryptography.exceptions import InvalidTag

from coupon_ledger_audit.fold import Fold
from ledger import subjects
from ledger.application import Ledger
from ledger.database import PROJECTOR_ROLE, Database
from ledger.errors import IdempotencyKeyReused, InvalidField, Unavailable
from ledger.personal_keys import PersonalKeys, unseal
from ledger.published import published
from ledger.telling import channels, deliveries, messages
from ledger.telling.inbox import inbox
from projections.catalogue import PROJECTIONS
from projections.export.run import Options, export
from projections.replay import compare
from projections.runner import Runner
from projections.seal.check import check as check_seal
from projections.verify import run as verify_run
from tests.conftest import MERCHANT, Shop
from tests.postgres.seals import seal

OLD = "old=" + "o" * 32
NEW = "new=" + "n" * 32
KEYS = PersonalKeys.parse(OLD)
SECRET = "Quokka Nightingale, 42 Elm Street"


def note(shop: Shop, text: str = SECRET, user_id: str = "user-1", keys: PersonalKeys = KEYS) -> str:
    """The id of a note."""
    return str(subjects.note(shop.ledger, keys, shop.request(body_hash="0" * 64), user_id, text).answer["note_id"])


def erase(shop: Shop, user_id: str = "user-1") -> subjects.Erased:
    request_id = shop.request().request_id
    return subjects.erase(shop.ledger, MERCHANT, "test", user_id, f" erase {request_id}")


def texts(ledger: Ledger, keys: PersonalKeys | None = KEYS, user_id: str = "user-1") -> list[tuple[str, str | None]]:
    return [(each.state, each.text) for each in subjects.notes(ledger, keys, MERCHANT, user_id)]


def dumped(database: Database) -> str:
    """Every column of every table of the schema, as text, with bytes read as text too."""
    lines = []
    with psycopg.connect(database.url, options=f"-c search_path={database.schema}") as connection:
        tables = connection.execute(
            "select c.relname from pg_class c where c.relnamespace = %s::regnamespace and c.relkind in ('r', 'p')",
            (database.schema,),
        ).fetchall()
        assert len(tables) > 20
        for (table,) in tables:
            for row in connection.execute(f'select * from "{table}"'):
                lines += [cell.decode("latin-1") if isinstance(cell, bytes) else str(cell) for cell in row]
    return "\n".join(lines)


def test_a_note_is_read_by_who_has_the_keys(shop: Shop, ledger: Ledger, database: Database) -> None:
    note(shop)
    note(shop, "Second.\nOf two lines.")
    assert texts(ledger) == [("readable", SECRET), ("readable", "Second.\nOf two lines.")]
    assert texts(ledger, None) == [("sealed", None), ("sealed", None)]
    assert texts(ledger, user_id="user-2") == []
    assert "Quokka" not in dumped(database), "not even before it is erased"


def test_an_erased_note_is_nowhere_and_every_proof_holds(
    shop: Shop, ledger: Ledger, database: Database, tmp_path: Path
) -> None:
    shop.coupon()
    note(shop)
    seal_folder = tmp_path / "seal"
    seal(database, seal_folder)
    before = [row[0] for row in _rows(database, "select state from events order by notification_id")]
    erase(shop)
    shop.coupon()
    assert texts(ledger) == [("erased", None)]
    assert [each.state for each in subjects.notes(ledger, None, MERCHANT, "user-1")] == ["erased"]
    everything = dumped(database)
    assert "Quokka" not in everything
    assert base64.b64encode(SECRET.encode()).decode()[:16] not in everything
    assert _rows(database, "select * from subject_keys") == []

    after = [row[0] for row in _rows(database, "select state from events order by notification_id")]
    assert after[: len(before)] == before, "not a byte of the log is another"
    Runner(database).catch_up()
    assert not [
        each for each in compare(Database(database.url, database.schema, PROJECTOR_ROLE), PROJECTIONS) if each.differing
    ]
    seal(database, seal_folder)
    with database.connect() as connection:
        assert check_seal(connection, seal_folder) == []
    report = verify_run.verify(database, seal=seal_folder)
    assert report.ok, [each for each in report.checks if not each.ok]

    audited = Fold(whole=True)
    for row in _rows(database, _LOG):
        audited.add(*row)
    audited.conserve()

    with ledger.store.connection() as connection:
        feed = [published(each) for each in ledger.store.read(connection, 0, 1_000)]
    assert "Quokka" not in json.dumps(feed)
    export(database, tmp_path / "export", Options(format="ndjson"))
    files = [path for path in (tmp_path / "export").rglob("*") if path.is_file()]
    assert any(b"subject.noted" in path.read_bytes() for path in files)
    assert files
    assert not any(b"Quokka" in path.read_bytes() for path in files)


_LOG = """
select originator_id, originator_version, topic, convert_from(state, 'utf8') from events order by notification_id
"""


def _rows(database: Database, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database.url, options=f"-c search_path={database.schema}") as connection:
        return connection.execute(query).fetchall()


def test_all_that_is_kept_of_a_user_goes_and_nothing_of_others(shop: Shop, ledger: Ledger, database: Database) -> None:
    for user_id in ("user-1", "user-2"):
        note(shop, f"Note on {user_id}.", user_id)
        with ledger.store.connection() as connection:
            channels.set_contact(connection, MERCHANT, user_id, f"{user_id}@example.com")
            messages.joined(connection, MERCHANT, [(user_id, ledger.store.now())])
        messages.send(ledger, shop.request(), title="Dear Quokka", body=f"{user_id} alone", user_ids=[user_id])
    messages.send(ledger, shop.request(), title="Both", body="for both", user_ids=["user-1", "user-2"])
    messages.send(ledger, shop.request(), title="All", body="for all", user_ids=None)
    channel = channels.register(ledger, shop.request(), name="Mail", kind="email", target=None, wants=["reminder"])
    with ledger.store.connection() as connection:
        for user_id in ("user-1", "user-2"):
            body = {"title": "Hello", "text": f"Quokka {user_id}"}
            told = deliveries.Delivery(
                f"k {user_id}", channel.answer["channel_id"], MERCHANT, "reminder", body, user_id
            )
            deliveries.enqueue(connection, [told])
    done = erase(shop)
    assert done.counts == {"keys": 1, "messages": 1, "inbox": 2, "joined": 1, "contacts": 1, "deliveries": 1}
    everything = dumped(database)
    for gone in ("user-1@example.com", "user-1 alone", "Quokka user-1"):
        assert gone not in everything
    for kept in ("user-2@example.com", "user-2 alone", "Quokka user-2", "for both", "for all"):
        assert kept in everything
    assert texts(ledger, user_id="user-2") == [("readable", "Note on user-2.")]
    with ledger.store.connection() as connection:
        assert channels.contact_of(connection, MERCHANT, "user-1") is None
        assert [each.title for each in inbox(connection, MERCHANT, "user-1").messages] == ["All"]
        assert len(inbox(connection, MERCHANT, "user-2").messages) == 3


def test_to_erase_again_changes_nothing(shop: Shop, ledger: Ledger) -> None:
    note(shop)
    first = erase(shop)
    head = ledger.store.head()
    again = erase(shop)
    assert again.receipt.answer == first.receipt.answer
    assert ledger.store.head() == head
    assert not any(again.counts.values())


def test_a_note_of_after_an_erasure_has_a_key_of_its_own(shop: Shop, ledger: Ledger) -> None:
    note(shop, "Before.")
    erase(shop)
    note(shop, "After.")
    assert texts(ledger) == [("erased", None), ("readable", "After.")]
    erase(shop)
    assert texts(ledger) == [("erased", None), ("erased", None)]


def test_a_repeat_has_one_effect_until_the_erasure(shop: Shop, ledger: Ledger) -> None:
    request = shop.request("note-1", body_hash="0" * 64)
    first = subjects.note(ledger, KEYS, request, "user-1", SECRET)
    again = subjects.note(ledger, KEYS, request, "user-1", SECRET)
    assert (again.answer, again.replayed) == (first.answer, True)
    with pytest.raises(IdempotencyKeyReused):
        subjects.note(ledger, KEYS, replace(request, body_hash="1" * 64), "user-1", "Another.")
    assert len(texts(ledger)) == 1
    erase(shop)
    with pytest.raises(IdempotencyKeyReused):
        subjects.note(ledger, KEYS, request, "user-1", SECRET)
    assert texts(ledger) == [("erased", None)]


def test_the_servers_key_is_changed_without_a_loss(shop: Shop, ledger: Ledger, database: Database) -> None:
    for number in range(3):
        note(shop, f"Note {number}.", f"user-{number}")
    both = PersonalKeys.parse(f"{NEW},{OLD}")
    note(shop, "With both.", "user-9", both)
    assert subjects.rewrap(ledger, both) == 3
    assert subjects.rewrap(ledger, both) == 0
    assert {row[0] for row in _rows(database, "select key_id from subject_keys")} == {"new"}
    assert texts(ledger, PersonalKeys.parse(NEW), "user-1") == [("readable", "Note 1.")]
    with pytest.raises(Unavailable, match="the personal key new, which the server does not have"):
        texts(ledger, KEYS, "user-1")


def test_a_wrong_key_is_one_clear_error(shop: Shop, ledger: Ledger) -> None:
    note(shop)
    head = ledger.store.head()
    wrong = PersonalKeys.parse("old=" + "x" * 32)
    for ask in (
        lambda: texts(ledger, wrong),
        lambda: note(shop, keys=wrong),
        lambda: subjects.rewrap(ledger, PersonalKeys.parse(f"{NEW},old={'x' * 32}")),
    ):
        with pytest.raises(Unavailable, match="the personal key old is not the one that the data key is wrapped with"):
            ask()
    with pytest.raises(Unavailable, match="the server has no personal key"):
        note(shop, keys=PersonalKeys())
    assert ledger.store.head() == head
    for text in ("old", "old=short", f"{OLD},{OLD}"):
        with pytest.raises(InvalidField):
            PersonalKeys.parse(text)


def test_no_ciphertext_stands_in_anothers_place(shop: Shop, ledger: Ledger, database: Database) -> None:
    note(shop, "First.")
    note(shop, "Second.")
    [row] = _rows(database, "select key_id, wrapped, user_id from subject_keys")
    stream = subjects.subject_stream(MERCHANT, "user-1")
    data_key = KEYS.unwrap(row[0], bytes(row[1]), stream)
    first = base64.b64decode(subjects.notes(ledger, None, MERCHANT, "user-1")[0].ciphertext)
    assert unseal(data_key, first, f"{stream}\n1") == b"First."
    for about in (f"{stream}\n2", "subject-other\n1"):
        with pytest.raises(InvalidTag):
            unseal(data_key, first, about)
    with pytest.raises(Unavailable):
        KEYS.unwrap(row[0], bytes(row[1]), "subject-other")


def test_notes_and_erasures_at_once_leave_no_note_that_neither_is(shop: Shop, ledger: Ledger) -> None:
    """Every note is readable, or was erased by an erasure after it in the log."""
    faults: list[Exception] = []

    def keep_noting(number: int) -> None:
        for turn in range(8):
            request = shop.request(f"note-{number}-{turn}", body_hash="0" * 64)
            try:
                subjects.note(ledger, KEYS, request, "user-1", f"{number} {turn}")
            except Unavailable:  # the key was destroyed between its making and its locking
                continue
            except Exception as fault:
                faults.append(fault)

    threads = [threading.Thread(target=keep_noting, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(8):
        erase(shop)
    for thread in threads:
        thread.join()
    assert not faults
    stream = ledger.store.history(subjects.subject_stream(MERCHANT, "user-1"))
    last = max(each.position for each in stream if each.event.TOPIC == "subject.erased")
    noted = [each.position for each in stream if each.event.TOPIC == "subject.noted"]
    assert [state for state, _ in texts(ledger)] == ["erased" if at < last else "readable" for at in noted]


def test_the_commands(shop: Shop, database: Database) -> None:
    note(shop)

    def run(*arguments: str, keys: str = OLD) -> subprocess.CompletedProcess[str]:
        settings = {"DATABASE_URL": database.url, "COUPON_LEDGER_SCHEMA": database.schema}
        return subprocess.run(
            [sys.executable, "-m", "coupon_ledger", *arguments],
            env={**os.environ, **settings, "COUPON_LEDGER_PERSONAL_KEYS": keys},
            capture_output=True,
            text=True,
            timeout=60,
        )

    result = run("rewrap", keys=f"{NEW},{OLD}")
    assert (result.returncode, result.stdout) == (0, "wrapped 1 data keys anew\n"), result.stderr
    result = run("rewrap", keys="third=" + "t" * 32)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "personal key new" in result.stderr
    result = run("erase", "--merchant", MERCHANT, "--user", "user-1")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("user-1 erased at ")
    assert "keys 1" in result.stdout
    assert run("erase", "--merchant", MERCHANT, "--user", " ").returncode == 2
    head = shop.ledger.store.head()
    for merchant, words in (
        (f"{MERCHANT}0", f"knows no merchant {MERCHANT}0"),
        ("", "merchant is 1 to"),
        (" ", "1 to"),
    ):
        result = run("erase", "--merchant", merchant, "--user", "user-1")
        assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1), result.stderr
        assert words in result.stderr
    with pytest.raises(InvalidField):
        subjects.erase(shop.ledger, "", "cli:ann", "user-1", " erase 1")
    assert shop.ledger.store.head() == head


def test_the_command_erases_for_a_merchant_of_whom_there_is_an_address_alone(database: Database) -> None:
    with psycopg.connect(database.url, options=f"-c search_path={database.schema}") as owner:
        owner.execute("insert into contacts (merchant_id, user_id, email) values ('young', 'user-1', 'a@example.org')")
    settings = {"DATABASE_URL": database.url, "COUPON_LEDGER_SCHEMA": database.schema}
    command = [sys.executable, "-m", "coupon_ledger", "erase", "--merchant", "young", "--user", "user-1"]
    result = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "contacts 1" in result.stdout
