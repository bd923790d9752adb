"""Settings of nodes that trust a simulated platform.

Example:
    async with embedded_node(trusting_config(tmp_path, platform)) as node: ...
"""

import time
from collections.abc import Mapping
from pathlib import Path

from deviating_platform import SimulatedPlatform
from engines import store_at

from node.config.tree import Config, Http, Limits, Release

MANY_CHALLENGES = Limits(challenges_per_minute=1_000_000)
"""Limits of a node whose tests all use one client address."""


def trust_files(
    folder: Path, platform: SimulatedPlatform, *, published_at: float | None = None
) -> tuple[str, str]:
    """Write a platform's root certificate and collateral to files; return the paths.

    Args:
        folder: where `root.pem` and the folder `collateral` go.
        platform: whose they are.
        published_at: when the collateral was signed, epoch seconds; None: now.
    """
    root, collateral = folder / "root.pem", folder / "collateral"
    collateral.mkdir(parents=True, exist_ok=True)
    root.write_text(platform.root_pem)
    document = platform.collateral_json(time.time() if published_at is None else published_at)
    (collateral / "platform.json").write_bytes(document)
    return str(root), str(collateral)


def trust_arguments(folder: Path, platform: SimulatedPlatform) -> tuple[str, ...]:
    """Write the trust files, and return the command arguments that name them."""
    root, collateral = trust_files(folder, platform)
    return ("--trust-root", root, "--collateral", collateral)


def trusting_config(
    folder: Path,
    platform: SimulatedPlatform,
    *,
    published_at: float | None = None,
    **sections: object,
) -> Config:
    """Return the settings of a node that trusts a platform and stores its data in a folder.

    Args:
        folder: where root certificate, collateral and `data` go.
        platform: whose quotes the node trusts.
        published_at: when the collateral was signed, epoch seconds; None: now.
        sections: of the settings, over these. A mapping for `release` is what it has beside the two
            files.
    """
    root, collateral = trust_files(folder, platform, published_at=published_at)
    release = sections.pop("release", {})
    assert isinstance(release, Mapping)
    settings: dict[str, object] = {
        "http": Http(port=0, drain_s=0),
        "store": store_at(folder / "data"),
        "release": Release(**{"trust_root": root, "collateral": collateral, **release}),
    }
    return Config(**{**settings, **sections})  # type: ignore[arg-type]  # by name
