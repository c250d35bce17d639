"""``coupon-ledger void``: a batch or a job undone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ledger import code_jobs, use_cases
from ledger.codes import CodeKeys, CodeList
from ledger.typed_codes import exchange


@pytest.fixture
def run(database):
    """Runs ``coupon-ledger void`` against the test's ledger."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        settings = {"DATABASE_URL": database.url, "COUPON_LEDGER_SCHEMA": database.schema}
        return subprocess.run(
            [sys.executable, "-m", "coupon_ledger", "void", *arguments],
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def test_walks_every_page_and_counts_and_may_be_run_again(run, shop, ledger):
    batch_id = shop.batch(quantity=1_000, per_user_limit=None)
    ledger.do(use_cases.issue(shop.request("import-1"), batch_id, ["user-1"] * 240))
    ledger.do(use_cases.issue(shop.request("import-2"), batch_id, ["user-1"] * 10))
    spent = ledger.do(use_cases.claim(shop.request("import-3"), batch_id, "user-1")).answer["coupon_id"]
    ledger.do(use_cases.redeem(shop.request(), "till-1", coupon_id=spent, discount_minor=1))
    undo = ("--batch", batch_id, "--reason", "by mistake")
    for arguments, line in (
        ((*undo, "--job", "import-2"), "voided 10"),
        ((*undo, "--job-prefix", "import-3"), "voided 0, coupon_used 1"),
        (undo, "voided 240, "),
        (undo, "voided 0, "),
    ):
        result = run(*arguments)
        assert (result.returncode, result.stderr) == (0, ""), result.stderr
        assert result.stdout.startswith(f"{batch_id} {line}")
        assert result.stdout.count("\n") == 1
    counts = result.stdout.removeprefix(f"{batch_id} ").strip().split(", ")
    assert sorted(counts) == ["coupon_used 1", "coupon_void 250", "voided 0"]


def test_voids_what_a_set_of_codes_gave(run, shop, ledger):
    batch_id = shop.batch(per_user_limit=None)
    keys = CodeKeys.parse("test=" + "k" * 32)
    codes_id = code_jobs.import_codes(ledger, keys, shop.request(), batch_id, CodeList.read(["LEAKED"])).answer[
        "codes_id"
    ]
    exchange(ledger, keys, shop.request(), "leaked", "user-1")
    shop.coupon(batch_id=batch_id)
    result = run("--batch", batch_id, "--reason", "leak", "--codes", codes_id)
    assert (result.returncode, result.stdout) == (0, f"{batch_id} voided 1\n"), result.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--batch", "{batch_id}"), 2),
        (("--reason", "by mistake"), 2),
        (("--batch", "{batch_id}", "--reason", ""), 2),
        (("--batch", "{batch_id}", "--reason", "two\nlines"), 2),
        (("--batch", "{batch_id}", "--reason", "r", "--job", "a", "--job-prefix", "a"), 2),
        (("--batch", "{batch_id}", "--reason", "r", "--job", "a", "--codes", "a"), 2),
        (("--batch", "nowhere", "--reason", "r"), 1),
    ],
)
def test_what_it_cannot_do_is_one_line(arguments, code, run, shop):
    batch_id = shop.batch()
    result = run(*(argument.format(batch_id=batch_id) for argument in arguments))
    assert (result.returncode, result.stdout) == (code, "")
    assert result.stderr.startswith("coupon-ledger: ")
    assert result.stderr.count("\n") == 1
