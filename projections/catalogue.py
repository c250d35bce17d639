"""The read models of this release."""

from __future__ import annotations

from projections.models.alerts import Alerts
from projections.models.batch_balance import BatchBalance
from projections.models.coupon_status import CouponStatus
from projections.models.customers import Customers
from projections.models.daily_statistics import DailyStatistics
from projections.models.funnel import Funnel
from projections.models.liability import Liability
from projections.models.order_coupons import OrderCoupons
from projections.models.reminders import Reminders
from projections.models.shared_coupons import SharedCoupons
from projections.models.wallet import Wallet
from projections.projection import Projection

# Those that ask the same of a chunk stand together, for a replay halves the list between two processes: first what is
# of single coupons and orders, then what is added up.
PROJECTIONS: tuple[Projection, ...] = (
    CouponStatus(),
    Wallet(),
    SharedCoupons(),
    Reminders(),
    Alerts(),
    OrderCoupons(),
    BatchBalance(),
    DailyStatistics(),
    Customers(),
    Funnel(),
    Liability(),
)
VERSIONS = {projection.name: projection.version for projection in PROJECTIONS}


def state_of(name: str, version: int, stored: str) -> str:
    """RUNNING or FAULTED, as a checkpoint says, or OUTDATED: it is live in another version than this release has.

    Nobody folds on a version that is not the release's, whatever state it was left in: it is to be rebuilt.
    """
    return stored if VERSIONS.get(name, version) == version else "OUTDATED"
