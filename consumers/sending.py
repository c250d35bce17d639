"""One attempt to deliver: a signed webhook, or an e-mail."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Literal, NamedTuple

import orjson
from standardwebhooks import Webhook

from consumers import web_post
from consumers.mail import MailServer, email
from consumers.web_post import Unreachable
from ledger.aggregate import text_of
from ledger.store import Store
from ledger.telling.channels import contact_of
from ledger.telling.deliveries import Claimed

USER_AGENT = "coupon-ledger"


class Outcome(NamedTuple):
    """What came of an attempt."""

    word: Literal["sent", "failed", "refused", "gone", "dropped"]
    """``failed`` is tried again; ``refused`` would be refused again; ``gone`` is the whole channel; ``dropped`` has
    nobody to be sent to."""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Sender:
    """How this process reaches others."""

    private_hosts: Collection[str] = ()
    """Names of hosts that webhooks may reach at addresses of inner networks."""
    mail: MailServer | None = None
    tls: ssl.SSLContext | None = None
    resolve: web_post.Resolve | None = None

    def send(self, store: Store, claimed: Claimed) -> Outcome:
        """Try once to deliver."""
        return self._webhook(claimed) if claimed.kind == "webhook" else self._email(store, claimed)

    def _webhook(self, claimed: Claimed) -> Outcome:
        assert claimed.target is not None
        body, headers = signed(claimed, datetime.now(UTC))
        known = {} if self.resolve is None else {"resolve": self.resolve}
        try:
            status = web_post.post(
                claimed.target, body, headers, private_hosts=self.private_hosts, tls=self.tls, **known
            )
        except Unreachable as error:
            return Outcome("failed", str(error))
        if 200 <= status < 300:
            return Outcome("sent")
        return Outcome("gone" if status == 410 else "failed", f"HTTP {status}")

    def _email(self, store: Store, claimed: Claimed) -> Outcome:
        to = claimed.target
        if to is None and claimed.user_id is not None:
            with store.connection() as connection:
                to = contact_of(connection, claimed.merchant_id, claimed.user_id)
        if to is None:
            return Outcome("dropped", "nobody knows an address")
        if self.mail is None:
            return Outcome("failed", "the settings name no mail server")
        body = orjson.loads(claimed.body)
        message = email(claimed.key, claimed.type, body, sender=self.mail.sender, to=to, at=claimed.created_at)
        try:
            self.mail.send(message)
        except smtplib.SMTPRecipientsRefused as error:
            code, answer = error.recipients[to]
            return Outcome("refused" if code >= 500 else "failed", f"SMTP {code} {_text(answer)}")
        except smtplib.SMTPResponseException as error:
            return Outcome("failed", f"SMTP {error.smtp_code} {_text(error.smtp_error)}")
        except (smtplib.SMTPException, OSError) as error:
            return Outcome("failed", f"{type(error).__name__}: {error}")
        return Outcome("sent")


def signed(claimed: Claimed, now: datetime) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a webhook (Standard Webhooks 1.0), with a signature for each secret that is good now."""
    data = orjson.loads(claimed.body)
    text = orjson.dumps({"type": claimed.type, "timestamp": text_of(claimed.created_at), "data": data}).decode()
    id = webhook_id(claimed.key)
    headers = {
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        "webhook-id": id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(Webhook(secret).sign(id, now, text) for secret in claimed.secrets),
    }
    return text.encode(), headers


def webhook_id(key: str) -> str:
    """The same for every attempt at a delivery, by which its receiver knows a repeat."""
    return "msg_" + sha256(key.encode()).hexdigest()[:32]


def _text(answer: bytes | str) -> str:
    return answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
