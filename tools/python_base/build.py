"""Build the Python base, and compare its hash with that in `sealspace/documents/python_bases.json`.

    python tools/python_base/build.py OUTPUT [--update]

The same sources give the same bytes on any x86-64 Linux (`fixed_inputs.c`). With `--update`, a base
with a new hash is added to the list; it is run once to list its modules.
"""

import argparse
import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

from runner.guest.executor import Executor
from runner.guest.runs import RunRequest
from sealspace.documents.python_programs import PythonProgram, python_program_bytes

_OWN = Path(__file__).parent
_REPOSITORY = _OWN.parents[1]
_CACHE = _REPOSITORY / ".cache" / "python-base"
_LIST = _REPOSITORY / "sealspace" / "documents" / "python_bases.json"
_NAMES = """
import json, platform, sys
modules = {*sys.builtin_module_names, *sys.modules} - {"__main__"}
names = sorted({name.partition(".")[0] for name in modules})
print(json.dumps({"python": platform.python_version(), "modules": names}))
"""


def main() -> None:
    """Build the base into a file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("output", type=Path)
    parser.add_argument("--update", action="store_true")
    given = parser.parse_args()
    built = _built()
    sha256 = hashlib.sha256(built).hexdigest()
    given.output.write_bytes(built)
    known = json.loads(_LIST.read_text())
    if any(base["sha256"] == sha256 for base in known):
        print(f"{given.output} {sha256}")
        return
    if not given.update:
        sys.exit(
            f"the base has the hash {sha256}, which is not in {_LIST.name}; next: if its sources"
            " changed, run this again with --update"
        )
    facts = {"sha256": sha256, **asyncio.run(_facts(built, sha256))}
    _LIST.write_text(json.dumps([facts, *known], indent=1) + "\n")
    print(f"{given.output} {sha256} is new")


def _built() -> bytes:
    """Return the component that `componentize-py` makes of `base.py`."""
    _CACHE.mkdir(parents=True, exist_ok=True)
    library = _CACHE / "fixed_inputs.so"
    compiler = shutil.which("cc") or "cc"
    source = _OWN / "fixed_inputs.c"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source)]
    subprocess.run(command, check=True)
    tools = _CACHE / "tools"
    python = tools / "bin" / "python"
    venv.create(tools, with_pip=True)
    lock = _OWN / "requirements.lock"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--require-hashes"]
    subprocess.run([*pip, "--requirement", str(lock)], check=True)
    with tempfile.TemporaryDirectory(dir=_CACHE) as folder:
        sources = Path(folder, "sources")
        sources.mkdir()
        for name in ("base.py", "preloaded.py", "requests.py"):
            shutil.copy(_OWN / name, sources)
        output = Path(folder, "base.wasm")
        interfaces = _REPOSITORY / "spec" / "runner"
        subprocess.run(
            [
                python,
                tools / "bin" / "componentize-py",
                *("--quiet", "--wit-path", interfaces / "http.wit"),
                *("--wit-path", interfaces / "python.wit", "--world", "sealspace:python/base"),
                *("componentize", "--python-path", sources, "base", "--output", output),
            ],
            check=True,
            # One thread draws all random numbers, so that their order is always the same.
            env={
                "PATH": os.environ["PATH"],
                "LD_PRELOAD": str(library),
                "TMPDIR": folder,
                "TOKIO_WORKER_THREADS": "1",
                "RAYON_NUM_THREADS": "1",
            },
        )
        return output.read_bytes()


async def _facts(base: bytes, sha256: str) -> dict[str, Any]:
    """Run a base once, and return its version of Python and the names of its modules."""
    program = python_program_bytes(PythonProgram(base=sha256, files={"app.py": _NAMES}))

    async def load() -> bytes:
        return program

    request = RunRequest(hashlib.sha256(program).hexdigest(), "python")
    async with Executor(children=1, spare=1, bases={sha256: base}) as executor:
        result = await executor.run(request, load)
    if result.reason is not None:
        sys.exit(f"the base does not run: {result.reason.code}\n{result.stderr.decode()}")
    facts: dict[str, Any] = json.loads(bytes(result.output))
    return facts


if __name__ == "__main__":
    main()
