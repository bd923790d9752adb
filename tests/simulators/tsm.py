"""A simulation of the kernel's report interface with real files in an ordinary folder."""

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tee_backend.evidence.tsm import ReportFiles


@dataclass
class TsmSimulator(ReportFiles):
    """A simulated report interface that reacts to reads and writes of its files.

    Attributes:
        make_quote: what the platform does with an inblob.
        provider: which technology it says it is.
        intruder: called with the report's folder before a quote is read; may write into it.
        error: errno that reading a quote fails with; None: it does not.
    """

    make_quote: Callable[[bytes], bytes]
    provider: str = "tdx_guest"
    intruder: Callable[[Path], object] | None = None
    error: int | None = None
    made: list[Path] = field(default_factory=list)

    def make(self, folder: Path) -> None:
        """Make a folder with the files of a report in it."""
        super().make(folder)
        self.made.append(folder)
        (folder / "provider").write_text(f"{self.provider}\n")
        (folder / "generation").write_text("0\n")
        (folder / "inblob").touch(mode=0o200)
        (folder / "outblob").touch()

    def remove(self, folder: Path) -> None:
        """Remove a folder together with its files."""
        for path in folder.iterdir():
            path.unlink()
        super().remove(folder)

    def write(self, path: Path, data: bytes) -> None:
        """Write a file and count it."""
        super().write(path, data)
        generation = path.with_name("generation")
        generation.write_text(f"{int(generation.read_text()) + 1}\n")
        path.with_name("asked").write_bytes(data)

    def read(self, path: Path, *, most_bytes: int) -> bytes:
        """Read a file; reading the quote creates it."""
        if path.name == "outblob":
            if self.error is not None:
                raise OSError(self.error, errno.errorcode[self.error])
            if self.intruder is not None:
                self.intruder(path.parent)
            path.write_bytes(self.make_quote(path.with_name("asked").read_bytes()))
        return super().read(path, most_bytes=most_bytes)
