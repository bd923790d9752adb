"""Where `sealspace`, and `python -m` with `sealspace` or `node`, begin.

Here a package of ours that is hidden by another can be named. Only then are the packages of the
command line imported.
"""

import sys
from importlib import import_module

from .own_packages import NEEDED, Clash, claimed_by, hidden_by
from .printable import printable

_FOREIGN_PACKAGE = 3  # `sealspace.cli.exit_status`, which may be out of reach


def main() -> int:
    """Run the command line on the arguments of this process; return its exit status."""
    clash = hidden_by("node", "tee_backend", *NEEDED)
    if clash is not None:
        return _report(clash)
    try:
        # By its name: this package is below `node`, and is the only one whose name nobody else has.
        status: int = import_module("sealspace.cli.root").main()
    except ImportError:
        # `spaces` too, which owners' commands do without.
        clash = hidden_by("spaces") or claimed_by()
        if clash is None:
            raise
        return _report(clash)
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
