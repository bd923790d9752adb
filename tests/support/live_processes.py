"""The running processes of this machine."""

from pathlib import Path


def processes_that_name(folder: Path) -> list[str]:
    """Return the command lines of running processes that contain a folder's name."""
    lines = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (
                    (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
            except OSError:
                continue
            if str(folder) in line:
                lines.append(line)
    return lines
