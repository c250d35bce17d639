"""The API through Flask's test client, on a real ledger: callers with keys, and one valid call of each operation."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import orjson
import pytest
from flask_openapi3.openapi import OpenAPI
from werkzeug.test import TestResponse

from api import keys
from api.app import create_app
from ledger import code_jobs, till, use_cases
from ledger.application import Ledger
from ledger.codes import CodeKeys
from ledger.coupon import Redemption
from ledger.database import Database
from ledger.issuance.uploads import take_file
from ledger.personal_keys import PersonalKeys
from ledger.rules import RulePlan
from ledger.telling import channels, deliveries, messages
from projections.runner import Runner
from tests.http.jobs import step
from tests.postgres.seals import seal
from tests.unit.specs import TERMS

CODE_KEYS = CodeKeys.parse("test=" + "k" * 32)
PERSONAL_KEYS = PersonalKeys.parse("test=" + "p" * 32)
PROBLEM_MEMBERS = {"type", "title", "status", "detail", "code"}


@dataclass(frozen=True)
class Answer:
    """A response, with short words for what tests ask of it."""

    response: TestResponse

    @property
    def status(self) -> int:
        return self.response.status_code

    @property
    def headers(self) -> Any:
        return self.response.headers

    @property
    def json(self) -> Any:
        return orjson.loads(self.response.data)

    def ok(self, status: int = 200) -> Any:
        """The JSON of an answer that must have this status."""
        assert self.status == status, self.response.data
        assert self.response.content_type == "application/json"
        return self.json

    def refused(self, status: int, code: str) -> Any:
        """The problem of an answer that must be this refusal."""
        assert (self.status, self.json["code"]) == (status, code), self.response.data
        assert self.response.content_type == "application/problem+json"
        assert self.json.keys() - {"errors", "facts"} == PROBLEM_MEMBERS
        assert self.json["status"] == status
        assert self.json["type"] == f"/problems/{code}"
        assert "Traceback" not in self.response.text
        return self.json

    def pointers(self) -> list[str]:
        """The fields that the problem names."""
        return [error.get("pointer", error.get("parameter")) for error in self.json["errors"]]


class Caller:
    """Somebody with a key; every write gets an idempotency key of its own unless one is named."""

    _numbers = count(1)

    def __init__(self, app: OpenAPI, token: str | None) -> None:
        self.client = app.test_client()
        self.token = token

    def get(self, path: str, headers: dict[str, str] | None = None, **query: Any) -> Answer:
        return Answer(self.client.get(path, query_string=query or None, headers=self._headers() | (headers or {})))

    def post(
        self,
        path: str,
        body: Any = None,
        *,
        key: str | None = "",
        headers: dict[str, str] | None = None,
        data: bytes | None = None,
        content_type: str | None = "application/json",
    ) -> Answer:
        """A write; ``key=None`` sends none, ``data`` sends bytes as they are, a body of bytes is a file of users."""
        if isinstance(body, bytes):
            data, content_type = body, "text/csv"
        sent = self._headers()
        if key is not None:
            sent["Idempotency-Key"] = key or f"http-{next(self._numbers)}"
        if data is None and body is not None:
            data = orjson.dumps(body)
        kind = content_type if data is not None else None
        return Answer(self.client.post(path, data=data, content_type=kind, headers=sent | (headers or {})))

    def put(self, path: str, body: Any) -> Answer:
        """A write that needs no key."""
        data = orjson.dumps(body)
        return Answer(self.client.put(path, data=data, content_type="application/json", headers=self._headers()))

    def delete(self, path: str) -> Answer:
        """A removal, which needs no key."""
        return Answer(self.client.delete(path, headers=self._headers()))

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


Call = tuple[str, dict[str, Any] | bytes | None]


class Scene:
    """One valid call of each operation, on objects made for it."""

    def __init__(self, shop: Any, seal_folder: Path | None = None) -> None:
        self.shop = shop
        self.seal_folder = seal_folder
        self.numbers = count(1)

    def call(self, operation: str) -> Call:
        """Path and body (``None`` for reads and bodiless writes) of a call that an allowed caller may make."""
        found: Call = getattr(self, f"_{operation}")()
        return found

    @staticmethod
    def template() -> dict[str, Any]:
        return {"name": "Five off", "terms": {"benefit": {"kind": "amount_off", "value_minor": 500}, "currency": "EUR"}}

    def locked(self, order_id: str = "order-1", **lock: Any) -> tuple[str, str]:
        """A coupon that the order holds, and its lock's id."""
        coupon_id = self.shop.coupon()
        work = use_cases.lock(self.shop.request(), order_id, user_id="user-1", coupon_ids=[coupon_id], **lock)
        return coupon_id, self.shop.ledger.do(work).answer["locks"][0]["lock_id"]

    def used(self, order_id: str = "order-1", discount_minor: int = 100) -> str:
        """A coupon that the order used."""
        coupon_id, _ = self.locked(order_id)
        redemption = Redemption(coupon_id=coupon_id, discount_minor=discount_minor)
        self.shop.ledger.do(use_cases.confirm(self.shop.request(), order_id, [redemption]))
        return coupon_id

    def template_id(self) -> str:
        batch = self.shop.batch()
        history = self.shop.ledger.store.history(f"batch-{batch}")
        return history[0].event.template_id

    def _create_template(self) -> Call:
        return "/v1/templates", self.template()

    def _list_templates(self) -> Call:
        return "/v1/templates", None

    def _revise_template(self) -> Call:
        return f"/v1/templates/{self.template_id()}/revisions", self.template()

    def _get_template(self) -> Call:
        return f"/v1/templates/{self.template_id()}", None

    def _create_user_note(self) -> Call:
        return f"/v1/users/user-{next(self.numbers)}/notes", {"text": "Called about the voucher."}

    def _list_user_notes(self) -> Call:
        return "/v1/users/user-1/notes", None

    def _delete_personal_data(self) -> Call:
        return "/v1/users/user-1/personal-data", None

    def _create_batch(self) -> Call:
        plan = {"name": "June", "quantity": 10, "valid_for_seconds": 3_600}
        return "/v1/batches", {"template_id": self.template_id(), **plan}

    def _list_batches(self) -> Call:
        return "/v1/batches", None

    def _get_batch(self) -> Call:
        return f"/v1/batches/{self.shop.batch()}", None

    def _get_batch_balance(self) -> Call:
        return f"/v1/batches/{self.shop.batch()}/balance", None

    def in_review(self) -> str:
        """The id of a batch that somebody else submitted."""
        batch_id: str = self.shop.batch(start=False, needs_approval=True)
        self.shop.ledger.do(use_cases.submit_batch(self.shop.request(), batch_id))
        return batch_id

    def _submit_batch(self) -> Call:
        return f"/v1/batches/{self.shop.batch(start=False)}/submit", None

    def _approve_batch(self) -> Call:
        return f"/v1/batches/{self.in_review()}/approve", None

    def _reject_batch(self) -> Call:
        return f"/v1/batches/{self.in_review()}/reject", {"reason": "too much"}

    def _start_batch(self) -> Call:
        return f"/v1/batches/{self.shop.batch(start=False)}/start", None

    def _pause_batch(self) -> Call:
        return f"/v1/batches/{self.shop.batch()}/pause", {"reason": "lunch"}

    def _resume_batch(self) -> Call:
        batch_id = self.shop.batch()
        self.shop.ledger.do(use_cases.pause_batch(self.shop.request(), batch_id, reason="lunch"))
        return f"/v1/batches/{batch_id}/resume", None

    def _stop_batch(self) -> Call:
        return f"/v1/batches/{self.shop.batch()}/stop", {"reason": "over"}

    def _change_batch_quantity(self) -> Call:
        return f"/v1/batches/{self.shop.batch(quantity=100)}/quantity", {"expected": 100, "target": 200}

    def _change_batch_budget(self) -> Call:
        body = {"expected_minor": 10_000, "target_minor": 20_000}
        return f"/v1/batches/{self.shop.batch(budget_minor=10_000)}/budget", body

    def _issue_coupons(self) -> Call:
        return f"/v1/batches/{self.shop.batch()}/coupons", {"user_ids": ["user-1", "user-2"]}

    def _void_batch_coupons(self) -> Call:
        batch_id = self.shop.batch()
        self.shop.coupon(batch_id=batch_id)
        return f"/v1/batches/{batch_id}/voids", {"reason": "by mistake"}

    def _request_claim_reminder(self) -> Call:
        batch_id = self.shop.batch(claim_from=datetime.now(UTC) + timedelta(days=2))
        return f"/v1/batches/{batch_id}/claim-reminders", {"user_id": "user-1"}

    def _cancel_claim_reminder(self) -> Call:
        batch_id = self.shop.batch(claim_from=datetime.now(UTC) + timedelta(days=2))
        self.shop.ledger.do(use_cases.request_claim_reminder(self.shop.request(), batch_id, "user-1"))
        return f"/v1/batches/{batch_id}/claim-reminders/cancel", {"user_id": "user-1"}

    def _claim_coupon(self) -> Call:
        return f"/v1/batches/{self.shop.batch()}/claims", {"user_id": "user-1"}

    def _list_order_coupons(self) -> Call:
        self.used()
        return "/v1/orders/order-1/coupons", None

    def _quote_order(self) -> Call:
        lines = [{"line_id": "1", "product_id": "tea", "unit_price_minor": 2_000}]
        body = {"user_id": "user-1", "coupon_ids": [self.shop.coupon()], "basket": {"currency": "EUR", "lines": lines}}
        return "/v1/orders/order-1/quotes", body

    def _lock_coupons(self) -> Call:
        return "/v1/orders/order-1/locks", {"user_id": "user-1", "coupon_ids": [self.shop.coupon()]}

    def _confirm_coupons(self) -> Call:
        redemption = {"coupon_id": self.locked()[0], "discount_minor": 100}
        return "/v1/orders/order-1/confirmations", {"redemptions": [redemption]}

    def _unlock_coupons(self) -> Call:
        return "/v1/orders/order-1/unlocks", {"coupon_ids": [self.locked()[0]], "reason": "left"}

    def _return_coupons(self) -> Call:
        return "/v1/orders/order-1/returns", {"coupon_ids": [self.used()], "reason": "order_cancelled"}

    def _get_coupon(self) -> Call:
        return f"/v1/coupons/{self.shop.coupon()}", None

    def _list_coupon_events(self) -> Call:
        return f"/v1/coupons/{self.shop.coupon()}/events", None

    def _void_coupon(self) -> Call:
        return f"/v1/coupons/{self.shop.coupon()}/void", {"reason": "fraud"}

    def _extend_coupon(self) -> Call:
        extension = {"valid_until": "2031-06-01T00:00:00Z", "reason": "sorry"}
        return f"/v1/coupons/{self.shop.coupon()}/extensions", extension

    def _transfer_coupon(self) -> Call:
        batch_id = self.shop.batch(terms=replace(TERMS, transferable=True))
        coupon_id = self.shop.coupon(batch_id=batch_id)
        return f"/v1/coupons/{coupon_id}/transfers", {"user_id": "user-1", "to_user_id": "user-2"}

    def _share_coupon(self) -> Call:
        batch_id = self.shop.batch(terms=replace(TERMS, shareable=True))
        coupon_id = self.shop.coupon(batch_id=batch_id)
        return f"/v1/coupons/{coupon_id}/shares", {"user_id": "user-1", "with_user_ids": ["user-2"]}

    def _list_user_coupons(self) -> Call:
        return "/v1/users/user-1/coupons", None

    def _get_user_coupon_summary(self) -> Call:
        return "/v1/users/user-1/coupons/summary", None

    def _list_batches_csv(self) -> Call:
        return "/v1/batches.csv", None

    def _get_batch_balance_csv(self) -> Call:
        return f"/v1/batches/{self.shop.batch()}/balance.csv", None

    def _get_daily_statistics(self) -> Call:
        return "/v1/statistics/daily?from=2026-01-01&until=2027-01-01", None

    def _get_daily_statistics_csv(self) -> Call:
        return "/v1/statistics/daily.csv?from=2026-01-01&until=2027-01-01", None

    def _get_funnel(self) -> Call:
        return "/v1/statistics/funnel", None

    def _get_funnel_csv(self) -> Call:
        return "/v1/statistics/funnel.csv", None

    def _get_liability(self) -> Call:
        return "/v1/statistics/liability", None

    def _get_liability_csv(self) -> Call:
        return "/v1/statistics/liability.csv", None

    def _create_rule(self) -> Call:
        return "/v1/rules", {"trigger": "registered", "batch_id": self.shop.batch()}

    def _list_rules(self) -> Call:
        return "/v1/rules", None

    def _stop_rule(self) -> Call:
        plan = RulePlan(trigger="registered", batch_id=self.shop.batch())
        created = self.shop.ledger.do(use_cases.create_rule(self.shop.request(), plan))
        return f"/v1/rules/{created.answer['rule_id']}/stop", {"reason": "over"}

    def codes(self, count: int = 1) -> str:
        """The id of a new set of codes."""
        work = code_jobs.generate(self.shop.ledger, CODE_KEYS, self.shop.request(), self.shop.batch(), count)
        codes_id: str = work.answer["codes_id"]
        return codes_id

    def code(self) -> str:
        """A code that nobody has exchanged yet."""
        return next(code_jobs.export(self.shop.ledger, CODE_KEYS, self.shop.merchant_id, self.codes()))

    def _generate_codes(self) -> Call:
        return f"/v1/batches/{self.shop.batch()}/codes", {"count": 3}

    def _import_codes(self) -> Call:
        return f"/v1/batches/{self.shop.batch()}/code-imports", {"codes": ["SUMMER-1", "SUMMER-2"]}

    def _get_codes(self) -> Call:
        return f"/v1/codes/{self.codes()}", None

    def _get_codes_export(self) -> Call:
        return f"/v1/codes/{self.codes()}/export", None

    def _confirm_code_export(self) -> Call:
        return f"/v1/codes/{self.codes()}/export-confirmations", None

    def _revoke_codes(self) -> Call:
        return f"/v1/codes/{self.codes()}/revocations", {"reason": "leak"}

    def _redeem_code(self) -> Call:
        return "/v1/codes/redemptions", {"code": self.code(), "user_id": "user-1"}

    def _get_till_code(self) -> Call:
        return f"/v1/coupons/{self.shop.coupon()}/till-code?user_id=user-1", None

    def _get_coupon_qr_svg(self) -> Call:
        return f"/v1/coupons/{self.shop.coupon()}/qr.svg?user_id=user-1", None

    def _get_coupon_qr_png(self) -> Call:
        return f"/v1/coupons/{self.shop.coupon()}/qr.png?user_id=user-1", None

    def _redeem_in_store(self) -> Call:
        code = till.static_code(CODE_KEYS, self.shop.merchant_id, self.shop.coupon(), "user-1")
        return "/v1/redemptions", {"code": code, "order_id": "till-1", "discount_minor": 500}

    def job(self) -> str:
        """The id of a new job of mass issuance."""
        receipt = take_file(
            self.shop.ledger,
            lambda digest: self.shop.request(),
            self.shop.batch(),
            io.BytesIO(b"user_id\nuser-1\n"),
            "csv",
            gzipped=False,
        )
        job_id: str = receipt.answer["job_id"]
        return job_id

    def _create_issuance_job(self) -> Call:
        return f"/v1/batches/{self.shop.batch()}/issuance-jobs", b"user_id\nuser-1\n"

    def _list_issuance_jobs(self) -> Call:
        return "/v1/issuance-jobs", None

    def _get_issuance_job(self) -> Call:
        return f"/v1/issuance-jobs/{self.job()}", None

    def _get_issuance_job_progress(self) -> Call:
        job_id = self.job()
        while step(self.shop.ledger):
            pass
        return f"/v1/issuance-jobs/{job_id}/progress", None

    def _get_issuance_job_failures(self) -> Call:
        return f"/v1/issuance-jobs/{self.job()}/failures", None

    def _undo_issuance_job(self) -> Call:
        return f"/v1/issuance-jobs/{self.job()}/undo", {"reason": "by mistake"}

    def sealed(self) -> str:
        """A coupon that the newest checkpoint covers."""
        coupon_id: str = self.shop.coupon()
        assert self.seal_folder is not None
        seal(self.shop.ledger.store.database, self.seal_folder)
        return coupon_id

    def _get_checkpoint(self) -> Call:
        self.sealed()
        return "/v1/audit/checkpoint", None

    def _get_checkpoint_note(self) -> Call:
        self.sealed()
        return "/v1/audit/checkpoint.txt", None

    def _get_coupon_proof(self) -> Call:
        return f"/v1/coupons/{self.sealed()}/proof", None

    def _get_coupon_proof_bundle(self) -> Call:
        return f"/v1/coupons/{self.sealed()}/proof.zip", None

    def _get_coupon_timeline(self) -> Call:
        return f"/v1/coupons/{self.used()}/timeline", None

    def _get_coupon_timeline_csv(self) -> Call:
        return f"/v1/coupons/{self.used()}/timeline.csv", None

    def _get_coupon_state(self) -> Call:
        return f"/v1/coupons/{self.used()}/state", None

    def _get_coupon_difference(self) -> Call:
        return f"/v1/coupons/{self.used()}/difference?from_position=1", None

    def _get_order_timeline(self) -> Call:
        return "/v1/orders/order-1/timeline", None

    def _get_order_timeline_csv(self) -> Call:
        return "/v1/orders/order-1/timeline.csv", None

    def _get_order_state(self) -> Call:
        return "/v1/orders/order-1/state", None

    def _get_user_timeline(self) -> Call:
        return "/v1/users/user-1/timeline", None

    def _get_user_timeline_csv(self) -> Call:
        return "/v1/users/user-1/timeline.csv", None

    def _get_user_state(self) -> Call:
        return "/v1/users/user-1/state", None

    def _get_batch_timeline(self) -> Call:
        return f"/v1/batches/{self.shop.batch()}/timeline", None

    def _get_batch_timeline_csv(self) -> Call:
        return f"/v1/batches/{self.shop.batch()}/timeline.csv", None

    def _get_batch_state(self) -> Call:
        return f"/v1/batches/{self.shop.batch()}/state", None

    def _get_order_difference(self) -> Call:
        return "/v1/orders/order-1/difference", None

    def _get_user_difference(self) -> Call:
        return "/v1/users/user-1/difference", None

    def _get_batch_difference(self) -> Call:
        return f"/v1/batches/{self.shop.batch()}/difference?from_position=1", None

    def _explain_refusal(self) -> Call:
        asked = {"order_id": "order-1", "coupon_ids": [self.used()], "user_id": "user-1"}
        return "/v1/audit/explanations", {"lock": asked, "code": "coupon_used"}

    def _list_events(self) -> Call:
        return "/v1/events", None

    def channel(self, **plan: Any) -> str:
        """The id of a new channel for webhooks."""
        plan = {"name": "Till", "kind": "webhook", "target": "https://hooks.example/", "wants": ["alert"], **plan}
        channel_id: str = channels.register(self.shop.ledger, self.shop.request(), **plan).answer["channel_id"]
        return channel_id

    def failed_delivery(self) -> int:
        """The id of a delivery that was given up."""
        channel_id = self.channel()
        with self.shop.ledger.store.connection() as connection:
            deliveries.enqueue(
                connection, [deliveries.Delivery(f"of {channel_id}", channel_id, self.shop.merchant_id, "alert", {})]
            )
            (claimed,) = deliveries.claim(connection, {channel_id: 1})
            deliveries.settle(connection, claimed, "dead", error="HTTP 500")
        return claimed.delivery_id

    def message_id(self) -> str:
        """The id of a message to all users."""
        sent = messages.send(self.shop.ledger, self.shop.request(), title="Hello", body="All", user_ids=None)
        message_id: str = sent.answer["message_id"]
        return message_id

    def _send_message(self) -> Call:
        return "/v1/messages", {"title": f"Hello {next(self.numbers)}", "body": "Five off\nuntil Sunday."}

    def _list_messages(self) -> Call:
        return "/v1/messages", None

    def _withdraw_message(self) -> Call:
        return f"/v1/messages/{self.message_id()}/withdraw", None

    def _list_user_messages(self) -> Call:
        return "/v1/users/user-1/messages", None

    def _read_user_messages(self) -> Call:
        return "/v1/users/user-1/messages/read", {"message_ids": [self.message_id()]}

    def _put_contact(self) -> Call:
        return "/v1/users/user-1/contact", {"email": "user-1@shop.example"}

    def _delete_contact(self) -> Call:
        return "/v1/users/user-1/contact", None

    def _create_channel(self) -> Call:
        target = "https://hooks.example/coupons"
        return "/v1/channels", {"name": "Till", "kind": "webhook", "target": target, "wants": ["coupon.used"]}

    def _list_channels(self) -> Call:
        return "/v1/channels", None

    def _rotate_channel_secret(self) -> Call:
        return f"/v1/channels/{self.channel()}/secrets", None

    def _test_channel(self) -> Call:
        return f"/v1/channels/{self.channel()}/test", None

    def _enable_channel(self) -> Call:
        return f"/v1/channels/{self.channel()}/enable", None

    def _delete_channel(self) -> Call:
        return f"/v1/channels/{self.channel()}", None

    def _list_failed_deliveries(self) -> Call:
        return "/v1/failed-deliveries", None

    def _retry_deliveries(self) -> Call:
        return "/v1/failed-deliveries/retries", {"delivery_ids": [self.failed_delivery()]}


@pytest.fixture
def app(ledger: Ledger, seal_folder: Path) -> OpenAPI:
    """The application on an empty ledger."""
    return create_app(ledger, CODE_KEYS, seal_folder=seal_folder, personal_keys=PERSONAL_KEYS)


@pytest.fixture
def seal_folder(tmp_path: Path) -> Path:
    """Where the log's seal is."""
    return tmp_path / "seal"


@pytest.fixture
def scene(shop: Any, seal_folder: Path) -> Scene:
    """Valid calls for merchant-1."""
    return Scene(shop, seal_folder)


@pytest.fixture
def as_role(app: OpenAPI, ledger: Ledger) -> Callable[..., Caller]:
    """Makes a caller of a role, of merchant-1 unless told otherwise."""

    def make(role: keys.Role, merchant_id: str = "merchant-1") -> Caller:
        with ledger.store.connection() as connection:
            return Caller(app, keys.create(connection, merchant_id, role, "test"))

    return make


@pytest.fixture
def nobody(app: OpenAPI) -> Caller:
    """A caller without a key."""
    return Caller(app, None)


@pytest.fixture
def operator(as_role: Callable[..., Caller]) -> Caller:
    """An operator of merchant-1."""
    return as_role("operator")


@pytest.fixture
def orders(as_role: Callable[..., Caller]) -> Caller:
    """An order system of merchant-1."""
    return as_role("orders")


@pytest.fixture
def auditor(as_role: Callable[..., Caller]) -> Caller:
    """An auditor of merchant-1."""
    return as_role("auditor")


@pytest.fixture
def stranger(as_role: Callable[..., Caller]) -> Callable[[keys.Role], Caller]:
    """Makes a caller of another merchant."""
    return lambda role: as_role(role, "merchant-2")


@pytest.fixture
def project(database: Database) -> Callable[[], int]:
    """Brings the read models up to the head of the log."""
    return Runner(database).catch_up
