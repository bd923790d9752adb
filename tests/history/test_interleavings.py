"""Tests of two nodes on one database with random delays of commits."""

from pathlib import Path

import pytest
from history.interleavings import Report, run
from postgres_server import needs_postgres, postgres_server

from spaces.store.postgres import _statements

pytestmark = [needs_postgres(), pytest.mark.slow]

INTERLEAVINGS = 120
SEED = 20_260_101
ANSWERS = {
    "PUT DONE",
    "PUT NOT_ALLOWED",
    "PUT NO_FREE_SPACE",
    "PUT USED_BEFORE",
    "GET DONE",
    "GET NOTHING_THERE",
} | {
    "GET NOT_ALLOWED",
    "DECRYPT DONE",
    "DECRYPT NOT_ALLOWED",
    "DECRYPT USED_BEFORE",
    "REVOKE DONE",
    "DELETE DONE",
}


def check(report: Report) -> None:
    """Check that no history has a fault, and that every kind of outcome occurred."""
    print(
        f"{report.interleavings} interleavings, {report.calls} calls in {report.seconds:.1f} s:"
        f" {report.answers}"
    )
    assert report.faults == []
    assert report.answers.keys() >= ANSWERS
    assert report.met > report.interleavings / 4


async def test_interleavings_of_two_nodes(tmp_path: Path) -> None:
    """Random interleavings of calls on two nodes keep the store's promises (ST1, ST2, ST4, ST7)."""
    check(
        await run(
            postgres_server().new_database(), tmp_path, interleavings=INTERLEAVINGS, seed=SEED
        )
    )


async def test_interleavings_while_connections_are_lost(tmp_path: Path) -> None:
    """The promises are kept if requests and replies are lost."""
    database = postgres_server().new_database()
    report = await run(
        database, tmp_path, interleavings=INTERLEAVINGS // 2, seed=SEED + 1, loss=0.5
    )
    check(report)
    assert report.lost > INTERLEAVINGS // 8


# A busy machine lets calls meet less often; a try or two are enough nearly always.
TRIED_AT_ONCE, MOST_TRIES = 30, 33
SPOILED = {
    "marks are not looked at": ("when r.s is null then seen.live", "when r.s is null then true"),
    "limits are not looked at": ("coalesce(bounded.n, 0) + c.n > c.m", "false"),
}


@pytest.mark.parametrize("spoiled", SPOILED.values(), ids=SPOILED.keys())
async def test_spoiled_store_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoiled: tuple[str, str]
) -> None:
    """The checker finds a fault if a commit omits one of its conditions."""
    for name in ("COMMIT", "COMMIT_IN_SEQUENCE"):
        statement = getattr(_statements, name)
        for sound, broken in (spoiled, ("written.n > c.m", "false")):
            assert sound in statement
            statement = statement.replace(sound, broken)
        monkeypatch.setattr(f"spaces.store.postgres._parameters.{name}", statement)
    for seed in range(MOST_TRIES):
        report = await run(
            postgres_server().new_database(), tmp_path, interleavings=TRIED_AT_ONCE, seed=seed
        )
        if report.faults:
            return
    raise AssertionError("nothing was found out")
