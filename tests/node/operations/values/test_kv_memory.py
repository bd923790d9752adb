"""Memory does not grow with a value."""

from pathlib import Path

import pytest
from large_values import MIB, measure


@pytest.mark.slow
async def test_memory_of_large_values(tmp_path: Path) -> None:
    """Two values of 64 MiB put at once, and got at once, cost a worker less than 24 MiB."""
    memory = await measure(tmp_path, size_bytes=64 * MIB, at_once=2)
    assert memory.put_growth_bytes < 24 * MIB
    assert memory.get_growth_bytes < 24 * MIB
