"""How commands take a time."""

from __future__ import annotations

from datetime import datetime

import click
from pydantic import TypeAdapter, ValidationError

from api.wire import Moment


def time(text: str) -> datetime:
    """An RFC 3339 time, as the interface over HTTP takes it. Anything else is bad usage."""
    try:
        found: datetime = TypeAdapter(Moment).validate_python(text)
    except ValidationError as error:
        raise click.BadParameter(error.errors()[0]["msg"]) from None
    return found
