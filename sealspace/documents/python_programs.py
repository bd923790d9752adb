"""Python programs for runners: a script, its modules, and the base that runs them (PY1 to PY4).

A Python program is canonical JSON: the SHA-256 of a Python base, and source files by their paths. A
base is a component that contains an interpreter. So the SHA-256 of a program, which grants name,
determines the interpreter, the script and all its modules.

Example:
    program = PythonProgram(base="0" * 64, files={"app.py": "print('hello')"})
    data = python_program_bytes(program)
    assert parse_python_program(data) == program
    assert base_of(data[:BASE_END]) == "0" * 64
"""

import re
from collections.abc import Mapping

from msgspec import json

from capabilities.strict_json import Sha256Hex, StrictRecord
from encryption_network.canonical_json import canonical_bytes

from ..errors import InvalidInput

MAX_ARCHIVE_BYTES = 4 * 1024 * 1024
MAX_FILES = 1000
MAX_PATH_CHARS = 200
MAIN_FILE = "app.py"
BASE_END = 74
"""Length of a program's beginning that contains the base."""
_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_MAX_REASON_CHARS = 200
_BEGIN = re.compile(rb'\{"base":"([0-9a-f]{64})"')


class PythonProgram(StrictRecord, kw_only=True):
    """A Python program.

    Attributes:
        base: SHA-256 of the Python base that runs it.
        files: text of each file by its path, such as `app.py` or `package/module.py`.
    """

    base: Sha256Hex
    files: Mapping[str, str]


_DECODER = json.Decoder(PythonProgram)


def python_program_bytes(program: PythonProgram) -> bytes:
    """Encode a Python program.

    Returns:
        Canonical JSON in UTF-8: without times, and with files in the order of their paths.
    Raises:
        InvalidInput: a bound or a rule of the format is broken; the message names the file.
    """
    _check_files(program)
    data = canonical_bytes({"base": program.base, "files": dict(program.files)})
    if len(data) > MAX_ARCHIVE_BYTES:
        raise InvalidInput(
            f"the program is {len(data)} bytes long, but may have at most {MAX_ARCHIVE_BYTES}",
            hint="leave out files that the program does not need",
        )
    return data


def parse_python_program(data: bytes) -> PythonProgram:
    """Parse an untrusted Python program.

    Args:
        data: bytes of an archive, at most `MAX_ARCHIVE_BYTES`.
    Raises:
        InvalidInput: a bound or a rule of the format is broken, or the data is not the canonical
            JSON of its program (PY1).
    """
    if len(data) > MAX_ARCHIVE_BYTES:
        raise InvalidInput(f"not a Python program: it is longer than {MAX_ARCHIVE_BYTES} bytes")
    # In a canonical document, this text is between each name and its value, and nowhere else:
    # quotes inside of strings are escaped. The members are counted before they are parsed, because
    # parsing a million of them would block the process for a second.
    member_count = data.count(b'":"')
    if member_count > MAX_FILES + 1:  # the files and the base
        raise InvalidInput(f"not a Python program: it has more than {MAX_FILES} files")
    try:
        # The decoder knows the type, so it stops at the first value of another type.
        program = _DECODER.decode(data)
    except ValueError as exc:
        # The error may quote a name of any length, so it is cut.
        raise InvalidInput(f"not a Python program: {str(exc)[:_MAX_REASON_CHARS]}") from exc
    if python_program_bytes(program) != data:  # PY1: one program has one hash
        raise InvalidInput("not a Python program: its JSON is not canonical")
    return program


def base_of(beginning: bytes) -> str:
    """Read the SHA-256 of the base from the beginning of an accepted Python program.

    Args:
        beginning: the first `BASE_END` bytes, or more, of a program that `parse_python_program`
            accepted.
    Raises:
        InvalidInput: these bytes do not begin a Python program.
    """
    match = _BEGIN.match(beginning)
    if match is None:
        raise InvalidInput("not a Python program: it does not begin with its base")
    return match[1].decode()


def _check_files(program: PythonProgram) -> None:
    """Check the number of files, that the script is there, and the paths (PY2, PY3).

    Raises:
        InvalidInput: there are too many files, no `app.py`, or a path that is not valid.
    """
    if len(program.files) > MAX_FILES:
        raise InvalidInput(
            f"the program has {len(program.files)} files, but may have at most {MAX_FILES}",
            hint="leave out files that the program does not need",
        )
    if MAIN_FILE not in program.files:
        raise InvalidInput(f"the program has no file {MAIN_FILE}")
    for path in program.files:
        is_valid_path = len(path) <= MAX_PATH_CHARS and _PATH.fullmatch(path) is not None
        if not is_valid_path:
            raise InvalidInput(
                f"the path {path[:MAX_PATH_CHARS]!r} is not valid",
                hint="use letters, digits, underscores, dots and dashes, and begin no name with a"
                f" dot or dash; at most {MAX_PATH_CHARS} characters",
            )
