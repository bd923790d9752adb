"""Whether the six packages are ours (spec/decisions/0001-flat-packages.md): otherwise no node starts.

After installing another distribution that has a top-level `spaces` or `node`, half of the running code may be theirs.
"""

from collections.abc import Mapping, Sequence

from sealspace.cli.errors import ForeignDistribution
from sealspace.own_packages import PACKAGES, claimed_by, hidden_by


def check_ownership(owners: Mapping[str, Sequence[str]] | None = None) -> None:
    """Refuse to continue if something else has one of our names."""
    clash = hidden_by(*PACKAGES) or claimed_by(owners)
    if clash is not None:
        raise ForeignDistribution(clash.text, hint=clash.hint)
