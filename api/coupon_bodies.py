"""What callers send of a coupon by itself."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.wire import Body, Id, Moment, Reason
from ledger.coupon import FRIEND_LIMIT


class ExtensionBody(Body):
    """Until when the coupon is to be valid instead, and why."""

    valid_until: Moment
    reason: Reason


class TransferBody(Body):
    """Who gives the coupon away, and to whom."""

    user_id: Id
    to_user_id: Id


class ShareBody(Body):
    """Whose coupon it is, and all friends who may use it from now on; nobody else, where empty."""

    user_id: Id
    with_user_ids: Annotated[list[Id], Field(max_length=FRIEND_LIMIT, json_schema_extra={"uniqueItems": True})]
