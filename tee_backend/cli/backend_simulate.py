"""The command `sealspace backend simulate`, which creates a simulated platform."""

import asyncio
import signal
from pathlib import Path

import click

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from sealspace.cli.options.paths import NEW_FOLDER, file_option, read_named
from sealspace.cli.terminal import print_result, tell
from sealspace.service.command_errors import ConfigurationError

from ..evidence.simulated import PlatformFolderError, SimulatedPlatform
from ..evidence.simulated_agent import SimulatedAgent

_MAX_COMPOSE_BYTES = 256 * 1024


@click.command()
@click.argument("folder", type=NEW_FOLDER)
@click.option(
    "--serve",
    "socket",
    metavar="SOCKET",
    type=click.Path(path_type=Path),
    help="Also run a simulated guest agent on this new Unix socket, until interrupted.",
)
@file_option("--compose", help="With --serve: compose file of the application that asks the agent.")
def simulate(folder: Path, socket: Path | None, compose: Path | None) -> None:
    """Create a simulated platform in DIR.

    For an existing platform, the collateral is renewed for 30 days. Quotes of the platform have the
    genuine format but prove nothing: anyone who can read DIR can make such quotes. A node accepts
    the quotes only if the node is started with the platform's root certificate.
    """
    if (socket is None) != (compose is None):
        raise click.UsageError("--serve and --compose must be given together")
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
    if socket is not None and compose is not None:
        if socket.exists():
            raise ConfigurationError(
                f"{socket} already exists", hint="remove it, or name another one"
            )
        data = read_named(compose, most_bytes=_MAX_COMPOSE_BYTES)
        asyncio.run(_serve(SimulatedAgent(platform, compose=data), socket))
        return
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


async def _serve(agent: SimulatedAgent, socket: Path) -> None:
    """Run a simulated guest agent until the process is interrupted."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    try:
        async with agent.listening(socket):
            tell(f"a simulated guest agent (proves nothing) is listening on http+unix:{socket}")
            await stopped.wait()
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {socket}: {error.strerror}",
            hint="name a socket in an existing folder, with a path of at most 100 characters",
        ) from None
