"""Whether the packages are ours: the six import names are common words, and pip replaces files without a warning.

After installing another distribution that has a top-level `spaces` or `node`, half of the running code may be theirs.
So the node refuses to start where any distribution but ours claims one of the names
(spec/decisions/0001-flat-packages.md).
"""

from collections.abc import Mapping, Sequence

from ..errors import ForeignDistribution

DISTRIBUTION = "sealspace"
PACKAGES = ("node", "tee_backend", "sealspace", "encryption_network", "spaces", "capabilities")


def check_ownership(owners: Mapping[str, Sequence[str]] | None = None) -> None:
    """Refuse to continue if another distribution owns one of our names.

    Args:
        owners: import name to the distributions that have it; None: look up what is installed (some 20 ms).

    Raises:
        ForeignDistribution: names that distribution and the name it claims.
    """
    claims = foreign_claims(owners if owners is not None else _installed())
    if not claims:
        return
    name, culprit = claims[0]
    raise ForeignDistribution(
        f"the distribution {culprit} also installs a package named {name}; parts of one may have replaced the other's",
        hint="give sealspace an environment of its own: python -m venv ENV && ENV/bin/pip install 'sealspace[node]'",
    )


def foreign_claims(owners: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """Return (package, distribution) for each claim on our names that is not ours."""
    return [
        (name, distribution)
        for name in PACKAGES
        for distribution in sorted(set(owners.get(name, ())))
        if distribution.lower() != DISTRIBUTION
    ]


def _installed() -> Mapping[str, Sequence[str]]:
    from importlib.metadata import packages_distributions  # 20 ms of reading: only needed at a start

    return packages_distributions()
