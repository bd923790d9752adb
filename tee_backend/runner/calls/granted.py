"""Grants of one kind that a backend holds.

Example:
    run_grants = live_grants(backend, partial(read_run_grant, runner=backend.did))
    for grant, run_grant in run_grants(): ...
"""

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from sealspace.errors import InvalidPortableDelegation
from sealspace.session import Grant

from ...backend import Backend

_Read = TypeVar("_Read")


def live_grants(backend: Backend, read: Callable[[str], _Read]) -> Callable[[], list[tuple[Grant, _Read]]]:
    """Return a function that lists the live grants which `read` accepts, the newest first.

    They may have been read from disk, which the host owns: each is read as one that just arrived, and once.
    """
    known: dict[str, _Read | None] = {}

    def listed() -> list[tuple[Grant, _Read]]:
        live = {one.grant.cid: one.grant for one in backend.grants if one.state == "live"}
        for cid in known.keys() - live.keys():
            del known[cid]
        for cid in live.keys() - known.keys():
            known[cid] = None
            with suppress(InvalidPortableDelegation):  # a grant of another kind
                known[cid] = read(live[cid].header)
        return [(grant, found) for cid, grant in live.items() if (found := known[cid]) is not None]

    return listed
