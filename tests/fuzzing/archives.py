"""The small corpora of the repository: one archive for each target."""

import tarfile
from pathlib import Path

CORPUS = Path(__file__).resolve().parent / "corpus"
MAX_ARCHIVE_BYTES = 10_000
"""The largest archive of one target."""
MAX_BYTES = 300_000
"""All archives together."""


def read_corpus(name: str) -> dict[str, bytes]:
    """Return the inputs of a target by name; there are none if it has no archive."""
    path = CORPUS / f"{name}.tar.xz"
    if not path.exists():
        return {}
    with tarfile.open(path) as archive:
        return {
            member.name: part.read()
            for member in archive
            if (part := archive.extractfile(member)) is not None
        }
