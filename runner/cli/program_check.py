"""A trial compilation of a WebAssembly program.

The package extra `runner` must be installed.
"""

import hashlib

from sealspace.apps.programs import Target
from sealspace.errors import InvalidInput

from ..guest.executor import Executor
from ..reasons import RunRefused

_BUILD = "build the program for wasm32-wasip1 or wasm32-wasip2, and pass that target as --target"
_CHAIN = "runners read no blockchain; spec/runner/README.md lists what to use instead"
_HINTS = {
    "compile-limit": "build a smaller program, with fewer dependencies",
    "program-imports": "use only WASI functions, without files and sockets",
    "near:storage/": "use the functions of near:storage that spec/runner/README.md lists",
    "wasi:http/": "send requests with sealspace:http/client, as spec/runner/README.md shows",
    **dict.fromkeys(("near:rpc", "near:vrf", "near:payment", "outlayer:"), _CHAIN),
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
            await executor.compile(hashlib.sha256(wasm).hexdigest(), target, load)
    except RunRefused as refused:
        reason = refused.reason
        named = f": {reason.detail}" if reason.detail else ""
        # The hint for an interface comes before the one for its code (RN215)
        hints = [
            hint for start, hint in _HINTS.items() if start in f"{reason.code} {reason.detail}"
        ]
        raise InvalidInput(
            f"{reason.sentence.rstrip('.')}{named}", hint=(hints or [_BUILD])[-1]
        ) from refused
