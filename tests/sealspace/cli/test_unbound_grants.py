"""Tests of `--allow-unbound` on the commands that grant secrets to code (EN46, EN47).

test_secret_bind.py has `token create` and `ci trust`, and test_build_calls.py has `runner grant`.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from backend_desk import COMPOSE_HASH, IMAGE, PROVIDER, Desk, Site
from relabelled import store_unbound

from encryption_network.policy import Policy, policy_json
from sealspace.client import Client
from sealspace.errors import UnboundValue
from sealspace.session import Grant, load_session
from sealspace.wire.portable import decode_bundle

BOUND, UNBOUND = "bound-7f3a91", "unbound-7f3a91"


def policy_of(desk: Desk) -> str:
    """Write a policy for the code of the desk's backends, and return the file's path."""
    file = desk.folder / "policy.json"
    policy = Policy(
        measurements=(IMAGE,),
        compose_hashes=(bytes.fromhex(COMPOSE_HASH),),
        key_providers=(PROVIDER,),
    )
    file.write_text(json.dumps(policy_json(policy)))
    return str(file)


async def accept(site: Site, file: Path) -> None:
    """Give a backend the grants in a file."""
    await site.program.accept(*decode_bundle(file.read_bytes()))


async def by_backend_grant(desk: Desk, site: Site, name: str, options: Sequence[str]) -> None:
    ran = await desk.run("backend", "grant", site.url, "--secret", name, "--yes", *options)
    assert ran.status == 0, ran


async def by_grant_create(desk: Desk, site: Site, name: str, options: Sequence[str]) -> None:
    file = desk.folder / f"{name}.json"
    ran = await desk.run(
        *("grant", "create", site.program.backend.did, "--secret", name),
        *("--policy", policy_of(desk), "--out", str(file), *options),
    )
    assert ran.status == 0, ran
    await accept(site, file)


async def by_manifest_grant(desk: Desk, site: Site, name: str, options: Sequence[str]) -> None:
    manifest, file = desk.folder / "manifest.json", desk.folder / f"{name}.json"
    asked = {"app_id": "com.example.notes", "name": "Notes", "defaults": False}
    manifest.write_text(json.dumps(asked | {"secrets": {name: True}}))
    ran = await desk.run(
        *("manifest", "grant", str(manifest), "--to", site.program.backend.did),
        *("--policy", policy_of(desk), "--out", str(file), "--yes", *options),
    )
    assert ran.status == 0, ran
    await accept(site, file)


def grant_of(site: Site, name: str) -> Grant:
    """Return the grant of one secret that a backend holds."""
    for grant in site.program.client.session.grants:
        if any(one.resource.text.endswith(f"/{name}") for one in grant.capabilities):
            return grant
    raise AssertionError(f"no grant of {name}")


WAYS: dict[str, Callable[[Desk, Site, str, Sequence[str]], Awaitable[None]]] = {
    "backend grant": by_backend_grant,
    "grant create": by_grant_create,
    "manifest grant": by_manifest_grant,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("allows", [False, True])
async def test_EN47_a_grant_by_a_command(desk: Desk, way: str, allows: bool) -> None:
    """Code reads a value without a place only if the command had `--allow-unbound`."""
    await desk.log_in()
    async with Client(desk.node, session=load_session(desk.home / "session.json")) as owner:
        await owner.secrets().put("API_KEY", BOUND)
        site = await desk.backend(wants=("API_KEY",))
        backend, did = site.program.backend, owner.session.owner
        await WAYS[way](desk, site, "API_KEY", ["--allow-unbound"] if allows else [])
        assert await backend.read_secret(did, "API_KEY") == BOUND
        await store_unbound(owner, "API_KEY", UNBOUND)
        if allows:
            assert await backend.read_secret(did, "API_KEY") == UNBOUND
        else:
            with pytest.raises(UnboundValue) as refused:
                await backend.read_secret(did, "API_KEY")
            assert UNBOUND not in f"{refused.value}{refused.value.__notes__}"


@pytest.mark.parametrize("way", WAYS)
async def test_EN47_another_grant_does_not_allow_it(desk: Desk, way: str) -> None:
    """A grant that allows such values allows them for its own secret, and not for the secret of
    another grant to the same code."""
    await desk.log_in()
    async with Client(desk.node, session=load_session(desk.home / "session.json")) as owner:
        await owner.secrets().put_many({"API_KEY": BOUND, "OTHER": BOUND})
        site = await desk.backend(wants=("API_KEY", "OTHER"))
        site.program.secrets = ()  # each is read below
        backend, did = site.program.backend, owner.session.owner
        await WAYS[way](desk, site, "API_KEY", ["--allow-unbound"])
        await WAYS[way](desk, site, "OTHER", [])
        for name in ("API_KEY", "OTHER"):
            assert await backend.read_secret(did, name) == BOUND
            await store_unbound(owner, name, UNBOUND)
        # Each grant that is cited for a value has to allow it.
        by = {name: grant_of(site, name) for name in ("API_KEY", "OTHER")}
        assert await backend.read_secret(did, "API_KEY", by=by["API_KEY"]) == UNBOUND
        for cited in (None, by["OTHER"]):
            with pytest.raises(UnboundValue):
                await backend.read_secret(did, "OTHER", by=cited)
