"""Merchants' webhooks: a follower of the log has each event sent to the channels that want its topic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg

from ledger.events import Recorded
from ledger.published import published
from ledger.telling.channels import Channel, webhooks
from ledger.telling.deliveries import Delivery, enqueue

NAME = "webhooks"
"""Of the follower."""


def enqueue_webhooks(connection: psycopg.Connection[Any], events: Sequence[Recorded]) -> None:
    """Have these events sent wherever somebody wants them, each once for a channel.

    A channel is not told of events before it was registered. What is for a disabled one waits there.
    """
    found = webhooks(connection, {recorded.event.merchant_id for recorded in events})
    wanting: dict[tuple[str, str], list[Channel]] = {}
    for channel in found:
        for topic in channel.wants:
            wanting.setdefault((channel.merchant_id, topic), []).append(channel)
    if not wanting:
        return
    deliveries = []
    for recorded in events:
        told = [
            channel
            for channel in wanting.get((recorded.event.merchant_id, recorded.event.TOPIC), ())
            if recorded.position > channel.after_position
        ]
        body = published(recorded) if told else {}
        deliveries += [_delivery(channel, recorded, body) for channel in told]
    enqueue(connection, deliveries)


def _delivery(channel: Channel, recorded: Recorded, body: dict[str, Any]) -> Delivery:
    key = f"event {channel.channel_id} {recorded.position}"
    return Delivery(key, channel.channel_id, channel.merchant_id, recorded.event.TOPIC, body)
