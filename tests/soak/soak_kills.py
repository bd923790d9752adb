"""A test that kills a whole node under load many times (`make soak`).

SOAK_KILLS=500 asks for another number of kills. (No SEALSPACE_ name: the node would take it for a
setting of its own.)
"""

import os
from pathlib import Path

import pytest
from durability.test_kills import kill_many_times

KILLS = 100


@pytest.mark.slow
async def test_soak(tmp_path: Path) -> None:
    """A node that is killed many times loses nothing that it acknowledged, and has no partial
    write."""
    await kill_many_times(tmp_path, kills=int(os.environ.get("SOAK_KILLS", KILLS)))
