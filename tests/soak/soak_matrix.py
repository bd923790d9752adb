"""A comparison of the node's authorisation with an oracle on many requests, which is run by hand.

make matrix

MATRIX_REQUESTS=100000 asks for another number, MATRIX_SEED=7 for other draws.
"""

import os
import tempfile
from pathlib import Path

from matrix.comparison import compare

REQUESTS = 20_000
FEWEST_OF_A_VALUE = 5
_MEMORY_FOLDER = Path("/dev/shm")


async def test_soak_of_the_matrix() -> None:
    """A node and the oracle agree on every request, and each value of each axis was drawn."""
    requests = int(os.environ.get("MATRIX_REQUESTS", REQUESTS))
    seed = os.environ.get("MATRIX_SEED", "1")
    folder = _MEMORY_FOLDER if _MEMORY_FOLDER.is_dir() else None
    with tempfile.TemporaryDirectory(dir=folder) as data:
        report = await compare(Path(data), cases=requests, seed=seed)
    print(report)
    assert report.differences == []
    assert report.requests == requests
    assert report.admitted >= requests / 5
    assert report.missing(fewest=FEWEST_OF_A_VALUE) == []
