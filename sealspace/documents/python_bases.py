"""The Python bases that this release knows: their hashes, and the modules that they have (PY13).

Example:
    newest = known_bases()[0]
    assert "json" in newest.modules
"""

from functools import cache
from pathlib import Path

from msgspec import json

from capabilities.strict_json import Sha256Hex, StrictRecord

from ..errors import InvalidInput

_LIST = Path(__file__).with_name("python_bases.json")  # `tools/python_base/build.py` writes it


class PythonBase(StrictRecord, kw_only=True):
    """A Python base.

    Attributes:
        sha256: SHA-256 of the component, 64 lower-case hex digits.
        python: version of Python, such as `3.14.0`.
        modules: names of the modules that programs can import, without submodules.
    """

    sha256: Sha256Hex
    python: str
    modules: tuple[str, ...]


@cache
def known_bases() -> tuple[PythonBase, ...]:
    """Return the bases of this release, the newest first."""
    return json.decode(_LIST.read_bytes(), type=tuple[PythonBase, ...])


def known_base(sha256: str | None) -> PythonBase:
    """Return a base by its hash, or the newest one for None.

    Raises:
        InvalidInput: this release does not know it.
    """
    for base in known_bases():
        if sha256 in (None, base.sha256):
            return base
    known = ", ".join(base.sha256 for base in known_bases())
    raise InvalidInput("unknown Python base", hint=f"use one of these: --base {known}")
