"""docs/orders.md is run: every call, in its order, with the answers that it shows."""

from __future__ import annotations

import json
import re
from itertools import count
from pathlib import Path
from typing import Any

from api import keys
from api.app import create_app
from ledger.application import Ledger

PAGE = (Path(__file__).parents[2] / "docs" / "orders.md").read_text("utf-8")
CALL = re.compile(r"```http\n(GET|POST) (\S+)\n(?:(\{.*\})\n)?-> (\d+) (\{.*\})\n```")
ROLES = {"templates": "operator", "batches": "operator", "orders": "orders", "coupons": "auditor"}


def test_every_call_answers_as_shown(ledger: Ledger) -> None:
    client, numbers = create_app(ledger).test_client(), count(1)
    with ledger.store.connection() as connection:
        tokens = {role: keys.create(connection, "acme", role, role) for role in keys.ROLES}
    known: dict[str, str] = {}
    calls = CALL.findall(PAGE)
    assert len(calls) == PAGE.count("```http")
    for method, path, body, status, shown in calls:
        role = "shopper-app" if path.endswith("/claims") else ROLES[path.split("/")[2]]
        answer = client.open(
            fill(path, known),
            method=method,
            data=fill(body, known) or None,
            content_type="application/json" if body else None,
            headers={"Authorization": f"Bearer {tokens[role]}", "Idempotency-Key": f"call-{next(numbers)}"},
        )
        assert answer.status_code == int(status), (path, answer.text)
        learn(json.loads(shown), answer.get_json(force=True), known)
        assert contains(answer.get_json(force=True), json.loads(fill(shown, known))), (path, answer.text)


def fill(text: str, known: dict[str, str]) -> str:
    """The text with what earlier answers named."""
    return re.sub(r"<(\w+)>", lambda found: known.get(found[1], found[0]), text)


def learn(shown: dict[str, Any], got: dict[str, Any], known: dict[str, str]) -> None:
    """Remember the real value wherever the page shows a name in angle brackets."""
    for name, value in shown.items():
        if isinstance(value, str) and value.startswith("<") and name in got:
            known.setdefault(value[1:-1], got[name])


def contains(got: Any, shown: Any) -> bool:
    """Whether the answer holds all that the page shows; it may hold more."""
    if isinstance(shown, dict):
        return all(name in got and contains(got[name], value) for name, value in shown.items())
    if isinstance(shown, list):
        return len(got) == len(shown) and all(map(contains, got, shown))
    return bool(got == shown)
