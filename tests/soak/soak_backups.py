"""A test of twenty backups of a node under 16 writers, which takes minutes and is run by hand.

make soak; SOAK_BACKUPS=100 asks for another number.
"""

import os
from pathlib import Path

import pytest
from durability.backups import back_up_many_times

ROUNDS = 20


@pytest.mark.slow
async def test_backups_under_load(tmp_path: Path) -> None:
    """Every backup has all writes acknowledged before it, and a check finds no damage (BK1)."""
    rounds = int(os.environ.get("SOAK_BACKUPS", ROUNDS))
    rows = await back_up_many_times(tmp_path, rounds=rounds)
    print(f"{rounds} backups with {rows} rows in all")
    assert rows > rounds * 100
