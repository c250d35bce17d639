"""Who competes."""

from __future__ import annotations

from benchmarks.contenders.app_save import AppSave
from benchmarks.contenders.base import Contender
from benchmarks.contenders.ledger import GroupCommit
from benchmarks.contenders.redis import RedisAlways, RedisEverySecond
from benchmarks.contenders.relational import Relational
from benchmarks.contenders.skip_locked import SkipLocked

CONTENDERS: tuple[type[Contender], ...] = (GroupCommit, AppSave, Relational, SkipLocked, RedisAlways, RedisEverySecond)
