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
_MAX_INPUT_BYTES = 10_000_000
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
        raise AlreadyThere(
            f"{name} exists already",
            hint=f"choose another name; a folder of yours needs only {MAIN_FILE}, and"
            f" {MANIFEST_FILE} if it uses secrets or hosts: sealspace project publish NAME {name}",
        ) from None
    make_file(folder / MAIN_FILE, _APP.encode())
    make_file(folder / MANIFEST_FILE, _MANIFEST.encode())
    tell(
        f"wrote {name}/{MAIN_FILE} and {name}/{MANIFEST_FILE}",
        f"to try it: API_KEY=test sealspace task try {name} --python-base FILE",
        f"to publish it: sealspace project publish {name} {name}",
    )


@click.command(
    "try",
    epilog="Example: `printf hello | API_KEY=test sealspace task try hello --input -`. The first"
    " trial compiles the Python base, which takes half a minute.",
)
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--python-base",
    "base_file",
    type=FILE,
    envvar="SEALSPACE_PYTHON_BASE",
    help="File of the Python base, which is part of each release (python-base.wasm); in a clone,"
    " `make python-base` builds it. Required, unless SEALSPACE_PYTHON_BASE names the file.",
)
@file_option(
    "--input", "input_file", type=FILE_OR_DASH, help="File with the input, or `-`. Default: none."
)
def try_(folder: Path, base_file: Path | None, input_file: Path | None) -> None:
    """Run the Python program in FOLDER on this machine, under a runner's default limits.

    The secrets that its manifest names are taken from variables of this shell with the same names.
    The program may contact the hosts that the manifest names.
    """
    from . import program_check  # needs the extra

    if base_file is None:
        raise InvalidInput(
            "a trial needs the Python base",
            hint="give its file by --python-base or SEALSPACE_PYTHON_BASE; it is part of a release"
            " (python-base.wasm), and `make python-base` builds it in a clone",
        )
    base = read_named(base_file, most_bytes=MAX_PROGRAM_BYTES)
    # The base may be of another release, so its modules are not known here.
    program = pack_program(folder, hashlib.sha256(base).hexdigest(), is_known=False)
    program_input = b""
    if input_file is not None:
        program_input = read_named(input_file, most_bytes=_MAX_INPUT_BYTES)
    manifest = manifest_beside(folder) or ProgramManifest()
    secrets = _read_secret_variables(manifest)
    result = asyncio.run(
        program_check.try_python(program, base, program_input, manifest, secrets, _cache_folder())
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


def read_or_pack_program(path: Path, base: str | None) -> bytes:
    """Read a compiled program, or pack a folder or a script in Python.

    Of a file that is longer than a program may be, `MAX_PROGRAM_BYTES` + 1 bytes are returned.
    `base` is the SHA-256 of the Python base; None means the newest one.

    Raises:
        InvalidInput: the folder or script cannot be packed; see `pack_program`.
    """
    is_python = path.is_dir() or path.suffix == ".py"
    if is_python:
        return pack_program(path, base)
    require_readable(path)
    return read_named(path, most_bytes=MAX_PROGRAM_BYTES)


def pack_program(path: Path, base: str | None = None, *, is_known: bool = True) -> bytes:
    """Pack a folder with `app.py`, or a script alone, as a Python program.

    Files whose names end in `.py` are packed, without links and hidden names. A program that
    imports a module which neither it nor its base has is refused, if `app.py` shows it (PY13).

    Args:
        path: the folder or the script.
        base: SHA-256 of the Python base; None: the newest one.
        is_known: whether the base is in this release's list, which has the modules of each base.
            If not, the hash is used as it is, and the imports are not checked.
    Raises:
        InvalidInput: the program breaks a rule of the format, imports a missing module, or names a
            base that is not in the list.
    """
    files: dict[str, str] = {}
    for name, file in _find_source_files(path).items():
        data = read_named(file, most_bytes=MAX_ARCHIVE_BYTES)
        try:
            files[name] = data.decode()
        except UnicodeDecodeError:
            raise InvalidInput(f"{file} is not UTF-8 text", hint="save it as UTF-8") from None
    if is_known:
        listed_base = known_base(base)
        _check_imports(files, base_modules=frozenset(listed_base.modules))
        base = listed_base.sha256
    return python_program_bytes(PythonProgram(base=base or "", files=files))


def _find_source_files(path: Path) -> dict[str, Path]:
    """Return the files of a program by their names in it, such as `package/module.py`.

    Raises:
        InvalidInput: there are more files than a program may have.
    """
    if not path.is_dir():
        return {MAIN_FILE: path}
    source_files: dict[str, Path] = {}
    for folder, subfolders, file_names in os.walk(path):
        # In place, because `os.walk` then leaves the removed folders out.
        subfolders[:] = [name for name in subfolders if not name.startswith((".", "__pycache__"))]
        for file_name in file_names:
            file = Path(folder, file_name)
            is_source = file_name.endswith(".py") and not file_name.startswith(".")
            if is_source and not file.is_symlink():
                source_files[file.relative_to(path).as_posix()] = file
        if len(source_files) > MAX_FILES:
            raise InvalidInput(
                f"{path} has more than {MAX_FILES} Python files",
                hint="choose the folder of the program alone, without a virtual environment",
            )
    return source_files


def _check_imports(files: dict[str, str], *, base_modules: frozenset[str]) -> None:
    """Check the modules that a program has, and those that `app.py` always imports (PY13).

    Args:
        files: text of each file by its name.
        base_modules: names of the modules that the Python base has.
    Raises:
        InvalidInput: the program has a module of the base, or imports one that is missing.
    """
    own_modules = {name.partition("/")[0].removesuffix(".py") for name in files}
    hidden_modules = sorted(own_modules & base_modules)
    if hidden_modules:
        raise InvalidInput(
            f"the Python base has the module {hidden_modules[0]} already, so that of the program"
            " would be ignored",
            hint="rename or remove it",
        )
    main_text = files.get(MAIN_FILE, "").removeprefix("\ufeff")  # a byte order mark
    try:
        tree = ast.parse(main_text)
    except SyntaxError as error:  # the base may have a newer Python than this command
        tell(f"{MAIN_FILE}, line {error.lineno}: {error.msg}; the imports were not checked")
        return
    known_modules = own_modules | base_modules
    for statement in tree.body:  # not those inside other statements, which may be conditional
        for module in _imported_modules(statement):
            if module not in known_modules:
                raise InvalidInput(
                    f"{MAIN_FILE}, line {statement.lineno}: neither the program nor its Python base"
                    f" has the module {module}",
                    hint="copy it into the program's folder if it is pure Python",
                )


def _imported_modules(node: ast.stmt) -> list[str]:
    """Return the modules that a statement imports, without submodules.

    An import relative to the program's own package names none.
    """
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


def _read_secret_variables(manifest: ProgramManifest) -> dict[str, str]:
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
