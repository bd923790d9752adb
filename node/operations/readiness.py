"""Whether writes work: a canary write inside a time limit, the schema, the release record (wire
7.1).

A process that lives does not necessarily serve: a node whose disk is full or whose storekeeper has
ended still answers /healthz.
"""

import asyncio
from collections.abc import Awaitable
from typing import Final

import msgspec
from aiohttp import web

from encryption_network.network_errors import EncryptionError
from spaces.keyspace import CANARY_KEY, SCHEMA_KEY
from spaces.space_errors import SpaceError
from spaces.store.contract import Commit, Put, Refused, read_row

from ..release_terms import recorded_release
from ..services import Services

_SHARED_S: Final = 1.0


class Readiness(msgspec.Struct, frozen=True, omit_defaults=True):
    """What /readyz answers.

    Attributes:
        ready: whether all parts are well.
        write: `ok`, `slow`, `refused` or the code of the store's error.
        schema: `ok`, `missing` or the code of the store's error.
        release: `ok`, `missing` or the code of what is wrong with the release record.
        objects: `ok`, `slow` or the code of what is wrong with the object store.
        own_quotes: `untried`, `ok` or the code of the last failure to get the node's own quote in
            this worker; left out of a node that runs in no trust domain. Values and secrets are
            served without it, so it is reported and does not count (AT44).
    """

    ready: bool
    write: str
    schema: str
    release: str
    objects: str
    own_quotes: str | None = None


class ReadinessProbe:
    """At most one check a second, however many ask: unauthenticated clients must not make the node
    sync its disk."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._known: tuple[float, Readiness] | None = None

    async def check(self, services: Services) -> Readiness:
        """Return the result of a check within the last second, or check again."""
        loop = asyncio.get_running_loop()
        async with self._turn:
            if self._known is None or loop.time() - self._known[0] >= _SHARED_S:
                self._known = (loop.time(), await _look(services))
            return self._known[1]


PROBE: web.AppKey[ReadinessProbe] = web.AppKey("readiness", ReadinessProbe)


async def _look(services: Services) -> Readiness:
    """Write the canary and check the rows that a start has to leave in the store."""
    own, ready_s = services.own_quotes, services.config.limits.ready_s

    canary = Commit(puts=(Put(key=CANARY_KEY, value=services.entropy.token(8)),))

    async def objects() -> bool:
        await services.values.files.check()
        return True

    parts = {
        "write": await _state(services.store.commit(canary), ready_s),
        "schema": await _state(read_row(services.store, SCHEMA_KEY)),
        "release": await _state(recorded_release(services.store)),
        "objects": await _state(objects(), ready_s),
    }
    is_ready = all(state == "ok" for state in parts.values())
    return Readiness(is_ready, **parts, own_quotes=None if own is None else own.state)  # AT44


async def _state(checked: Awaitable[object], limit_s: float | None = None) -> str:
    try:
        async with asyncio.timeout(limit_s):
            found = await checked
    except TimeoutError:
        return "slow"
    except (SpaceError, EncryptionError) as error:
        return error.code
    if found is None:
        return "missing"
    return "refused" if isinstance(found, Refused) else "ok"
