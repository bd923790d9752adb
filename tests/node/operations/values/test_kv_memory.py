"""Memory use does not grow with the size of a value."""

from pathlib import Path

import pytest
from large_values import MIB, measure


@pytest.mark.slow
async def test_memory_of_large_values(tmp_path: Path) -> None:
    """Putting and getting two values of 64 MiB at once takes a worker less than 24 MiB."""
    memory = await measure(tmp_path, size_bytes=64 * MIB, at_once=2)
    assert memory.put_growth_bytes < 24 * MIB
    assert memory.get_growth_bytes < 24 * MIB
