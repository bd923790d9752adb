"""Which event loop a worker and the storekeeper run on: uvloop where the extra `fast` installed it,
else asyncio's own.

Nothing else differs: the same code runs on both. The line `worker-started` of the log says which
one is used.
"""

import asyncio
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def loop_factory() -> LoopFactory | None:
    """Return the factory of the event loop; None: the default of asyncio."""
    if find_spec("uvloop") is None:
        return None
    factory: LoopFactory = import_module("uvloop").new_event_loop
    return factory


def loop_name(loop: asyncio.AbstractEventLoop) -> str:
    """Return the name of an event loop in the log: `uvloop` or `asyncio`."""
    return type(loop).__module__.partition(".")[0]
