"""``python -m coupon_ledger_audit``."""

from coupon_ledger_audit.cli import main

main()
