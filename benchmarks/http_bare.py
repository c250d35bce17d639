"""The bare rival over HTTP: a Flask view that reads JSON, does one INSERT and commits, on gunicorn as we set it.

``python -m benchmarks.http_bare`` serves it with the product's own settings, so that nothing but the view differs.
"""

from __future__ import annotations

from flask import Flask, request
from psycopg_pool import ConnectionPool

from coupon_ledger.serve import Server
from coupon_ledger.settings import Settings
from ledger.database import Database

POOL_SIZE = 16
"""The best of 4, 16 and 64."""


def bare_app(database: Database) -> Flask:
    """One view, written as psycopg's documentation would: BEGIN, INSERT and COMMIT on a pooled connection."""
    app = Flask(__name__)
    pool = ConnectionPool(
        database.url, kwargs={"options": f"-c search_path={database.schema}"}, min_size=1, max_size=POOL_SIZE, open=True
    )

    @app.post("/claims")
    def claim() -> tuple[dict[str, str], int]:
        user_id = request.get_json()["user_id"]
        with pool.connection() as connection:
            connection.execute("insert into bare_claims (user_id) values (%s)", (user_id,), prepare=True)
        return {"user_id": user_id}, 201

    return app


class BareServer(Server):
    """gunicorn with the product's settings and the bare view."""

    def load(self) -> Flask:
        """Called in each worker."""
        return bare_app(self.settings.database())


if __name__ == "__main__":
    BareServer(Settings()).run()
