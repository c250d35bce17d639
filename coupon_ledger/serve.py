"""The API under gunicorn: one ledger a worker process, whose pool opens after the fork."""

from __future__ import annotations

import gc
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication

from api.app import create_app
from api.throttle import Limit, Limits, Throttle
from coupon_ledger.settings import Settings
from ledger.application import Ledger
from ledger.store import Store


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn with our settings instead of a configuration file."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        super().__init__()

    def load_config(self) -> None:
        """Tell gunicorn our settings."""
        options: dict[str, Any] = {
            "bind": self.settings.http_bind,
            "workers": self.settings.http_workers,
            "worker_class": "gthread",
            "threads": self.settings.http_threads,
            "graceful_timeout": 10,
            "keepalive": 30,
            "limit_request_line": 8_190,  # above the API's own limit, so that the API answers with its problem
            "limit_request_field_size": 8_190,
            "proc_name": "coupon-ledger",
            # One socket for all of a user's servers would let one of them be told what was meant for another.
            "control_socket_disable": True,
            "post_worker_init": _begin_work,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Called in each worker, so nothing is shared over the fork."""
        store = Store(self.settings.database(), self.settings.database_pool_size)
        # Some threads are left to tell the other callers that the queue is full, and to answer probes.
        return create_app(
            Ledger(store, callers_limit=self.settings.http_threads * 3 // 4),
            self.settings.keys_of_codes(),
            Throttle(limits_of(self.settings), processes=self.settings.http_workers),
            streams=max(1, self.settings.http_threads // 16),
            seal_folder=self.settings.sealed_in,
            personal_keys=self.settings.keys_of_personal_data(),
        )


def limits_of(settings: Settings) -> Limits:
    """The limits that the settings make."""
    return Limits(
        user=Limit.parse(settings.throttle_user),
        address=Limit.parse(settings.throttle_address),
        claims_key=Limit.parse(settings.throttle_claims_key),
        key=Limit.parse(settings.throttle_key),
        trusts_proxy=settings.trusted_proxy,
    )


def _begin_work(worker: Any) -> None:
    """Look for cycles less often: a request makes hundreds of objects and few cycles, and searching cost 4 %.

    And let the streams that callers watch end when the worker is told to.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)
    if (streams := worker.wsgi.extensions.get("streams")) is not None:  # another application has none
        streams.stopping = lambda: not worker.alive
