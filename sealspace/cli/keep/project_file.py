"""The text of a new project file `.sealspace.toml`, which `sealspace run` reads."""

from collections.abc import Iterable

from ...documents.secret_names import canonical_scope
from ...errors import InvalidInput

PROJECT_FILE = ".sealspace.toml"
MAX_PROJECT_BYTES = 16 << 10
"""Limit of a file. `tomllib` takes 2 s for a dotted key of this length, and 29 s for 64 KiB."""


def project_text(names: Iterable[str], scope: str | None) -> str:
    """Return a project file with which `sealspace run` passes these secrets of a scope."""
    lines = []
    if scope is not None:
        lines.append(f'scope = "{canonical_scope(scope)}"')
    lines += ["secrets = [", *[f'    "{name}",' for name in names], "]", ""]
    text = "\n".join(lines)
    if len(text) > MAX_PROJECT_BYTES:
        raise InvalidInput(
            "the names are too long for a project file, which has at most"
            f" {MAX_PROJECT_BYTES} bytes",
            hint="import the file in parts, or omit --write-project",
        )
    return text
