"""The read models of this release."""

from __future__ import annotations

from projections.models.alerts import Alerts
from projections.models.batch_balance import BatchBalance
from projections.models.coupon_status import CouponStatus
from projections.models.reminders import Reminders
from projections.models.shared_coupons import SharedCoupons
from projections.models.wallet import Wallet
from projections.projection import Projection

PROJECTIONS: tuple[Projection, ...] = (CouponStatus(), Wallet(), BatchBalance(), SharedCoupons(), Reminders(), Alerts())
VERSIONS = {projection.name: projection.version for projection in PROJECTIONS}
