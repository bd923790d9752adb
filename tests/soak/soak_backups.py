"""Twenty backups of a node under 16 writers, each restored, checked and compared: run by hand, it
takes minutes.

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
