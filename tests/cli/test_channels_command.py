"""``coupon-ledger channels``: what could not be delivered, and again."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from ledger.telling import channels, deliveries
from ledger.telling.deliveries import Delivery


@pytest.fixture
def run(database):
    """Runs ``coupon-ledger channels`` against the test's ledger."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        settings = {"DATABASE_URL": database.url, "COUPON_LEDGER_SCHEMA": database.schema}
        return subprocess.run(
            [sys.executable, "-m", "coupon_ledger", "channels", *arguments],
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def test_lists_what_was_given_up_and_tries_it_again(run, shop, ledger):
    plan = {"name": "Till", "kind": "webhook", "target": "https://hooks.example/", "wants": ["alert"]}
    channel_id = channels.register(ledger, shop.request(), **plan).answer["channel_id"]
    with ledger.store.connection() as connection:
        deliveries.enqueue(connection, [Delivery("one", channel_id, shop.merchant_id, "alert", {})])
        (claimed,) = deliveries.claim(connection, {channel_id: 1})
        deliveries.settle(connection, claimed, "dead", error="HTTP 500")
        secret = connection.execute("select secret from channels").fetchall()[0]["secret"]
    listed = run("list", "--json")
    assert [each["channel_id"] for each in json.loads(listed.stdout)] == [channel_id]
    assert secret not in listed.stdout + run("list").stdout
    assert run("list", "--merchant", "another").stdout == "none\n"
    (failed,) = json.loads(run("failed", "--channel", channel_id, "--json").stdout)
    assert (failed["delivery_id"], failed["error"]) == (claimed.delivery_id, "HTTP 500")
    some = run("retry", str(claimed.delivery_id), "999999")
    assert (some.returncode, some.stdout) == (1, f"{claimed.delivery_id} is due again\n")
    assert some.stderr.endswith("(delivery_not_found)\n")
    assert run("failed").stdout == "none\n"
    assert run("retry", str(claimed.delivery_id)).returncode == 1
