"""The command `sealspace backend simulate`, which creates a simulated platform."""

from pathlib import Path

import click

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from sealspace.cli.options.paths import NEW_FOLDER
from sealspace.cli.terminal import print_result, tell
from sealspace.service.command_errors import ConfigurationError

from ..evidence.simulated import PlatformFolderError, SimulatedPlatform


@click.command()
@click.argument("folder", type=NEW_FOLDER)
def simulate(folder: Path) -> None:
    """Create a simulated platform in DIR.

    For an existing platform, the collateral is renewed for 30 days. Quotes of the platform have the
    genuine format but prove nothing: anyone who can read DIR can make such quotes. A node accepts
    the quotes only if the node is started with the platform's root certificate.
    """
    try:
        if folder.exists():
            platform = SimulatedPlatform.load(folder)
        else:
            platform = SimulatedPlatform.from_seed(SystemEntropy().token(32))
            platform.save(folder)
        collateral = folder / "collateral"
        collateral.mkdir(exist_ok=True)
        (collateral / "platform.json").write_bytes(platform.collateral_json(SystemClock.now()))
    except (OSError, PlatformFolderError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.detail
        raise ConfigurationError(
            f"cannot use the simulated platform in {folder}: {reason}",
            hint="pass the name of a new folder",
        ) from None
    trust = f"--trust-root {folder}/root-ca.pem --collateral {collateral}"
    tell(
        f"to start a node that accepts this platform: sealspace serve {trust}",
        f"to log in and accept this platform: sealspace login {trust} …",
        f"to run a backend on this platform: SimulatedSource.load({str(folder)!r}, compose=…)",
        f"to start a runner on this platform: sealspace runner serve --simulate {folder} …",
    )
    print_result(
        {
            "folder": str(folder),
            "trustRoot": f"{folder}/root-ca.pem",
            "collateral": str(collateral),
        }
    )
