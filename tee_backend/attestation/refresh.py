"""The schedule for renewing collateral.

This module also decides when to alert operators. It fetches nothing. A document is renewed daily,
long before it expires, so that a service may fail for days before any caller is refused. An expired
document is never used, and there is no grace period. A newer document is never replaced by an older
one (`collateral_trust.check_replaces`).

Example:
    if due_at(collateral, refreshed_at=t, tried_at=t) <= clock.now():
        ...  # fetch, verify, compare, store, with new times
    for alarm in alarms_of(collateral, refreshed_at=t, tried_at=t, now=clock.now()):
        ...  # log it

Source: spec/attestation.md AT30, AT31.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from .collateral import Collateral

DAY_S = 86_400.0

AlarmKind = Literal["refresh-failing", "ends-soon", "ended", "stale"]


class RefreshRules(NamedTuple):
    """Intervals for renewing collateral and alerting operators.

    All intervals are in seconds.
    """

    every_s: float = DAY_S
    ahead_s: float = 7 * DAY_S
    retry_s: float = 3600.0
    alarm_after_s: float = 3 * DAY_S
    warn_s: float = 5 * DAY_S
    stale_s: float | None = None


class Alarm(NamedTuple):
    """A collateral problem that needs the operator's attention."""

    kind: AlarmKind
    part: str
    at: float


DEFAULT_RULES = RefreshRules()


def due_at(
    collateral: Collateral,
    *,
    refreshed_at: float,
    tried_at: float,
    rules: RefreshRules = DEFAULT_RULES,
) -> float:
    """Return the time of the next collateral fetch, in epoch seconds.

    The result is never earlier than `retry_s` after the last attempt, so that a failing service is
    not queried in a loop.
    """
    # daily, and in time before the document ends (AT31)
    wanted = min(refreshed_at + rules.every_s, collateral.ends_at - rules.ahead_s)
    return max(wanted, tried_at + rules.retry_s)


def alarms_of(
    collateral: Collateral,
    *,
    refreshed_at: float,
    tried_at: float,
    now: float,
    rules: RefreshRules = DEFAULT_RULES,
) -> Iterator[Alarm]:
    """Yield an alarm for each problem with a collateral document."""
    # The collateral ends with the first of its parts.
    first = min(collateral.windows, key=lambda named: named.window.ends_at)
    ends_at = first.window.ends_at
    if now >= ends_at:
        yield Alarm(kind="ended", part=first.part, at=ends_at)
    elif now >= ends_at - rules.warn_s:
        yield Alarm(kind="ends-soon", part=first.part, at=ends_at)
    if tried_at > refreshed_at and now >= refreshed_at + rules.alarm_after_s:
        yield Alarm(kind="refresh-failing", part=first.part, at=refreshed_at)
    # The older one of TCB info and QE identity counts.
    part = "TCB info"
    issued_at = collateral.tcb_info.window.starts_at
    if collateral.qe_identity.window.starts_at < issued_at:
        part = "QE identity"
        issued_at = collateral.qe_identity.window.starts_at
    if rules.stale_s is not None and now >= issued_at + rules.stale_s:
        yield Alarm(kind="stale", part=part, at=issued_at + rules.stale_s)
