"""An owner's commands on a machine with grants of another wallet."""

import asyncio
from pathlib import Path

import pytest
from attacks.parties import ENTROPY, GET, Stage
from running_node import new_key

from sealspace.cli.owner.owner_profile import OwnerHome
from sealspace.cli.root import main
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.wire.portable import PortableDelegation

pytestmark = pytest.mark.slow

BACKEND = "https://backend.example"


async def _logged_in(stage: Stage, home: OwnerHome, name: str) -> None:
    key_file = home.folder.parent / name
    if not key_file.exists():
        key_file.touch(mode=0o600)
        key_file.write_text(ENTROPY.token(32).hex())
    arguments = [
        "login",
        "--node",
        stage.url,
        "--key-file",
        str(key_file),
        "--home",
        str(home.folder),
    ]
    assert await asyncio.to_thread(main, arguments) == 0


async def _kept(home: OwnerHome, client: Client) -> PortableDelegation:
    wanted = [allow(client.secrets().resource("API_KEY"), GET)]
    portable = await client.delegations.delegate(new_key().did, wanted, wallet=home.wallet())
    home.keep_grant(portable, url=BACKEND)
    return portable


async def test_grants_of_another_wallet_do_not_keep_the_own(stage: Stage, tmp_path: Path) -> None:
    """Another wallet's grant does not stop the revocation of the owner's grants."""
    home = OwnerHome(tmp_path / "home")
    await _logged_in(stage, home, "another.key")
    async with home.client() as client:
        foreign = await _kept(home, client)
    await _logged_in(stage, home, "own.key")
    async with home.client() as client:
        own = await _kept(home, client)
        while own.cid < foreign.cid:  # grants are read in the order of their names
            own = await _kept(home, client)
        revoke = ["backend", "revoke", BACKEND, "--home", str(home.folder)]
        assert await asyncio.to_thread(main, revoke) == 0
        assert (await client.delegations.status(own)).word == "revoked"
    await _logged_in(stage, home, "another.key")
    async with home.client() as client:
        assert (await client.delegations.status(foreign)).word == "active"


async def test_one_grant_that_is_not_revoked_does_not_keep_the_others(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown grant is named; the others are revoked and the command fails."""
    home = OwnerHome(tmp_path / "home")
    await _logged_in(stage, home, "own.key")
    async with home.client() as client:
        first, second = sorted(
            [await _kept(home, client), await _kept(home, client)], key=lambda one: one.cid
        )
        unknown = home.folder / "grants" / f"{first.cid}.json"
        unknown.write_text(unknown.read_text().replace(first.cid, first.cid[:-4] + "aaaa"))
        capsys.readouterr()
        status = await asyncio.to_thread(
            main, ["backend", "revoke", BACKEND, "--home", str(home.folder)]
        )
        said = capsys.readouterr().err
        assert (await client.delegations.status(second)).word == "revoked"
    assert status != 0 and "not revoked: " in said
