"""Channels, contacts and failed deliveries over HTTP."""

from __future__ import annotations

import pytest

from ledger.telling import channels

PLAN = {"name": "Till", "kind": "webhook", "target": "https://hooks.example/", "wants": ["coupon.used", "alert"]}


def test_a_secret_is_shown_to_its_request_only(operator, auditor, ledger):
    made = operator.post("/v1/channels", PLAN, key="mine").ok(201)
    assert made["secret"].startswith("whsec_")
    assert operator.post("/v1/channels", PLAN, key="mine").ok(201) == made
    (listed,) = auditor.get("/v1/channels").ok()["channels"]
    assert listed["channel_id"] == made["channel_id"]
    assert listed["owner"].startswith("key:")
    assert (listed["wants"], listed["disabled_at"], "secret" in listed) == (PLAN["wants"], None, False)
    with ledger.store.connection() as connection:
        answers = connection.execute("select answer from requests").fetchall()
    assert made["secret"] not in str(answers)


def test_rotation_shows_the_new_secret_once_and_ends_the_show_of_the_old(operator, ledger):
    made = operator.post("/v1/channels", PLAN, key="mine").ok(201)
    path = f"/v1/channels/{made['channel_id']}/secrets"
    rotated = operator.post(path, key="turn").ok()
    assert rotated["secret"] not in (made["secret"], None)
    assert operator.post(path, key="turn").ok() == rotated
    assert operator.post("/v1/channels", PLAN, key="mine").ok(201)["secret"] is None
    (listed,) = operator.get("/v1/channels").ok()["channels"]
    assert listed["old_secret_until"] is not None
    facts = operator.post(path, key="again").refused(409, "secret_rotating")["facts"]
    assert facts == {"id": made["channel_id"], "until": listed["old_secret_until"]}
    assert operator.post(path, key="turn").ok() == rotated
    with ledger.store.connection() as connection:
        connection.execute("update channels set old_secret_until = clock_timestamp()")
    assert operator.post(path, key="again").ok()["secret"] not in (made["secret"], rotated["secret"], None)


def test_an_email_channel_signs_nothing(operator):
    made = operator.post("/v1/channels", {"name": "m", "kind": "email", "wants": ["reminder"]}).ok(201)
    assert (made["secret"], made["target"]) == (None, None)
    operator.post(f"/v1/channels/{made['channel_id']}/secrets").refused(404, "channel_not_found")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"target": "http://hooks.example/"}, "/target"),
        ({"target": "https://127.0.0.1/"}, "/target"),
        ({"target": None}, "/target"),
        ({"wants": []}, "/wants"),
        ({"wants": ["coupon.exploded"]}, "/wants"),
        ({"kind": "sms"}, "/kind"),
        ({"kind": "email", "target": "a@b.example"}, "/wants"),
        ({"name": ""}, "/name"),
    ],
)
def test_a_channel_must_be_whole(change, field, operator):
    answer = operator.post("/v1/channels", PLAN | change)
    answer.refused(422, "invalid_field")
    assert answer.pointers() == [field]
    assert operator.get("/v1/channels").ok()["channels"] == []


def test_a_channel_is_deleted_once(operator, scene):
    channel_id = scene.channel()
    assert operator.delete(f"/v1/channels/{channel_id}").ok() == {"channel_id": channel_id}
    assert operator.get("/v1/channels").ok()["channels"] == []
    operator.delete(f"/v1/channels/{channel_id}").refused(404, "channel_not_found")


def test_a_disabled_channel_is_enabled_and_tested(operator, scene, ledger):
    channel_id = scene.channel()
    with ledger.store.connection() as connection:
        channels.disable(connection, channel_id)
        assert operator.get("/v1/channels").ok()["channels"][0]["disabled_at"] is not None
        operator.post(f"/v1/channels/{channel_id}/enable").ok()
        assert operator.get("/v1/channels").ok()["channels"][0]["disabled_at"] is None
        operator.post(f"/v1/channels/{channel_id}/test").ok()
        rows = connection.execute("select type, channel_id from deliveries").fetchall()
    assert rows == [{"type": "ping", "channel_id": channel_id}]


def test_failed_deliveries_are_listed_and_retried(operator, scene, stranger):
    ids = [scene.failed_delivery() for _ in range(3)]
    first = operator.get("/v1/failed-deliveries", limit=2).ok()
    assert [each["delivery_id"] for each in first["deliveries"]] == ids[:2]
    assert first["deliveries"][0]["error"] == "HTTP 500"
    rest = operator.get("/v1/failed-deliveries", limit=2, cursor=first["next_cursor"]).ok()
    assert ([each["delivery_id"] for each in rest["deliveries"]], rest["next_cursor"]) == (ids[2:], None)
    channel_id = rest["deliveries"][0]["channel_id"]
    one = operator.get("/v1/failed-deliveries", channel_id=channel_id).ok()["deliveries"]
    assert [each["delivery_id"] for each in one] == ids[2:]
    path = "/v1/failed-deliveries/retries"
    for caller, asked in ((stranger("operator"), ids[:1]), (operator, [*ids, 999_999])):
        caller.post(path, {"delivery_ids": asked}).refused(404, "delivery_not_found")
    assert len(operator.get("/v1/failed-deliveries").ok()["deliveries"]) == 3
    assert operator.post(path, {"delivery_ids": ids[:2]}).ok() == {"delivery_ids": ids[:2]}
    assert len(operator.get("/v1/failed-deliveries").ok()["deliveries"]) == 1
    assert stranger("auditor").get("/v1/failed-deliveries").ok()["deliveries"] == []


def test_contacts_are_kept_and_erased(as_role, ledger, stranger):
    shopper = as_role("shopper-app")
    path = "/v1/users/a%2Fb/contact"

    def known():
        with ledger.store.connection() as connection:
            return channels.contact_of(connection, "merchant-1", "a/b")

    assert shopper.put(path, {"email": "one@mail.example"}).ok() == {"user_id": "a/b"}
    assert shopper.put(path, {"email": "two@mail.example"}).ok() == {"user_id": "a/b"}
    assert stranger("shopper-app").delete(path).ok() == {"user_id": "a/b"}
    assert known() == "two@mail.example"
    for _ in range(2):
        assert shopper.delete(path).ok() == {"user_id": "a/b"}
        assert known() is None
    assert ledger.store.head() == 0  # nothing of it is in the log


def test_a_contact_is_an_address(as_role):
    shopper = as_role("shopper-app")
    answer = shopper.put("/v1/users/u/contact", {"email": "nobody"})
    answer.refused(422, "invalid_field")
    assert answer.pointers() == ["/email"]
    shopper.put("/v1/users/u/contact", {"email": "a@b.example", "phone": "1"}).refused(422, "invalid_field")
    shopper.put("/v1/users/u/contact", []).refused(422, "invalid_field")
    shopper.put("/v1/users/u/contact?x=1", {"email": "a@b.example"}).refused(422, "invalid_field")
    shopper.delete("/v1/users/u/contact?x=1").refused(422, "invalid_field")
