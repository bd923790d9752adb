"""`sealspace collateral`: take in what Intel says about its platforms."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from capabilities.ambient import SystemClock

from ..collateral import ImportedCollateral, import_collateral, read_collateral_file
from ..config import Config, Value
from ..errors import CollateralRefused
from ..release_terms import configured_trust_root, recorded_release
from .opened_store import opened_store
from .settings import config_from, data_options


@click.group(short_help="Take in what Intel says about its platforms.")
def collateral() -> None:
    """Take in what Intel says about its platforms: one document for each platform family."""


@collateral.command("import")
@data_options
@click.option("--trust-root", "release__trust_root", metavar="FILE", help="Root certificate instead of Intel's.")
@click.argument("files", type=click.Path(path_type=Path), nargs=-1, required=True)
def import_files(config_file: Path | None, files: tuple[Path, ...], **flags: Value) -> None:
    """Verify FILES and keep them; prints one JSON object for each."""
    config = config_from(config_file, flags)
    for imported in asyncio.run(_import(config, files)):
        ends = datetime.fromtimestamp(imported.ends_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        click.echo(msgspec.json.encode({"fmspc": imported.fmspc.hex(), "ca": imported.ca, "ends": ends}))


async def _import(config: Config, files: tuple[Path, ...]) -> list[ImportedCollateral]:
    async with opened_store(config) as store:
        root = configured_trust_root(config.release)
        record = await recorded_release(store)
        if record is None or root.sha256 not in record.trust_roots:
            raise CollateralRefused(
                "the trust root is not the one that the store's release record names",
                hint="give it with --trust-root FILE; sealspace release show prints the record",
            )
        return [
            await import_collateral(store, read_collateral_file(path), root=root, clock=SystemClock(), source=str(path))
            for path in files
        ]
