"""Sending e-mails through a mail server that the settings name."""

from __future__ import annotations

import hashlib
import json
import smtplib
import ssl
from dataclasses import dataclass, field
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any, Literal

ATTEMPT_SECONDS = 10.0
"""Of each step of the conversation with the mail server."""
SUBJECT_LIMIT = 200


@dataclass(frozen=True, slots=True)
class MailServer:
    """A mail server that takes our e-mails."""

    host: str
    port: int
    sender: str
    """The address that e-mails come from."""
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: Literal["starttls", "tls", "none"] = "starttls"
    context: ssl.SSLContext | None = None

    def send(self, message: EmailMessage) -> None:
        """Hand over one e-mail. Raises what ``smtplib`` raises, and ``OSError``."""
        context = self.context or ssl.create_default_context()
        connection = (
            smtplib.SMTP_SSL(self.host, self.port, timeout=ATTEMPT_SECONDS, context=context)
            if self.tls == "tls"
            else smtplib.SMTP(self.host, self.port, timeout=ATTEMPT_SECONDS)
        )
        with connection:
            if self.tls == "starttls":
                connection.starttls(context=context)
            if self.user is not None:
                connection.login(self.user, self.password or "")
            connection.send_message(message)


def email(key: str, type: str, body: dict[str, Any], *, sender: str, to: str, at: datetime) -> EmailMessage:
    """The e-mail of a delivery: its ``title`` and ``text``, or the whole of it where it has none.

    The same delivery has the same ``Message-ID``, so that mail systems may know a repeat.
    """
    message = EmailMessage()
    title = body.get("title")
    # A header is one line, whatever the title holds.
    message["Subject"] = " ".join(str(title if title else type).split())[:SUBJECT_LIMIT]
    message["From"] = sender
    message["To"] = to
    message["Date"] = format_datetime(at)
    message["Message-ID"] = f"<{hashlib.sha256(key.encode()).hexdigest()[:40]}@{sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's holiday notice answers it
    text = body.get("text")
    message.set_content(str(text) if text else json.dumps(body, indent=2, ensure_ascii=False))
    return message
