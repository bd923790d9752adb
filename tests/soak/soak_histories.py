"""A test of ten thousand interleavings of two nodes on one database, which is run by hand.

make soak

SOAK_INTERLEAVINGS=500 asks for another number, SOAK_SEED=7 for other draws.
"""

import os
from pathlib import Path

from history.interleavings import run
from postgres_server import needs_postgres, postgres_server

pytestmark = needs_postgres()

INTERLEAVINGS = 10_000
SEED = 1
LOST = 0.02


async def test_soak_of_histories(tmp_path: Path) -> None:
    """Any interleaving of revocations, puts, gets and releases of two nodes gives a history that
    the store's promises allow."""
    number, seed = (
        int(os.environ.get("SOAK_INTERLEAVINGS", INTERLEAVINGS)),
        int(os.environ.get("SOAK_SEED", SEED)),
    )
    database = postgres_server().new_database()
    report = await run(database, tmp_path, interleavings=number, seed=seed, loss=LOST)
    print(
        f"{report.interleavings} interleavings, {report.calls} calls in {report.seconds:.0f} s; a"
        f" revocation met calls under its grant in {report.met}; {report.lost} connections lost;"
        f" {dict(report.answers)}"
    )
    assert report.faults == []
