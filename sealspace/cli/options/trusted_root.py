"""The command line option that names Sigstore's trusted root.

Example:
    @click.command()
    @trusted_root_option
    def command(trusted_root: Path | None) -> None:
        root = load_trusted_root(trusted_root)
"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from capabilities.clock_and_entropy import SystemClock

from ...documents.trusted_roots import MAX_TRUSTED_ROOT_BYTES, first_document
from ..terminal import tell
from .paths import file_option, read_named

if TYPE_CHECKING:
    from sigstore.models import TrustedRoot

trusted_root_option = file_option(
    "--trusted-root",
    help="File with Sigstore's authorities and logs, such as the output of `gh attestation"
    " trusted-root`. Default: the current one, downloaded from Sigstore.",
)


def load_trusted_root(path: Path | None) -> "TrustedRoot":
    """Read the trusted root in a file, or download the current one.

    Of a file with JSON lines, the first line is used. The age of a file is printed, because an old
    one may name authorities that are no longer trusted.
    """
    # Needs the extra `provenance`, which not every use of these commands does.
    from ...apps.provenance import fetch_trusted_root, parse_trusted_root

    if path is None:
        meta = click.get_current_context().meta
        if __name__ not in meta:  # downloaded once for a command
            meta[__name__] = fetch_trusted_root()
        root: TrustedRoot = meta[__name__]
        return root
    data = read_named(path, most_bytes=MAX_TRUSTED_ROOT_BYTES)
    days = int((SystemClock.now() - path.stat().st_mtime) / 86_400)
    tell(f"trusted root {path}, {days} day{'' if days == 1 else 's'} old")
    return parse_trusted_root(first_document(data))
