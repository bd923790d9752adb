"""Comparison of a node with a small model of the rules, for random actions of several people."""

import json
import os
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from conformance.raw_http import RawConnection
from embedded_node import embedded_node
from engines import store_at
from model.traces import Comparison
from task_memory import fast_folder
from tests_support import FixedClock

from node.config.tree import Config, Http, Limits

_SEED_VARIABLE = "MODEL_SEED"
_TRACES, _LENGTH = 12, 200
_FEWEST_ANSWERS = 1800
# A store in memory, where the machine has such a folder: thousands of steps wait for their commits.


@asynccontextmanager
async def comparison(seed: str) -> AsyncIterator[Comparison]:
    """A node with default settings, except for a higher limit on refused tokens."""
    clock = FixedClock()
    with tempfile.TemporaryDirectory(dir=fast_folder()) as folder:
        config = Config(
            http=Http(port=0, drain_s=0),
            store=store_at(folder),
            limits=Limits(unauthenticated_per_minute=0),
        )
        async with (
            embedded_node(config, clock=clock) as node,
            RawConnection(urlsplit(node.url).port or 0) as connection,
        ):
            yield Comparison(connection, clock, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["first", "fresh"])
async def test_a_node_and_the_model_answer_alike(seed: str) -> None:
    """A node answers any order of delegations, revocations and value operations by the rules."""
    if seed == "fresh":
        seed = os.environ.get(_SEED_VARIABLE) or secrets.token_hex(4)
    print(f"seed: {seed} ({_SEED_VARIABLE}={seed} repeats it as the fresh one)")
    async with comparison(seed) as compared:
        for number in range(_TRACES):
            found = await compared.run(number, _LENGTH)
            assert found is None, f"seed {seed}\n{found}"
    counts = compared.counts
    print(json.dumps(counts.by_answer, indent=1, sort_keys=True))
    assert counts.by_status.total() >= _FEWEST_ANSWERS
    assert counts.by_status.keys() >= {200, 304, 400, 401, 403, 404, 409, 412}
    assert counts.by_answer["call 2xx on a chain of 4"] > 0
