"""``coupon-ledger keys seal``, ``seal`` and ``bundle`` as an operator meets them; the process under load and killed."""

from __future__ import annotations

import logging
import os
import random
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from coupon_ledger_audit.note import Checkpoint, SigningKey, VerifierKey, open_checkpoint, sign
from ledger import use_cases
from ledger.database import Database
from projections.seal import checkpoints
from projections.seal.check import check
from projections.seal.standing import standing
from tests.conftest import Shop
from tests.postgres.lives import Lives
from tests.postgres.seals import seal, superuser

Run = Callable[..., subprocess.CompletedProcess[str]]
ORIGIN = "localhost/coupon-ledger"
WRITES_PER_SECOND = 500
LOAD_SECONDS = 4
CALLERS = 8
log = logging.getLogger(__name__)


@pytest.fixture
def environment(database: Database, tmp_path: Path) -> dict[str, str]:
    return os.environ | {
        "DATABASE_URL": database.url,
        "COUPON_LEDGER_SCHEMA": database.schema,
        "COUPON_LEDGER_STATE": str(tmp_path / "state"),
        "COUPON_LEDGER_SEAL_FOLDER": str(tmp_path / "seal"),
    }


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    """Runs ``coupon-ledger`` with arguments against an empty ledger."""

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "coupon_ledger", *arguments]
        return subprocess.run(command, env=environment | more, capture_output=True, text=True, timeout=60)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "seal"


@contextmanager
def sealing(environment: dict[str, str], number: int = signal.SIGTERM) -> Iterator[subprocess.Popen[bytes]]:
    """The process, ended by a signal."""
    with subprocess.Popen([sys.executable, "-m", "coupon_ledger", "seal"], env=environment) as child:
        try:
            yield child
        finally:
            child.send_signal(number)
            child.wait(20)


def failed(result: subprocess.CompletedProcess[str], code: int, word: str) -> None:
    assert result.returncode == code, result.stderr
    assert word in result.stderr
    [*_, line] = result.stderr.splitlines()
    assert line.startswith("coupon-ledger: ")


def newest(database: Database) -> checkpoints.Signed | None:
    with database.connect() as connection:
        return checkpoints.newest(connection)


def until(true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_key_is_made_once_for_its_owner_alone(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "keys" / "signing"
    where = {"COUPON_LEDGER_SEAL_KEY": str(path), "COUPON_LEDGER_SEAL_ORIGIN": "shop.example/coupons"}
    failed(run("keys", "seal", "--show", **where), 1, "there is no key")
    made = run("keys", "seal", **where)
    key = VerifierKey.parse(made.stdout)
    assert key.name == "shop.example/coupons"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secret = path.read_text("utf-8")
    assert SigningKey.parse(secret).verifier() == key
    assert secret.strip() not in made.stdout + made.stderr
    failed(run("keys", "seal", **where), 1, "is there already")
    assert run("keys", "seal", "--show", **where).stdout == made.stdout
    assert run("keys", "seal", "--if-missing", **where).stdout == made.stdout
    assert path.read_text("utf-8") == secret
    assert [each.name for each in path.parent.iterdir()] == ["signing"]


@pytest.mark.parametrize(
    ("arguments", "settings", "code", "word"),
    [
        (("seal",), {}, 1, "run coupon-ledger keys seal"),
        (("seal",), {"COUPON_LEDGER_SEAL_ANCHORS": "ftp://x"}, 2, "seal_anchors"),
        (("seal",), {"COUPON_LEDGER_SEAL_ORIGIN": "two words"}, 2, "seal_origin"),
        (("keys", "seal"), {"COUPON_LEDGER_SEAL_KEY": "/proc/nowhere/key"}, 1, "cannot be written"),
        (("keys", "seal", "--show", "--change"), {}, 2, "only one of"),
        (("bundle", "-o", "x.zip"), {}, 2, "--whole or --coupon"),
        (("bundle", "--whole", "--coupon", "c", "-o", "x.zip"), {}, 2, "--whole or --coupon"),
        (("bundle", "--whole"), {}, 2, "--output"),
        (("bundle", "--whole", "--since", "nowhere", "-o", "x.zip"), {}, 2, "nowhere"),
        (("bundle", "--coupon", "nowhere", "-o", "x.zip"), {}, 1, "there is no coupon nowhere"),
        (("bundle", "--whole", "-o", "/proc/nowhere/x.zip"), {}, 1, "cannot be written"),
    ],
)
def test_what_goes_wrong_is_one_line(
    run: Run, arguments: tuple[str, ...], settings: dict[str, str], code: int, word: str, tmp_path: Path
) -> None:
    result = run(*arguments, **settings)
    failed(result, code, word)
    assert (result.stdout, result.stderr.count("\n")) == ("", 1)
    assert not Path("x.zip").exists()


def test_a_key_of_another_log_does_not_sign_for_this_one(run: Run) -> None:
    run("keys", "seal")
    failed(run("seal", COUPON_LEDGER_SEAL_ORIGIN="other.example/log"), 1, "of the log 'localhost/coupon-ledger'")


def test_the_key_is_changed_and_the_seal_goes_on(
    run: Run, environment: dict[str, str], database: Database, shop: Shop, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "state" / "seal-key"
    failed(run("keys", "seal", "--change"), 1, "there is no key")
    keys = [run("keys", "seal").stdout]
    for _ in range(3):
        shop.coupon()
        with sealing(environment):
            until(lambda: (signed := newest(database)) and signed.size == shop.ledger.store.head())
        signed = newest(database)
        assert signed is not None
        assert f"{signed.vkey}\n" == keys[-1]
        last = path.with_name(f"seal-key.{database.schema}.last")
        assert last.read_text("utf-8") == signed.note
        secret = path.read_text("utf-8")
        keys.append(run("keys", "seal", "--change").stdout)
        kept = path.with_name(f"seal-key.{VerifierKey.parse(keys[-2]).id.hex()}")
        assert kept.read_text("utf-8") == secret
        assert {stat.S_IMODE(each.stat().st_mode) for each in (path, kept)} == {0o600}
        assert path.with_name("seal-key.earlier").read_text("utf-8") == "".join(keys[:-1])
        assert run("keys", "seal", "--show").stdout == keys[-1]
    with database.connect() as connection:
        assert check(connection, folder) == []
    path.with_name("seal-key.earlier").unlink()
    failed(run("seal"), 1, "is signed by a key that is none of ours")
    path.with_name("seal-key.earlier").write_text("nonsense\n")
    failed(run("seal"), 1, "holds no public keys")


def test_it_seals_under_load_and_keeps_up(
    run: Run,
    environment: dict[str, str],
    database: Database,
    shop: Shop,
    folder: Path,
) -> None:
    key = VerifierKey.parse(run("keys", "seal").stdout)
    batch_id = shop.batch(quantity=100_000, per_user_limit=None)
    ages, done = [], threading.Event()

    def watch() -> None:
        with database.connect() as connection:
            while not done.is_set():
                ages.append(standing(connection).unsealed_seconds)
                time.sleep(0.05)

    def write(caller: int) -> None:
        began = time.monotonic()
        for number in range(WRITES_PER_SECOND * LOAD_SECONDS // CALLERS):
            time.sleep(max(0.0, began + number * CALLERS / WRITES_PER_SECOND - time.monotonic()))
            request = shop.request(f"load {caller} {number}")
            shop.ledger.do(use_cases.claim(request, batch_id, f"user-{caller}-{number}"))

    with sealing(environment):
        until(lambda: newest(database))
        threads = [threading.Thread(target=write, args=(caller,)) for caller in range(CALLERS)]
        watcher = threading.Thread(target=watch)
        for thread in (watcher, *threads):
            thread.start()
        for thread in threads:
            thread.join()
        done.set()
        watcher.join()
        head = shop.ledger.store.head()
        until(lambda: (signed := newest(database)) and signed.size == head)
    assert head >= WRITES_PER_SECOND * LOAD_SECONDS
    log.info("the oldest event that was not sealed was %.2f s old", max(ages))
    with database.connect() as connection:
        known = list(checkpoints.all_until(connection, head))
        assert check(connection, folder) == []
    assert [each.size for each in known] == sorted({each.size for each in known})
    for signed in known:
        assert open_checkpoint(signed.note, key, ORIGIN).root == signed.root


def test_killed_again_and_again_it_goes_on_from_where_it_was(
    run: Run, environment: dict[str, str], database: Database, shop: Shop, folder: Path
) -> None:
    run("keys", "seal")
    lives, chance = Lives(shop, seed=2), random.Random(2)
    lives.go_on(300)
    written: dict[Path, bytes] = {}
    for _ in range(6):
        with sealing(environment, signal.SIGKILL):
            deadline = time.monotonic() + 1.5 + chance.random()
            while time.monotonic() < deadline:
                lives.go_on(20)
        full = {
            path: path.read_bytes() for path in folder.glob("tile/**/*") if path.is_file() and ".p" not in str(path)
        }
        assert written.items() <= full.items()
        written = full
    with sealing(environment):
        head = lives.store.head()
        until(lambda: (signed := newest(database)) and signed.size == head)
    with database.connect() as connection:
        assert check(connection, folder) == []


def test_it_stops_with_one_line_when_the_log_is_not_what_was_sealed(
    run: Run, environment: dict[str, str], database: Database, shop: Shop
) -> None:
    run("keys", "seal")
    for _ in range(3):
        shop.coupon()
    with sealing(environment) as child:
        until(lambda: (signed := newest(database)) and signed.size == shop.ledger.store.head())
        with superuser(database) as owner:
            owner.execute("delete from events where notification_id = (select max(notification_id) from events)")
        assert child.wait(20) == 1
    failed(run("seal"), 1, "is gone, or is another one now (seal_broken)")
    assert run("ready").returncode == 0


def test_a_bundle_holds_single_coupons_or_everything(
    run: Run, database: Database, shop: Shop, folder: Path, tmp_path: Path
) -> None:
    key = SigningKey.generate(ORIGIN)
    coupons = [shop.coupon() for _ in range(3)]
    seal(database, folder, key)
    last = tmp_path / "last"
    last.write_bytes((folder / "checkpoint").read_bytes())
    shop.coupon()
    seal(database, folder, key)
    output = tmp_path / "bundle.zip"
    audit = [
        sys.executable,
        "-m",
        "coupon_ledger_audit",
        str(output),
        "--key",
        str(key.verifier()),
        "--last",
        str(last),
    ]
    single = run("bundle", "--coupon", coupons[0], "--coupon", coupons[2], "--since", str(last), "-o", str(output))
    assert single.stdout.endswith("events of 2 coupons\n"), single.stderr
    done = subprocess.run([*audit, "--coupon", coupons[0], "--coupon", coupons[2]], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    whole = run("bundle", "--whole", "--since", str(last), "-o", str(output))
    assert whole.stdout == f"{output} holds {shop.ledger.store.head()} events\n", whole.stderr
    done = subprocess.run([*audit, "--coupon", coupons[1]], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert [each.name for each in tmp_path.glob(".bundle*")] == []


def test_a_bundle_is_made_since_a_checkpoint_of_this_ledger_alone(
    run: Run, database: Database, shop: Shop, folder: Path, tmp_path: Path
) -> None:
    key = SigningKey.generate(ORIGIN)
    coupon_id = shop.coupon()
    seal(database, folder, key)
    signed = newest(database)
    assert signed is not None
    last, output = tmp_path / "last", tmp_path / "bundle.zip"
    elsewhere = sign(Checkpoint(ORIGIN, signed.size, bytes(32)), key)
    longer = sign(Checkpoint(ORIGIN, signed.size + 1, bytes(32)), key)
    between = sign(Checkpoint(ORIGIN, signed.size - 1, bytes(32)), key)
    wrong = [
        ("nonsense", "the earlier checkpoint: the note has no signatures"),
        (elsewhere, f"the earlier checkpoint of {signed.size} events is none of those of this ledger"),
        (longer, f"the earlier checkpoint of {signed.size + 1} events is none of those of this ledger"),
        (between, f"the earlier checkpoint of {signed.size - 1} events is none of those of this ledger"),
    ]
    for what in (("--whole",), ("--coupon", coupon_id)):
        for text, word in wrong:
            last.write_text(text, "utf-8")
            result = run("bundle", *what, "--since", str(last), "-o", str(output))
            failed(result, 2, word)
            assert (result.stdout, result.stderr.count("\n"), output.exists()) == ("", 1, False)
        # Another's signature on what is ours does no harm: what goes into the bundle is our own note.
        last.write_text(sign(Checkpoint(ORIGIN, signed.size, signed.root), SigningKey.generate(ORIGIN)), "utf-8")
        done = run("bundle", *what, "--since", str(last), "-o", str(output))
        assert done.returncode == 0, done.stderr
        audit = [sys.executable, "-m", "coupon_ledger_audit", str(output), "--key", str(key.verifier())]
        said = subprocess.run(audit, capture_output=True, text=True)
        assert f"the log begins with the {signed.size} events of an earlier checkpoint" in said.stdout, said.stdout
        output.unlink()
