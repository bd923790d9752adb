"""Renewal of collateral, and the alarms for operators."""

from dataclasses import replace
from typing import Any

import pytest
from deviating_platform import CollateralOptions, SimulatedPlatform
from hypothesis import given
from hypothesis import strategies as st

from tee_backend.attestation.collateral import Collateral, parse_collateral
from tee_backend.attestation.refresh import DAY_S, RefreshRules, alarms_of, due_at

NOW = 1_795_000_000.0
COLLATERAL = parse_collateral(
    SimulatedPlatform.from_seed(b"the platform of the tests").collateral_json(
        NOW, options=CollateralOptions(issued_before_s=0)
    )
)
ENDS = NOW + 30 * DAY_S


def held(
    *, refreshed: float = 0, tried: float | None = None, collateral: Collateral = COLLATERAL
) -> dict[str, Any]:
    """Return a document that was fetched and tried some days after the start."""
    tried = refreshed if tried is None else tried
    return {
        "collateral": collateral,
        "refreshed_at": NOW + refreshed * DAY_S,
        "tried_at": NOW + tried * DAY_S,
    }


def test_daily() -> None:
    """A document is renewed a day after it was fetched, not earlier (AT31)."""
    assert NOW + DAY_S == due_at(**held())


def test_ahead_of_the_end() -> None:
    """A document that expires within a week is renewed hourly until a newer one arrives (AT31)."""
    holding = held(refreshed=24)
    assert NOW + 24 * DAY_S + 3600 == due_at(**holding)


def test_after_a_failure() -> None:
    """A failing service is not queried in a loop (AT31)."""
    assert NOW + 2 * DAY_S + 3600 == due_at(**held(refreshed=0, tried=2))


@pytest.mark.parametrize(
    ("holding", "day", "kinds"),
    [
        (held(), 0, []),
        (held(tried=2), 2.9, []),
        (held(tried=2), 3, ["refresh-failing"]),
        (held(refreshed=3), 6, []),
        (held(refreshed=24.5), 24.9, []),
        (held(refreshed=24.5), 25, ["ends-soon"]),
        (held(refreshed=20, tried=28), 29, ["ends-soon", "refresh-failing"]),
        (held(refreshed=29), 30, ["ended"]),
    ],
)
def test_alarms(holding: dict[str, Any], day: float, kinds: list[str]) -> None:
    """Lasting failures, approaching expiry and expiry raise alarms (AT31)."""
    alarms = [*alarms_of(**holding, now=NOW + day * DAY_S)]
    assert kinds == [alarm.kind for alarm in alarms]
    assert all(ENDS == alarm.at for alarm in alarms if alarm.kind != "refresh-failing")


def test_an_alarm_names_the_part() -> None:
    """An alarm names the part that expires first."""
    early_end = COLLATERAL.root_crl.window._replace(ends_at=NOW + DAY_S)
    collateral = replace(COLLATERAL, root_crl=COLLATERAL.root_crl._replace(window=early_end))
    (alarm,) = alarms_of(**held(collateral=collateral), now=NOW)
    assert alarm.kind == "ends-soon"
    assert alarm.part == "root CRL"
    assert alarm.at == NOW + DAY_S


@pytest.mark.parametrize(
    ("day", "kinds"), [(6.9, []), (7, ["stale"]), (26, ["ends-soon", "stale"])]
)
def test_what_was_issued_long_ago(day: float, kinds: list[str]) -> None:
    """A document is stale by its issue date, even if a lagging mirror keeps returning it (AT31)."""
    holding = held(refreshed=day)
    alarms = [*alarms_of(**holding, now=NOW + day * DAY_S, rules=RefreshRules(stale_s=7 * DAY_S))]
    assert kinds == [alarm.kind for alarm in alarms]
    assert all(
        (NOW + 7 * DAY_S, "TCB info") == (alarm.at, alarm.part)
        for alarm in alarms
        if alarm.kind == "stale"
    )
    assert "stale" not in [alarm.kind for alarm in alarms_of(**holding, now=NOW + day * DAY_S)]


@given(refreshed=st.floats(0, 40), failing_for=st.floats(0, 40), retry_s=st.floats(60, 86_400))
def test_never_in_a_loop(refreshed: float, failing_for: float, retry_s: float) -> None:
    """No attempt is made within `retry_s` of the previous one, whatever the times are."""
    holding = held(refreshed=refreshed, tried=refreshed + failing_for)
    assert due_at(**holding, rules=RefreshRules(retry_s=retry_s)) >= holding["tried_at"] + retry_s
