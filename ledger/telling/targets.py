"""What a target of messages must look like: URLs of webhooks, and e-mail addresses."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from ledger.errors import InvalidField

URL_LIMIT = 500
ADDRESS_LIMIT = 254
"""RFC 5321, 4.5.3.1.3."""
_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@" + _HOST.pattern, re.IGNORECASE)
"""As HTML has it for ``<input type=email>``: what people have, without the comments and quotes of RFC 5322."""


def check_url(field: str, url: str | None) -> None:
    """Raise ``InvalidField`` unless it is ``https`` to a named host, without user, password or fragment.

    Where the name leads is looked at when something is sent, for it may lead elsewhere by then.
    """
    try:
        parts = urlsplit(url or "")
        port = parts.port
    except ValueError:
        raise InvalidField(f"{field} is no URL", field=field) from None
    whole = url is not None and len(url) <= URL_LIMIT and re.fullmatch(r"[!-~]+", url) is not None
    host = parts.hostname or ""
    plain = parts.scheme == "https" and parts.username is None and parts.password is None and "#" not in (url or "")
    # Numbers are no names: the last label of a name has a letter.
    named = _HOST.fullmatch(host) is not None and re.search("[a-z]", host.rpartition(".")[2]) is not None
    if not (whole and plain and named and port != 0) or "\\" in (url or ""):
        raise InvalidField(
            f"{field} is an https URL of at most {URL_LIMIT} characters, with a host by name and no user or fragment",
            field=field,
        )


def check_address(field: str, address: str) -> None:
    """Raise ``InvalidField`` unless it is an e-mail address of one mailbox."""
    if len(address) > ADDRESS_LIMIT or not _ADDRESS.fullmatch(address):
        raise InvalidField(f"{field} is an e-mail address", field=field)
