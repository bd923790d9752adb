"""The commands `sealspace version` and `sealspace completion`."""

import platform
import sys

import click
from click.shell_completion import get_completion_class

from .. import __version__
from .lazy import EXTRAS, is_installed
from .terminal import print_lines, print_result, tell

_FILES = {
    "bash": 'eval "$(sealspace completion bash)" to ~/.bashrc',
    "zsh": 'eval "$(sealspace completion zsh)" to ~/.zshrc, below compinit',
    "fish": "this output to ~/.config/fish/completions/sealspace.fish",
}


@click.command(
    "completion",
    epilog=(
        'Examples: `eval "$(sealspace completion bash)"` in ~/.bashrc; `sealspace completion fish >'
        " ~/.config/fish/completions/sealspace.fish`."
    ),
)
@click.argument("shell", type=click.Choice(list(_FILES)))
def completion(shell: str) -> None:
    """Print the shell completion script for SHELL."""
    root = click.get_current_context().find_root().command
    kind = get_completion_class(shell)
    assert kind is not None  # click has a class for each choice
    print_lines(*kind(root, {}, "sealspace", "_SEALSPACE_COMPLETE").source().splitlines())
    if sys.stdout.isatty():
        tell(f"to enable completion in every new shell, add {_FILES[shell]}")


@click.command()
def version() -> None:
    """Print the version.

    With `--json`, this also prints the Python version and the installed extras.
    """
    print_result(
        {
            "version": __version__,
            "python": platform.python_version(),
            "extras": list(filter(is_installed, EXTRAS)),
        },
        [__version__],
    )
