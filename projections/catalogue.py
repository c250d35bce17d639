"""The read models of this release."""

from __future__ import annotations

from projections.alerts import Alerts
from projections.batch_balance import BatchBalance
from projections.coupon_status import CouponStatus
from projections.projection import Projection
from projections.reminders import Reminders
from projections.shared_coupons import SharedCoupons
from projections.wallet import Wallet

PROJECTIONS: tuple[Projection, ...] = (CouponStatus(), Wallet(), BatchBalance(), SharedCoupons(), Reminders(), Alerts())
VERSIONS = {projection.name: projection.version for projection in PROJECTIONS}
