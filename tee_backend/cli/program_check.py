"""A trial compilation of a WebAssembly program.

The package extra `runner` must be installed.
"""

import hashlib

from sealspace.apps.programs import Target
from sealspace.errors import InvalidInput

from ..runner.guest.executor import Executor
from ..runner.guest.runs import Target as RunTarget
from ..runner.reasons import RunRefused

_BUILD = "build the program for wasm32-wasip1 or wasm32-wasip2, and pass that target as --target"
_HINTS = {
    "program-imports": "use only WASI functions, without files and sockets",
    "runner-failed": "run the command again when this machine is less busy",
}


async def check(wasm: bytes, target: Target) -> None:
    """Compile a program in a confined child process.

    Raises InvalidInput if the compilation fails.
    """

    async def load() -> bytes:
        return wasm

    try:
        async with Executor(children=1, spare=1) as executor:
            await executor.compile(hashlib.sha256(wasm).hexdigest(), RunTarget(target), load)
    except RunRefused as refused:
        reason = refused.reason
        named = f": {reason.detail}" if reason.detail else ""
        raise InvalidInput(
            f"{reason.sentence.rstrip('.')}{named}", hint=_HINTS.get(reason.code, _BUILD)
        ) from refused
