"""`sealspace backend simulate`: a simulated platform, to try things out."""

from pathlib import Path

import click

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from sealspace.cli.command_errors import ConfigurationError
from sealspace.cli.paths import NEW_FOLDER
from sealspace.cli.terminal import print_found, words

from ..evidence.simulated import PlatformFolderError, SimulatedPlatform


@click.command("simulate")
@click.argument("folder", type=NEW_FOLDER)
def simulate(folder: Path) -> None:
    """Make a simulated platform in DIR, or renew its collateral for 30 days.

    Its quotes have the genuine format and prove nothing: whoever has the folder can make them. A
    node believes them only when it is started with the platform's root certificate.
    """
    try:
        if folder.exists():
            platform = SimulatedPlatform.load(folder)
        else:
            platform = SimulatedPlatform.from_seed(SystemEntropy().token(32))
            platform.save(folder)
        collateral = folder / "collateral"
        collateral.mkdir(exist_ok=True)
        (collateral / "platform.json").write_bytes(platform.collateral_json(SystemClock().now()))
    except (OSError, PlatformFolderError) as error:
        reason = error.detail if isinstance(error, PlatformFolderError) else error.strerror
        raise ConfigurationError(
            f"no simulated platform in {folder}: {reason}", hint="name a new folder"
        ) from None
    trust = f"--trust-root {folder}/root-ca.pem --collateral {collateral}"
    words(
        f"a node that believes it: sealspace serve {trust}",
        f"an owner who does: sealspace login {trust} …",
        f"a backend on it: SimulatedSource.load({str(folder)!r}, compose=…)",
        f"a runner on it: sealspace runner serve --simulate {folder} …",
    )
    print_found(
        {
            "folder": str(folder),
            "trustRoot": f"{folder}/root-ca.pem",
            "collateral": str(collateral),
        },
        (),
    )
