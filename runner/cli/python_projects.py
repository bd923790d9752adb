"""Python programs in folders: the commands that make and try one, and how a folder is packed."""

import ast
import asyncio
import hashlib
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import click

from capabilities.capability_errors import InvalidJson
from capabilities.strict_json import parse_json
from sealspace.apps.programs import MAX_PROGRAM_BYTES, ProgramManifest, parse_program_manifest
from sealspace.cli.options.paths import (
    FILE,
    FILE_OR_DASH,
    file_option,
    read_named,
    require_readable,
)
from sealspace.cli.owner.owner_profile import owner_home
from sealspace.cli.terminal import tell
from sealspace.documents.project_names import checked_project_name
from sealspace.documents.python_bases import known_base
from sealspace.documents.python_programs import (
    MAIN_FILE,
    MAX_ARCHIVE_BYTES,
    MAX_FILES,
    PythonProgram,
    python_program_bytes,
)
from sealspace.errors import InvalidInput
from sealspace.private_files import make_file
from sealspace.service.command_errors import AlreadyThere, RunFailed

MANIFEST_FILE = "manifest.json"
_MAX_MANIFEST_BYTES = 64 * 1024
_APP = '''\
"""Signs its input with the secret API_KEY.

Standard input is the input of a call, and what is printed is its answer.
"""

import hmac
import os
import sys

key = os.environ.get("API_KEY")
if key is None:
    sys.exit("the secret API_KEY is missing")
message = sys.stdin.read()
print(hmac.digest(key.encode(), message.encode(), "sha256").hex())
'''
_MANIFEST = """\
{
  "secrets": ["API_KEY"],
  "hosts": []
}
"""


@click.command(
    epilog="Example: `sealspace task init hello`, `sealspace project publish hello hello`."
)
@click.argument("name")
def init(name: str) -> None:
    """Write a Python program for runners into the new folder NAME.

    The folder has `app.py`, the program, and `manifest.json`, which names the secrets and hosts
    that it needs. Other modules of the program belong beside `app.py`.
    """
    folder = Path(checked_project_name(name))
    try:
        folder.mkdir()
    except FileExistsError:
        raise AlreadyThere(f"{name} exists already", hint="choose another name") from None
    make_file(folder / MAIN_FILE, _APP.encode())
    make_file(folder / MANIFEST_FILE, _MANIFEST.encode())
    tell(
        f"wrote {name}/{MAIN_FILE} and {name}/{MANIFEST_FILE}",
        f"to try it: sealspace task try {name}",
        f"to publish it: sealspace project publish {name} {name}",
    )


@click.command(
    "try",
    epilog="Example: `printf hello | API_KEY=test sealspace task try hello --input -`. The first"
    " trial compiles the Python base, which takes half a minute.",
)
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--python-base",
    "base_file",
    type=FILE,
    envvar="SEALSPACE_PYTHON_BASE",
    required=True,
    help="File of the Python base, which is part of each release (python-base.wasm).",
)
@file_option(
    "--input", "input_file", type=FILE_OR_DASH, help="File with the input, or `-`. Default: none."
)
def try_(folder: Path, base_file: Path, input_file: Path | None) -> None:
    """Run the Python program in FOLDER on this machine, under a runner's default limits.

    The secrets that its manifest names are taken from variables of this shell with the same names.
    The program may contact the hosts that the manifest names.
    """
    from . import program_check  # needs the extra

    base = read_named(base_file, most_bytes=MAX_PROGRAM_BYTES)
    data = packed(folder, hashlib.sha256(base).hexdigest(), is_known=False)
    given = b"" if input_file is None else read_named(input_file, most_bytes=10_000_000)
    manifest = manifest_beside(folder) or ProgramManifest()
    cache = _cache_folder()
    result = asyncio.run(
        program_check.try_python(data, base, given, manifest, _secrets(manifest), cache)
    )
    sys.stdout.buffer.write(result.output)
    sys.stdout.flush()
    print(result.stderr.decode("utf-8", "replace"), end="", file=sys.stderr)
    if result.reason is not None:
        raise RunFailed(
            f"{result.reason.code}: {result.reason.sentence} {result.reason.detail}".rstrip(),
            hint="the lines above are from the program",
        )
    tell(f"{result.rounded_instructions} instructions, {result.rounded_time_ms} ms")


def program_in(path: Path, base: str | None) -> bytes:
    """Read a compiled program, or pack a folder or a script in Python.

    A longer file yields `MAX_PROGRAM_BYTES` + 1 bytes. `base` is as for `packed`.

    Raises:
        InvalidInput: as `packed`.
    """
    if path.is_dir() or path.suffix == ".py":
        return packed(path, base)
    require_readable(path)
    return read_named(path, most_bytes=MAX_PROGRAM_BYTES)


def packed(path: Path, base: str | None = None, *, is_known: bool = True) -> bytes:
    """Pack a folder with `app.py`, or a script alone, as a Python program.

    Files whose names end in `.py` are packed, without links and hidden names. A program that
    imports a module which neither it nor its base has is refused, if `app.py` shows it (PY13).

    Args:
        path: the folder or the script.
        base: SHA-256 of the Python base; None: the newest one.
        is_known: False skips the checks that need the list of the base's modules.
    Raises:
        InvalidInput: the program breaks a rule of the format, or an import fails.
    """
    files = {}
    for name, file in _sources(path):
        data = read_named(file, most_bytes=MAX_ARCHIVE_BYTES)
        try:
            files[name] = data.decode()
        except UnicodeDecodeError:
            raise InvalidInput(f"{file} is not UTF-8 text", hint="save it as UTF-8") from None
    if is_known:
        known = known_base(base)
        _check_imports(files, frozenset(known.modules))
        base = known.sha256
    return python_program_bytes(PythonProgram(base=base or "", files=files))


def _sources(path: Path) -> list[tuple[str, Path]]:
    """Return the names and paths of the files of a program."""
    if not path.is_dir():
        return [(MAIN_FILE, path)]
    found = []
    for folder, names, files in os.walk(path):
        names[:] = [name for name in names if not name.startswith((".", "__pycache__"))]
        for name in files:
            file = Path(folder, name)
            if name.endswith(".py") and not name.startswith(".") and not file.is_symlink():
                found.append((file.relative_to(path).as_posix(), file))
        if len(found) > MAX_FILES:
            raise InvalidInput(
                f"{path} has more than {MAX_FILES} Python files",
                hint="choose the folder of the program alone, without a virtual environment",
            )
    return found


def _check_imports(files: dict[str, str], modules: frozenset[str]) -> None:
    """Check the modules that a program has, and those that `app.py` always imports (PY13).

    Raises:
        InvalidInput: the program has a module of the base, or imports one that is missing.
    """
    own = {name.partition("/")[0].removesuffix(".py") for name in files}
    hidden = sorted(own & modules)
    if hidden:
        raise InvalidInput(
            f"the Python base has the module {hidden[0]} already, so that of the program would be"
            " ignored",
            hint="rename or remove it",
        )
    try:
        tree = ast.parse(files.get(MAIN_FILE, "").removeprefix("\ufeff"))
    except SyntaxError as error:  # the base may have a newer Python than this command
        tell(f"{MAIN_FILE}, line {error.lineno}: {error.msg}; the imports were not checked")
        return
    for node in tree.body:  # others may be conditional
        for name in _imported(node):
            if name not in own and name not in modules:
                raise InvalidInput(
                    f"{MAIN_FILE}, line {node.lineno}: neither the program nor its Python base has"
                    f" the module {name}",
                    hint="copy it into the program's folder if it is pure Python",
                )


def _imported(node: ast.stmt) -> list[str]:
    """Return the modules that a statement imports, without submodules."""
    names: list[str] = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
        names = [node.module]
    return [name.partition(".")[0] for name in names]


def read_manifest(file: Path) -> ProgramManifest:
    """Read the manifest of a program.

    Raises:
        InvalidInput: the file is not a manifest.
    """
    data = read_named(file, most_bytes=_MAX_MANIFEST_BYTES)
    try:
        return parse_program_manifest(parse_json(data, max_bytes=_MAX_MANIFEST_BYTES))
    except InvalidJson as error:
        raise InvalidInput(
            f"{file} is not a program's manifest: {error}",
            hint='write for example {"secrets": ["API_KEY"]}',
        ) from None


def manifest_beside(path: Path) -> ProgramManifest | None:
    """Read the manifest in the folder of a program, or return None if there is none."""
    file = path / MANIFEST_FILE
    return read_manifest(file) if file.is_file() else None


def _secrets(manifest: ProgramManifest) -> dict[str, str]:
    """Return the values of a manifest's secrets, from variables of this process.

    Raises:
        InvalidInput: a variable is missing.
    """
    names = [*(manifest.secrets or ())]
    if manifest.developer is not None:
        names += manifest.developer.secrets
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise InvalidInput(
            f"there is no value for the secret {missing[0]}",
            hint=f"set a variable for a trial: {missing[0]}=test sealspace task try …",
        )
    return {name: os.environ[name] for name in names}


def _cache_folder() -> Path:
    """Return the folder for the compiled base, which other users cannot write to.

    wasmtime loads a compiled program without checking it. So only trials use this folder, which
    handle no granted secret: who can write to it can change the owner's own files too.
    """
    folder = owner_home().folder / "python-base" / f"{version('wasmtime')}-{platform.machine()}"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder
