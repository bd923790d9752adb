"""The event loop of a node's processes: uvloop if the extra `fast` is installed, else asyncio.

The same code runs on both. The log line `worker-started` names the one in use.
"""

import asyncio
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def loop_factory() -> LoopFactory | None:
    """Return the factory of the event loop, or None for asyncio's default."""
    if find_spec("uvloop") is None:
        return None
    factory: LoopFactory = import_module("uvloop").new_event_loop
    return factory


def loop_name(loop: asyncio.AbstractEventLoop) -> str:
    """Return the name of an event loop for the log: `uvloop` or `asyncio`."""
    return type(loop).__module__.partition(".")[0]
