"""A test of two values of the largest size, which takes 2 GB of disk and is run by hand.

make soak
"""

from pathlib import Path

from large_values import MIB, measure

SIZE_BYTES = 1_000_000_000


async def test_memory_of_the_largest_values(tmp_path: Path) -> None:
    """Two values of 1,000,000,000 bytes put at once, and got at once, cost a worker less than 64
    MiB."""
    memory = await measure(tmp_path, size_bytes=SIZE_BYTES, at_once=2)
    print(
        f"resident before: {memory.before_bytes / MIB:.1f} MiB; "
        f"put: +{memory.put_growth_bytes / MIB:.1f} MiB in {memory.put_s:.1f} s; "
        f"get: +{memory.get_growth_bytes / MIB:.1f} MiB in {memory.get_s:.1f} s"
    )
    assert memory.put_growth_bytes < 64 * MIB
    assert memory.get_growth_bytes < 64 * MIB
