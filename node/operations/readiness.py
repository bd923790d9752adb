"""The readiness check behind `/readyz` (wire 7.1).

A process can be alive without being able to serve: if the disk is full or the storekeeper has
ended, /healthz still answers.
"""

import asyncio
from collections.abc import Awaitable

from aiohttp import web

from capabilities.frozen_struct import FrozenStruct
from encryption_network.network_errors import EncryptionError
from spaces.grants.replay_records import restore_wait
from spaces.keyspace import CANARY_KEY, ROOT_SECRET_KEY, SCHEMA_KEY
from spaces.space_errors import SpaceError
from spaces.store.contract import Commit, Put, Refused, read_row
from spaces.store.durable import low_space

from ..release_terms import recorded_release
from ..services import Services

_SHARED_S = 1.0


class Readiness(FrozenStruct, omit_defaults=True):
    """The JSON response of `/readyz`.

    Attributes:
        ready: whether all checks passed, and the node serves reads and writes.
        write: `ok`, `slow`, `refused` or the code of the store's error.
        schema: `ok`, `missing` or the code of the store's error.
        release: `ok`, `missing` or the code of the error in the release record.
        objects: `ok`, `slow` or the code of the object store's error.
        own_quotes: `untried`, `ok` or the code of the last failure to get the node's own quote in
            this worker; omitted outside a trust domain. It does not affect `ready`, because values
            and secrets are served without it (AT44).
        closed: why the node must get no requests: it refuses all reads and writes for some minutes
            after a restore (BK5), or its root secret was replaced (RK4).
        degraded: what does not work although the node is ready.
    """

    ready: bool
    write: str
    schema: str
    release: str
    objects: str
    own_quotes: str | None = None
    closed: str | None = None
    degraded: str | None = None


class ReadinessProbe:
    """A readiness check that runs at most once per second.

    The rate is limited because each check syncs the disk and the caller needs no token.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._known: tuple[float, Readiness] | None = None

    async def check(self, services: Services) -> Readiness:
        """Check whether the node can serve requests.

        A result that is under a second old is returned again.
        """
        loop = asyncio.get_running_loop()
        async with self._turn:
            if self._known is None or loop.time() - self._known[0] >= _SHARED_S:
                self._known = (loop.time(), await _run_checks(services))
            return self._known[1]


PROBE = web.AppKey("readiness", ReadinessProbe)


async def _run_checks(services: Services) -> Readiness:
    """Check that the store can be written and read, and that the files of values can be used."""
    own, ready_s = services.own_quotes, services.config.limits.ready_s

    canary = Commit(puts=(Put(key=CANARY_KEY, value=services.entropy.token(8)),))

    async def check_objects() -> bool:
        await services.values.files.check()
        return True  # the check returns None, which `_state` would report as "missing"

    write = await _state(services.store.commit(canary), ready_s)
    schema = await _state(read_row(services.store, SCHEMA_KEY))
    release = await _state(recorded_release(services.store))
    large_values = await _state(check_objects(), ready_s)
    is_ready = write == schema == release == large_values == "ok"
    closed = ""
    # This reads the store again, which would fail if a check has failed. The states above report
    # that failure.
    if is_ready:
        closed = await _reason_to_be_closed(services)
    # The message does not contain the folder's path, because everyone may read this answer.
    degraded = low_space(services.config.data, name="the data folder")
    return Readiness(
        # A node that refuses every read and write must get no requests from a proxy (BK5).
        ready=is_ready and not closed,
        write=write,
        schema=schema,
        release=release,
        objects=large_values,
        own_quotes=None if own is None else own.state,  # shown, but not counted above (AT44)
        closed=closed or None,
        degraded=degraded or None,
    )


async def _reason_to_be_closed(services: Services) -> str:
    """Return why a proxy must send no requests to this node, or "" if there is no reason."""
    root_secret = await read_row(services.store, ROOT_SECRET_KEY)
    if not services.has_present_secret(root_secret):  # this process has a former secret (RK4)
        return "the root secret was replaced; the node must be restarted with the new one"
    return await restore_wait(services.store, services.now())


async def _state(check: Awaitable[object], limit_s: float | None = None) -> str:
    """Run one check, and return its state as in `Readiness`.

    `limit_s` is the time after which the check counts as `slow`; None waits without a limit.
    """
    try:
        async with asyncio.timeout(limit_s):
            result = await check
    except TimeoutError:
        return "slow"
    except (SpaceError, EncryptionError) as error:
        return error.code
    if result is None:
        return "missing"
    return "refused" if isinstance(result, Refused) else "ok"
