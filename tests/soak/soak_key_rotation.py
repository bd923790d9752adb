"""A load that replaces a network's key while its commands are killed, which is run by hand.

make rotations SECRETS=10000 KILLS=50 SEED=7
"""

import os
import random
from pathlib import Path

from durability.rotation_kills import MOST_VERSIONS, Plan, replace_while_killed

SECRETS, KILLS = 200, 10


def _number(name: str, default: int) -> int:
    return int(os.environ.get(f"ROTATIONS_{name}") or default)


def _show(line: str) -> None:
    print(line, flush=True)


async def test_EN39_commands_that_are_killed(tmp_path: Path) -> None:
    """Every value and copy is readable after commands were killed and continued, and after former
    keys were destroyed."""
    seed = _number("SEED", random.SystemRandom().randrange(1_000_000))
    secrets = _number("SECRETS", SECRETS)
    plan = Plan(
        secrets=secrets,
        kills=_number("KILLS", KILLS),
        seed=seed,
        shared=_number("SHARED", secrets),
    )
    _show(f"{plan}")
    report = await replace_while_killed(tmp_path, plan, _show)
    _show(f"{report}")
    assert report.kills >= plan.kills or report.key_version == MOST_VERSIONS
