"""Files as a stranger may send them: pipes, devices, links to nothing, folders, and long files.

Example:
    replaced(folder / "quote.json", "pipe")
"""

import os
from pathlib import Path

LONG_BYTES = 100_000_000
REASONS = {
    "pipe": "not a regular file",
    "device": "not a regular file",
    "link": "no such file",
    "folder": "it is a folder",
    "long": " than ",
}
"""What a command says of each kind; of long files the limit."""


def replaced(path: Path, kind: str) -> None:
    """Put a strange file in the place of another: a pipe, device, link, folder, or long file."""
    path.unlink(missing_ok=True)
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "link":
            path.symlink_to("/nowhere")
        case "folder":
            path.mkdir()
        case _:
            with path.open("wb") as stream:
                stream.truncate(LONG_BYTES)
