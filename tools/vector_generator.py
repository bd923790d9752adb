"""Rewrite the test vectors in spec/vectors: `python tools/vector_generator.py`.

Keys, times and random bytes are fixed, so a second run writes the same bytes. Files that are no
longer generated are removed; README.md is written by hand.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))

from generate_vectors.files import all_files  # found on the path that is set above

VECTORS = Path(__file__).resolve().parent.parent / "spec" / "vectors"


def write_vectors(folder: Path) -> None:
    """Write every generated file below the folder, and remove all others."""
    files = {folder / path: text for path, text in all_files().items()}
    for stale in folder.rglob("*"):
        if stale.is_file() and stale not in files and stale.name != "README.md":
            stale.unlink()
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_vectors(VECTORS)
