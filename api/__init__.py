"""HTTP: what order systems, operators, auditors and analysts call."""

from api.app import create_app

__all__ = ["create_app"]
