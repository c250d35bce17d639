"""In which states of a coupon each fact may happen, and which promise it breaks otherwise."""

from __future__ import annotations

from projections.verify.report import Broken

FINAL = ("USED", "EXPIRED", "VOIDED")
_STANDING = {
    "coupon.extended": ("UNUSED", "LOCKED"),
    "coupon.transferred": ("UNUSED",),
    "coupon.shared": ("UNUSED", "LOCKED"),
    "coupon.credited": ("UNUSED", "LOCKED", "USED", "EXPIRED"),
}
_BEFORE = {
    "coupon.issued": ("",),
    "coupon.locked": ("UNUSED",),
    "coupon.lock_extended": ("LOCKED",),
    "coupon.unlocked": ("LOCKED",),
    "coupon.used": ("LOCKED",),
    "coupon.debited": ("LOCKED",),
    "coupon.returned": ("USED",),
    "coupon.expired": ("UNUSED",),
    "coupon.voided": ("UNUSED",),
} | _STANDING


def check_step(state: str, topic: str) -> None:
    """Raise ``Broken`` unless the fact may happen in that state, which is empty before a coupon is issued."""
    allowed = _BEFORE[topic]
    if state in allowed:
        return
    expected = f"{topic} while {' or '.join(each or 'not issued' for each in allowed)}"
    raise Broken(_invariant(state, topic), expected, f"while {state or 'not issued'}")


def _invariant(state: str, topic: str) -> str:
    """Which promise a step out of turn breaks."""
    if topic == "coupon.issued" or not state:
        return "I1"
    if state == "USED" and topic in ("coupon.used", "coupon.debited"):
        return "I5"
    if state in FINAL:
        return "I7"
    if topic == "coupon.returned":
        return "I5"
    return "I4" if state == "LOCKED" else "I6"
