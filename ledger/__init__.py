"""The write model: what may happen to a coupon, and the log of what did."""
