"""Members of a team read and write what the acknowledged changes allow, in any order of changes.

`make members SEQUENCES=300` tries more sequences than the suite does.
"""

import os
import random
from collections import Counter
from collections.abc import Iterator

import aiohttp
import pytest
from attacks.held_store import HeldStage
from attacks.member_steps import step
from attacks.member_world import MemberWorld
from audit_records import audit_records

pytestmark = pytest.mark.slow

SEQUENCES = int(os.environ.get("MEMBER_SEQUENCES") or "10")
FIRST_SEED = int(os.environ.get("MEMBER_SEED") or "0")
STEPS = 8
TRIED: Counter[tuple[str, str, bool]] = Counter()
"""How often each kind of party tried each thing, and whether it succeeded."""


@pytest.fixture(scope="module", autouse=True)
def counts() -> Iterator[None]:
    """Print how often everybody tried, after all sequences."""
    yield
    for (label, what, is_allowed), count in sorted(TRIED.items()):
        print(f"{label:16} {what:14} {'succeeded' if is_allowed else 'refused':10} {count:8}")


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + SEQUENCES))
async def test_TM7_changes_in_any_order(held: HeldStage, seed: int) -> None:
    """After each change, every party reads and writes exactly what the changes allow (TM1 to TM8).

    The receipts and audit records name the member of each success, and no other success.
    """
    rng = random.Random(seed)
    async with aiohttp.ClientSession() as http:
        world = await MemberWorld.begin(held, http=http)
        await world.found()
        await world.compare()
        for _ in range(STEPS):
            await step(world, rng)
            await world.compare()
        await world.compare_receipts()
    world.compare_records(await audit_records(held.services.store))
    TRIED.update(world.tried)
