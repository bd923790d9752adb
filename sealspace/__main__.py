"""The entry point of the command line.

It serves `sealspace`, `python -m sealspace` and `python -m node`. Before it imports the command
line, it checks for foreign packages with our names, so that the error can name them.
"""

import gc
import sys
from importlib import import_module

from .own_packages import NEEDED, Clash, hidden_by, overlapping_distribution
from .printable import printable

_FOREIGN_PACKAGE = 3  # as in `sealspace.cli.exit_status`, which a foreign package may hide


def main() -> int:
    """Run the command line and return the exit status."""
    clash = hidden_by("node", "door", "tee_backend", "serving", *NEEDED)
    if clash is not None:
        return _report(clash)
    try:
        gc.disable()  # collections would find next to nothing during imports
        # Imported only now: the command line loads packages that a foreign one may hide.
        root = import_module("sealspace.cli.root")
        gc.enable()
        status: int = root.main()
    except ImportError:
        # `spaces` is checked only here: the commands of owners work without it.
        clash = hidden_by("spaces") or overlapping_distribution()
        if clash is None:
            raise
        return _report(clash)
    finally:
        # The last collections of the interpreter skip the modules, which takes a fifth of the time
        # of a short command.
        gc.freeze()
    return status


def _report(clash: Clash) -> int:
    print(
        f"sealspace: {printable(clash.text)}",
        f"next: {printable(clash.hint)}",
        sep="\n",
        file=sys.stderr,
    )
    return _FOREIGN_PACKAGE


if __name__ == "__main__":
    sys.exit(main())
