"""Write the dependencies of a release as an SBOM, in the format CycloneDX 1.6.

    python tools/sbom.py > dist/sealspace-sbom.json

Names, versions and hashes are those of `requirements.lock`. Which package needs which is read from
the installed packages, so an environment with exactly the lock is needed (`make .venv/.installed`).

Scopes:
    required: needed by `pip install sealspace`.
    optional: needed by an extra that users may install.
    excluded: development only, or not installed on this platform.
"""

import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from reproducible import commit_epoch

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
PRODUCT = "sealspace"
# Extras that only developers install.
_DEVELOPMENT = {"dev"}

_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class LockedPackage:
    """A package with its version, and the SHA-256 of each file that may be installed."""

    name: str
    version: str
    hashes: tuple[str, ...]


def parse_locked(text: str) -> list[LockedPackage]:
    """Return the packages of a lock file.

    Raises:
        ValueError: a line is no pinned package with hashes.
    """
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        if not line.strip():
            continue
        requirement = Requirement(line.partition("--hash=")[0])
        (pin,) = requirement.specifier
        hashes = tuple(sorted(_HASH.findall(line)))
        if pin.operator != "==" or not hashes:
            raise ValueError(f"{requirement.name} has no exact version with hashes")
        found.append(LockedPackage(canonicalize_name(requirement.name), pin.version, hashes))
    return found


def needed_by(name: str, extras: Iterable[str] = ()) -> dict[str, set[str]]:
    """Return the packages that an installed package needs, each with the extras asked of it."""
    try:
        texts = requires(name) or []
    except PackageNotFoundError:  # for another platform
        return {}
    found: dict[str, set[str]] = {}
    for requirement in map(Requirement, texts):
        marker = requirement.marker
        asked = {"", *extras}
        if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in asked):
            continue
        found.setdefault(canonicalize_name(requirement.name), set()).update(requirement.extras)
    return found


def reachable(extras: Iterable[str]) -> set[str]:
    """Return every package that an installation of the product with these extras has."""
    waiting = [(PRODUCT, frozenset(extras))]
    seen = set(waiting)
    while waiting:
        for name, asked in needed_by(*waiting.pop()).items():
            one = (name, frozenset(asked))
            if one not in seen:
                seen.add(one)
                waiting.append(one)
    return {name for name, _ in seen} - {PRODUCT}


def user_extras() -> set[str]:
    """Return the extras of the product that users may install."""
    extras = set()
    for requirement in map(Requirement, requires(PRODUCT) or []):
        extras.update(re.findall(r'extra == "([a-z0-9]+)"', str(requirement.marker)))
    return extras - _DEVELOPMENT


def make_bom(locked: list[LockedPackage], epoch: int) -> Bom:
    """Return the SBOM of the product with these packages."""
    product = Component(
        name=PRODUCT,
        version=version(PRODUCT),
        type=ComponentType.APPLICATION,
        bom_ref=PRODUCT,
        purl=PackageURL("pypi", name=PRODUCT, version=version(PRODUCT)),
    )
    required, optional = reachable(()), reachable(user_extras())
    components = {}
    for package in locked:
        scope = ComponentScope.EXCLUDED
        if package.name in required:
            scope = ComponentScope.REQUIRED
        elif package.name in optional:
            scope = ComponentScope.OPTIONAL
        components[package.name] = Component(
            name=package.name,
            version=package.version,
            type=ComponentType.LIBRARY,
            scope=scope,
            bom_ref=f"{package.name}=={package.version}",
            purl=PackageURL("pypi", name=package.name, version=package.version),
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=one) for one in package.hashes],
        )
    bom = Bom(components=components.values())
    bom.metadata.component = product
    # The same lock and time give the same bytes.
    bom.metadata.timestamp = datetime.fromtimestamp(epoch, UTC)
    bom.serial_number = uuid5(NAMESPACE_URL, repr((version(PRODUCT), epoch, locked)))
    bom.register_dependency(
        product,
        [components[name] for name in needed_by(PRODUCT, user_extras()) if name in components],
    )
    for name, component in components.items():
        below = [components[one] for one in needed_by(name) if one in components]
        bom.register_dependency(component, below)
    return bom


def sbom(epoch: int) -> str:
    """Return the SBOM of the lock file as JSON."""
    bom = make_bom(parse_locked(LOCK.read_text("utf-8")), epoch)
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(sbom(int(os.environ.get("SOURCE_DATE_EPOCH") or commit_epoch())))
