"""The commands `sealspace version` and `sealspace completion`."""

import hashlib
import platform
import sys
from glob import glob
from importlib.metadata import distribution
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from capabilities.strict_base64 import encode_url

from .. import __version__
from ..documents.builds import MAX_BUNDLE_BYTES, repository_of
from ..errors import ProvenanceInvalid
from ..own_packages import DISTRIBUTION, PACKAGES
from ..printable import printable
from .lazy import EXTRAS, is_installed
from .options.paths import FILE, file_option, read_named
from .options.trusted_root import load_trusted_root, trusted_root_option
from .terminal import print_lines, print_result, tell

# Shell -> what to add to which of its start files.
_STARTUP_STEPS = {
    "bash": 'eval "$(sealspace completion bash)" to ~/.bashrc',
    "zsh": 'eval "$(sealspace completion zsh)" to ~/.zshrc, below compinit',
    "fish": "this output to ~/.config/fish/completions/sealspace.fish",
}


@click.command(
    epilog='Examples: `eval "$(sealspace completion bash)"` in ~/.bashrc; `sealspace completion'
    " fish > ~/.config/fish/completions/sealspace.fish`.",
)
@click.argument("shell", type=click.Choice(list(_STARTUP_STEPS)))
def completion(shell: str) -> None:
    """Print the shell completion script for SHELL."""
    root = click.get_current_context().find_root().command
    kind = get_completion_class(shell)
    assert kind is not None  # click has a class for each choice
    print_lines(*kind(root, {}, "sealspace", "_SEALSPACE_COMPLETE").source().splitlines())
    if sys.stdout.isatty():
        tell(f"to enable completion in every new shell, add {_STARTUP_STEPS[shell]}")


@click.command()
@click.argument("file", type=FILE, required=False)
@file_option("--verify", "bundle", help="Provenance bundle of a release.")
@trusted_root_option
@click.option("--repository", default="", help="Repository of the release, github.com/OWNER/NAME.")
@click.option("--ref", default="", help="Full name of its tag, such as refs/tags/v1.0.0.")
def version(
    file: Path | None, bundle: Path | None, trusted_root: Path | None, repository: str, ref: str
) -> None:
    """Print the version.

    With `--json`, this also prints the Python version and the installed extras. With `--verify`,
    verify that FILE is of a release; without FILE, the installed files.
    """
    build = None
    lines = [__version__]
    if bundle is not None:
        from ..apps.provenance import require_build, verify_provenance  # an extra

        repository = repository_of(repository)
        data = _installed_records() if file is None else file.read_bytes()
        build = verify_provenance(
            read_named(bundle, most_bytes=MAX_BUNDLE_BYTES),
            hashlib.sha256(data).hexdigest(),
            load_trusted_root(trusted_root),
        )
        require_build(build, repository=repository, ref=ref)
        lines.append(f"{file or 'the installed files'}: built from {build.words}")
    elif file or trusted_root or repository or ref:
        raise click.UsageError("to verify a release, give its bundle: --verify BUNDLE")
    print_result(
        {
            "version": __version__,
            "python": platform.python_version(),
            "extras": [extra for extra in EXTRAS if is_installed(extra)],
            "build": build,
        },
        lines,
    )


def _installed_records() -> bytes:
    """Return the list of the installed files, which a release attests.

    Raises ProvenanceInvalid if a file differs from the installer's list.
    """
    records = file_records(Path(__file__).parents[2])
    # The installer's list is not signed: it serves to name the first changed file.
    recorded = (distribution(DISTRIBUTION).read_text("RECORD") or "").splitlines()
    # Without files, a line that is in no list makes the command fail too.
    for line in records.splitlines() or ["all: none is installed"]:
        if line not in recorded:
            raise ProvenanceInvalid(
                f"an installed file is not that of the wheel: {printable(line)}",
                claim="digest",
                hint="install a release's wheel in a new environment, not an editable one",
            )
    return records.encode()


def file_records(folder: Path) -> str:
    """List the files of the packages in a folder as the RECORD of a wheel does, sorted.

    Caches of compiled modules are left out. A release attests this text about its wheel.
    """
    records = list[str]()
    for package in PACKAGES:
        for name in glob(f"{package}/**", root_dir=folder, recursive=True, include_hidden=True):  # noqa: PTH207  # follows links, as imports do
            if "/__pycache__/" in name or not (folder / name).is_file():
                continue
            data = (folder / name).read_bytes()
            digest = encode_url(hashlib.sha256(data).digest())
            records.append(f"{name},sha256={digest},{len(data)}\n")
    return "".join(sorted(records))
