"""``python -m coupon_ledger`` is the command ``coupon-ledger``."""

from coupon_ledger.cli import main

main()
