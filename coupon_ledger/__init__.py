"""Coupon Ledger: a ledger of coupons on PostgreSQL and Apache Kafka."""

from __future__ import annotations

__version__ = "0.1.0"
