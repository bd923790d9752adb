"""Whether writes work: a canary write inside a time limit, the schema, the release record (wire 7.1).

A process that lives does not necessarily serve: a node whose disk is full or whose storekeeper has ended still answers
/healthz.
"""

import asyncio
from typing import Final

import msgspec
from aiohttp import web

from encryption_network.errors import EncryptionError
from spaces.errors import SpaceError
from spaces.keyspace import CANARY_KEY, SCHEMA_KEY
from spaces.store.contract import Commit, Put, Refused

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
        own_quotes: `untried`, `ok` or the code of the last failure to get the node's own quote in this worker; left out
            of a node that runs in no trust domain. Values and secrets are served without it, so it is reported and does
            not count (AT44).
    """

    ready: bool
    write: str
    schema: str
    release: str
    objects: str
    own_quotes: str | None = None


class ReadinessProbe:
    """At most one check a second, however many ask: unauthenticated clients must not make the node sync its disk."""

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
    write = await _canary(services)
    schema = await _schema(services)
    release = await _release(services)
    objects = await _objects(services)
    ready = write == schema == release == objects == "ok"
    own = services.own_quotes
    return Readiness(
        ready=ready,
        write=write,
        schema=schema,
        release=release,
        objects=objects,
        own_quotes=None if own is None else own.state,  # AT44
    )


async def _canary(services: Services) -> str:
    canary = Commit(puts=(Put(key=CANARY_KEY, value=services.entropy.token(8)),))
    try:
        async with asyncio.timeout(services.config.limits.ready_s):
            outcome = await services.store.commit(canary)
    except TimeoutError:
        return "slow"
    except SpaceError as error:
        return error.code
    return "refused" if isinstance(outcome, Refused) else "ok"


async def _schema(services: Services) -> str:
    try:
        snapshot = await services.store.read((SCHEMA_KEY,))
    except SpaceError as error:
        return error.code
    return "ok" if snapshot.records[0] is not None else "missing"


async def _release(services: Services) -> str:
    try:
        record = await recorded_release(services.store)
    except (SpaceError, EncryptionError) as error:
        return error.code
    return "ok" if record is not None else "missing"


async def _objects(services: Services) -> str:
    try:
        async with asyncio.timeout(services.config.limits.ready_s):
            await services.values.files.check()
    except TimeoutError:
        return "slow"
    except SpaceError as error:
        return error.code
    return "ok"
