"""TDX quotes from the TSM report interface of the Linux kernel.

Linux only: the interface is in configfs since version 6.7.

A report is a folder below `/sys/kernel/config/tsm/report`. Its files appear when the folder is
made:

| file | use |
|---|---|
| provider | read: "tdx_guest" on a TDX guest |
| inblob | written once: 64 bytes of report data |
| generation | read: how often a file of the folder was written |
| outblob | read: the quote; the kernel makes it when it is read |

Each quote has its own folder, so that two callers cannot overwrite each other's input. The
generation reveals a process that did so anyway. The folder is always removed.

Example:
    backend = Backend(client, TsmSource())

Source: Linux, Documentation/ABI/testing/configfs-tsm-report.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from capabilities.clock_and_entropy import Entropy, SystemEntropy

from ..attestation.quote import MAX_QUOTE_BYTES
from .evidence_errors import SourceMalformed, SourceRefused, SourceUnavailable
from .source import Quoted, check_report_data_size, checked_quote

REPORTS_FOLDER = Path("/sys/kernel/config/tsm/report")
PROVIDER = b"tdx_guest"
_MAX_TEXT_BYTES = 64


class ReportFiles:
    """File operations on the kernel's attestation report folders.

    Tests replace this class.
    """

    def make(self, folder: Path) -> None:
        """Create a report folder.

        Raises FileExistsError if the folder already exists.
        """
        folder.mkdir(mode=0o700)

    def remove(self, folder: Path) -> None:
        """Remove a report folder.

        The kernel deletes the folder's files at the same time.
        """
        folder.rmdir()

    def write(self, path: Path, data: bytes) -> None:
        """Write to an existing file with one system call.

        The kernel would treat the data of a second call as a new value.
        """
        descriptor = os.open(path, os.O_WRONLY)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)

    def read(self, path: Path, *, most_bytes: int) -> bytes:
        """Read at most `most_bytes` from the start of a file."""
        with path.open("rb") as stream:
            return stream.read(most_bytes)


class TsmSource:
    """A source of TDX quotes from the Linux kernel."""

    def __init__(
        self,
        folder: Path = REPORTS_FOLDER,
        *,
        files: ReportFiles | None = None,
        entropy: Entropy | None = None,
    ) -> None:
        self._folder = folder
        self._files = files or ReportFiles()
        self._entropy = entropy or SystemEntropy()

    def quote(self, report_data: bytes) -> Quoted:
        """Return a TDX quote over the given report data.

        The report data has 64 bytes. The call blocks until the platform has made the quote.
        """
        check_report_data_size(report_data)
        with self._new_report() as report:
            try:
                provider = self._files.read(report / "provider", most_bytes=_MAX_TEXT_BYTES).strip()
            except OSError as exc:
                raise SourceUnavailable(
                    f"cannot read the report's `provider` file: {exc.strerror}"
                ) from exc
            if provider != PROVIDER:
                raise SourceUnavailable(
                    f"the report provider must be {PROVIDER!r}, but is {provider!r}"
                )
            return Quoted(checked_quote(self._request_quote(report, report_data), report_data))

    @contextmanager
    def _new_report(self) -> Iterator[Path]:
        """Make a report folder, and remove it when the `with` block ends."""
        report = self._folder / f"sealspace-{self._entropy.token(8).hex()}"
        try:
            self._files.make(report)
        except OSError as exc:
            raise SourceUnavailable(
                f"cannot create a report in {self._folder}: {exc.strerror}"
            ) from exc
        try:
            yield report
        finally:
            self._files.remove(report)

    def _request_quote(self, report: Path, report_data: bytes) -> bytes:
        """Write the report data, and read the quote over it."""
        try:
            before = self._generation(report)
            self._files.write(report / "inblob", report_data)
            # One byte more than allowed, so that `checked_quote` notices a longer quote.
            quote = self._files.read(report / "outblob", most_bytes=MAX_QUOTE_BYTES + 1)
            after = self._generation(report)
        except OSError as exc:
            raise SourceRefused(f"the platform made no quote: {exc.strerror}") from exc
        # Our write adds one; a larger difference means that the quote may be over other data.
        if after != before + 1:
            raise SourceRefused("another process wrote into the report")
        return quote

    def _generation(self, report: Path) -> int:
        text = self._files.read(report / "generation", most_bytes=_MAX_TEXT_BYTES).strip()
        if not text.isdigit():
            raise SourceMalformed("the report's `generation` file must contain a number")
        return int(text)
