"""A trial compilation of a WebAssembly program, and a trial run of a Python program.

The package extra `runner` must be installed.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from sealspace.apps.programs import ProgramManifest, Target
from sealspace.errors import InvalidInput

from ..guest.environment import environment_of
from ..guest.executor import Executor
from ..guest.runs import RunRequest, RunResult
from ..reasons import RunRefused

_BUILD = "build the program for wasm32-wasip1 or wasm32-wasip2, and pass that target as --target"
_CHAIN = "runners read no blockchain; spec/runner/README.md lists what to use instead"
# A part of the code or the detail of a refusal -> the next step. The last row that matches counts,
# so the step for an interface is preferred to the one for "program-imports" (RN215).
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
        text = reason.sentence.rstrip(".")
        if reason.detail:
            text += f": {reason.detail}"
        hint = _BUILD
        for part, step in _HINTS.items():
            if part in f"{reason.code} {reason.detail}":
                hint = step
        raise InvalidInput(text, hint=hint) from refused


async def try_python(
    program: bytes,
    base: bytes,
    program_input: bytes,
    manifest: ProgramManifest,
    secrets: Mapping[str, str],
    cache: Path,
) -> RunResult:
    """Run a Python program once, in a confined child process and under a runner's default limits.

    Args:
        program: a packed Python program, as `pack_program` returns it.
        base: WebAssembly component with the Python interpreter that runs the program.
        program_input: bytes that the program reads as its input.
        manifest: names the hosts that the program may contact.
        secrets: values of the program's environment variables, by name.
        cache: folder for the compiled base.
    """
    sha256 = hashlib.sha256(base).hexdigest()

    async def load() -> bytes:
        return program

    request = RunRequest(
        wasm_sha256=hashlib.sha256(program).hexdigest(),
        target="python",
        environment=environment_of({}, secrets),
        input=program_input,
        secrets_delivered=bool(secrets),
        hosts=frozenset(manifest.hosts),
    )
    bases = {sha256: base}
    async with Executor(children=1, spare=1, bases=bases, base_cache=cache) as executor:
        return await executor.run(request, load)
