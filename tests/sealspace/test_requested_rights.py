"""Tests of the rights that a sign-in for manifests requests."""

import pytest

from capabilities.abilities import DECRYPT, NETWORK_CREATE, REVOKE
from capabilities.principals import parse_principal
from capabilities.signatures import Ed25519Signer
from capabilities.strict_json import Json
from sealspace.client import SignIn
from sealspace.documents.manifests import compose_manifests, parse_manifest
from sealspace.documents.secret_names import SECRETS_SPACE
from sealspace.errors import NotGranted
from sealspace.session import network_of_owner, space_of
from sealspace.wire.sign_in import sign_in_capabilities


async def test_MF22_an_application_gets_the_secrets_of_its_manifest_alone(bench) -> None:
    """An app that reads one secret can neither read another secret nor replace its own."""
    owner, wallet = await bench.owner()
    await owner.encryption.ensure_network()
    for name in ("ANTHROPIC_API_KEY", "OTHER_KEY"):
        await owner.secrets().put(name, "value")
    manifest: Json = {
        "app_id": "com.example.chat",
        "name": "Chat",
        "secrets": {"ANTHROPIC_API_KEY": True},
    }
    app = await bench.client()
    await app.sign_in(wallet, SignIn(request=compose_manifests([parse_manifest(manifest)])))
    assert await app.secrets().get("ANTHROPIC_API_KEY") == "value"
    with pytest.raises(NotGranted):
        await app.secrets().get("OTHER_KEY")
    with pytest.raises(NotGranted):
        await app.secrets().put("ANTHROPIC_API_KEY", "another")
    network = owner.encryption.network().text
    (granted,) = app.session.grants
    rights = {one.ability for one in granted.capabilities if one.resource.text == network}
    assert rights == {DECRYPT}


def test_MF22_an_application_reads_no_delegations_of_the_secrets() -> None:
    """An app cannot list delegations of secrets, because they show the names of other secrets."""
    owner = parse_principal(Ed25519Signer(bytes(32)).did)
    manifest: Json = {"app_id": "a", "name": "A", "secrets": {"API_KEY": True}}
    stated: Json = {
        "app_id": "b",
        "name": "B",
        "permissions": [
            {
                "service": "tinycloud.capabilities",
                "space": "secrets",
                "path": "",
                "actions": ["read"],
            }
        ],
    }
    place = f"{space_of(owner, SECRETS_SPACE).text}/capabilities"

    def reads_delegations(*manifests: Json, secrets: bool | None = None) -> bool:
        request = compose_manifests([parse_manifest(one) for one in manifests])
        found = sign_in_capabilities(owner, SignIn(request=request, secrets=secrets))
        return any(one.resource.text.startswith(place) for one in found)

    assert not reads_delegations(manifest)
    assert reads_delegations(manifest, secrets=True)
    assert reads_delegations(manifest, stated)


@pytest.mark.parametrize(
    ("actions", "secrets", "expected"),
    [
        (["get"], None, {DECRYPT}),
        (["put"], None, {NETWORK_CREATE}),
        (["get", "put"], None, {DECRYPT, NETWORK_CREATE}),
        (["list"], None, set()),
        (["list"], False, set()),
        (["list"], True, {DECRYPT, NETWORK_CREATE}),
    ],
)
def test_MF22_a_request_brings_what_its_secrets_need_of_the_network(
    actions: list[str], secrets: bool | None, expected: set[str]
) -> None:
    """A sign-in requests decrypt for reading secrets, and a network for writing them."""
    permission: Json = {
        "service": "tinycloud.kv",
        "space": "secrets",
        "path": "vault/secrets/API_KEY",
        "actions": [*actions],
        "skipPrefix": True,
    }
    manifest: Json = {"app_id": "a", "name": "A", "defaults": False, "permissions": [permission]}
    request = compose_manifests(
        [parse_manifest(manifest)], include_account_registry_permissions=False
    )
    owner = parse_principal(Ed25519Signer(bytes(32)).did)
    found = sign_in_capabilities(owner, SignIn(request=request, secrets=secrets))
    network = network_of_owner(owner).text
    assert {one.ability for one in found if one.resource.text == network} == expected
    # The space of secrets is this app's primary one, but its delegations are the owner's.
    assert REVOKE not in {one.ability for one in found}
