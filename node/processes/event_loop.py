"""Functions that select uvloop or asyncio for a node's processes.

The event loop is uvloop's if the extra `fast` is installed, else asyncio's. The same code runs on
both. The log line `worker-started` names the one in use.
"""

import asyncio
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def loop_factory() -> LoopFactory | None:
    """Return the event loop factory, or None for asyncio's default."""
    if find_spec("uvloop") is None:
        return None
    factory: LoopFactory = import_module("uvloop").new_event_loop
    return factory
