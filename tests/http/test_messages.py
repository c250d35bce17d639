"""Messages over HTTP: sent by operators, read in the shop's application."""

from __future__ import annotations

import pytest

from ledger.telling import messages


@pytest.fixture
def shopper(as_role):
    """The shop's application."""
    return as_role("shopper-app")


def test_a_message_to_all_reaches_whoever_looks(operator, shopper, ledger):
    sent = operator.post("/v1/messages", {"title": "Hello", "body": "Five off.\n<b>Today</b>"}).ok(201)
    assert sent["to_all"] is True
    page = shopper.get("/v1/users/a%2Fb/messages").ok()
    assert (page["user_id"], page["unread"], page["next_cursor"]) == ("a/b", 1, None)
    (message,) = page["messages"]
    assert (message["message_id"], message["title"], message["kind"]) == (sent["message_id"], "Hello", "message")
    assert message["body"] == "Five off.\n<b>Today</b>"  # text as it was sent; who shows it escapes it
    assert message["read_at"] is None
    assert message["expires_at"] > message["sent_at"]


def test_a_message_to_some_reaches_them_alone(operator, shopper):
    operator.post("/v1/messages", {"title": "Hi", "body": "x", "user_ids": ["user-1", "user-2"]}).ok(201)
    assert [shopper.get(f"/v1/users/user-{n}/messages").ok()["unread"] for n in (1, 2, 3)] == [1, 1, 0]


def test_read_marks(operator, shopper):
    ids = [operator.post("/v1/messages", {"title": f"t{n}", "body": "x"}).ok(201)["message_id"] for n in range(3)]
    path = "/v1/users/user-1/messages/read"
    assert shopper.post(path, {"message_ids": [ids[0], "0" * 26]}, key=None).ok() == {"user_id": "user-1", "read": 1}
    page = shopper.get("/v1/users/user-1/messages", unread="true").ok()
    assert ([message["title"] for message in page["messages"]], page["unread"]) == (["t2", "t1"], 2)
    assert shopper.post(path, key=None).ok()["read"] == 2
    page = shopper.get("/v1/users/user-1/messages").ok()
    assert (len(page["messages"]), page["unread"]) == (3, 0)
    assert all(message["read_at"] for message in page["messages"])
    assert shopper.post(path, key=None).ok()["read"] == 0


def test_pages(operator, shopper):
    for n in range(5):
        operator.post("/v1/messages", {"title": f"t{n}", "body": "x"}).ok(201)
    for caller, path in ((shopper, "/v1/users/user-1/messages"), (operator, "/v1/messages")):
        first = caller.get(path, limit=3).ok()
        assert [message["title"] for message in first["messages"]] == ["t4", "t3", "t2"]
        second = caller.get(path, limit=3, cursor=first["next_cursor"]).ok()
        assert [message["title"] for message in second["messages"]] == ["t1", "t0"]
        assert second["next_cursor"] is None
    cursor = shopper.get("/v1/users/user-1/messages", limit=3).ok()["next_cursor"]
    shopper.get("/v1/users/user-2/messages", cursor=cursor).refused(400, "bad_cursor")
    shopper.get("/v1/users/user-1/messages", cursor=cursor, unread="true").refused(400, "bad_cursor")


def test_who_joined_later_gets_what_comes_later(operator, shopper):
    operator.post("/v1/messages", {"title": "before", "body": "x"}).ok(201)
    joined = operator.get("/v1/messages").ok()["messages"][0]["sent_at"]
    # A clock that goes ahead is taken for now.
    later = shopper.get("/v1/users/new/messages", joined_at="2040-01-01T00:00:00Z").ok()
    assert (later["messages"], later["unread"]) == ([], 0)
    operator.post("/v1/messages", {"title": "after", "body": "x"}).ok(201)
    page = shopper.get("/v1/users/new/messages").ok()
    assert ([message["title"] for message in page["messages"]], page["unread"]) == (["after"], 1)
    assert shopper.get("/v1/users/old/messages", joined_at=joined).ok()["unread"] == 2


def test_what_is_withdrawn_is_gone(operator, shopper, as_role):
    message_id = operator.post("/v1/messages", {"title": "wrong", "body": "x"}).ok(201)["message_id"]
    assert operator.post(f"/v1/messages/{message_id}/withdraw").ok() == {"message_id": message_id}
    assert shopper.get("/v1/users/user-1/messages").ok()["unread"] == 0
    (listed,) = as_role("auditor").get("/v1/messages").ok()["messages"]
    assert (listed["message_id"], listed["withdrawn_at"] is None) == (message_id, False)
    operator.post(f"/v1/messages/{'0' * 26}/withdraw").refused(404, "message_not_found")


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"title": ""}, "/title"),
        ({"title": "x" * 201}, "/title"),
        ({"title": "two\nlines"}, "/title"),
        ({"body": ""}, "/body"),
        ({"body": "x" * 10_001}, "/body"),
        ({"body": "bell\u0007"}, "/body"),
        ({"body": "turned\u202e"}, "/body"),
        ({"user_ids": []}, "/user_ids"),
        ({"user_ids": ["u"] * 1_001}, "/user_ids"),
        ({"expires_at": "tomorrow"}, "/expires_at"),
    ],
)
def test_a_message_has_bounds(change, pointer, operator, shopper):
    answer = operator.post("/v1/messages", {"title": "t", "body": "b", **change})
    assert answer.status == 422
    assert answer.pointers()[0].startswith(pointer)
    assert shopper.get("/v1/users/u/messages").ok()["unread"] == 0


def test_the_longest_that_may_be(operator, shopper):
    body = {"title": "\u5238" * 200, "body": "\u5238" * 10_000, "user_ids": [f"{n:0128}" for n in range(1_000)]}
    operator.post("/v1/messages", body).ok(201)
    (message,) = shopper.get(f"/v1/users/{7:0128}/messages").ok()["messages"]
    assert (message["title"], message["body"]) == (body["title"], body["body"])


def test_an_end_in_the_past_and_one_broadcast_too_many(operator, monkeypatch):
    body = {"title": "t", "body": "b", "expires_at": "2020-01-01T00:00:00Z"}
    operator.post("/v1/messages", body).refused(422, "invalid_period")
    monkeypatch.setattr(messages, "BROADCAST_LIMIT", 0)
    operator.post("/v1/messages", {"title": "t", "body": "b"}).refused(409, "broadcast_limit_reached")


def test_the_inbox_of_another_merchant_is_another(operator, stranger):
    operator.post("/v1/messages", {"title": "t", "body": "b"}).ok(201)
    assert stranger("shopper-app").get("/v1/users/user-1/messages").ok()["messages"] == []
    assert stranger("operator").get("/v1/messages").ok()["messages"] == []


def test_unread_is_true_or_false(shopper):
    for word in ("yes", "1", ""):
        shopper.get("/v1/users/user-1/messages", unread=word).refused(422, "invalid_field")
    shopper.get("/v1/users/user-1/messages", unread="false").ok()
