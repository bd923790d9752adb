"""Tests of the place inside a sealed secret (EN45)."""

import json
from dataclasses import replace

import pytest

from capabilities.resources import parse_space_id
from capabilities.strict_json import Json, JsonObject
from sealspace.documents.places import Place, place_json, place_of, require_place
from sealspace.documents.secret_payloads import read_payload, secret_payload
from sealspace.encryption import envelope_bytes
from sealspace.errors import InvalidSecretPayload, PlaceMismatch

WALLET = "0xA0Cf798816D4b9b9866b5330EEa46a18382f251e"
SPACE = parse_space_id(f"tinycloud:pkh:eip155:1:{WALLET}:secrets")
COPY = f"vault/secrets/shared/did:key:z6MkA/{'A' * 43}/API_KEY"
PLACE = place_of(SPACE, "vault/secrets/API_KEY")


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("vault/secrets/API_KEY", "secret"),
        ("vault/secrets/scoped/mail/API_KEY", "secret"),
        ("vault/secrets/notes/API_KEY", "note"),
        (COPY, "copy"),
    ],
)
def test_EN45_the_forms(path: str, form: str) -> None:
    """The form follows from the folder."""
    assert place_json(place_of(SPACE, path)) == {
        "owner": SPACE.owner,
        "space": SPACE.text,
        "path": path,
        "form": form,
    }


def test_EN45_a_value_is_read_at_its_place() -> None:
    """What is sealed for a place is read there, and is bound."""
    read = read_payload(secret_payload("v", place=PLACE, now=0.0), "", place=PLACE)
    assert (read.value, read.is_bound) == ("v", True)
    read = read_payload(secret_payload(b"v", place=PLACE, now=0.0), "", place=PLACE)
    assert (read.value, read.is_bound) == (b"v", True)


def test_EN45_another_spelling_of_the_same_place() -> None:
    """The address of a wallet has several spellings."""
    stated = place_json(PLACE)
    stated["owner"] = f"did:pkh:eip155:1:{WALLET.lower()}"
    stated["space"] = f"tinycloud:pkh:eip155:1:{WALLET.lower()}:secrets"
    require_place(stated, PLACE)


OTHER_OWNER = "0x71C7656EC7ab88b098defB751B7401B5f6d8976F"


@pytest.mark.parametrize(
    "changed",
    [
        {"owner": f"did:pkh:eip155:1:{OTHER_OWNER}"},
        {"space": f"tinycloud:pkh:eip155:1:{OTHER_OWNER}:secrets"},
        {"space": f"tinycloud:pkh:eip155:1:{WALLET}:default"},
        {"space": "no space"},
        {"path": "vault/secrets/API_KEY2"},
        {"path": "vault/secrets/scoped/mail/API_KEY"},
        {"path": "vault/secrets/notes/API_KEY"},
        {"form": "copy"},
        {"form": "note"},
    ],
)
def test_EN45_another_place_is_refused(changed: JsonObject) -> None:
    """Each member counts, and the error does not contain the value."""
    plaintext = json.loads(secret_payload("open sesame", place=PLACE, now=0.0))
    plaintext["place"].update(changed)
    with pytest.raises(PlaceMismatch) as refused:
        read_payload(json.dumps(plaintext).encode(), "", place=PLACE)
    assert "open sesame" not in str(refused.value)


@pytest.mark.parametrize(
    "stated",
    [
        None,
        "",
        [],
        {},
        {**place_json(PLACE), "form": "other"},
        {**place_json(PLACE), "more": 1},
        {**place_json(PLACE), "path": 1},
        {"path": PLACE.path},
    ],
)
def test_EN45_a_malformed_place_is_not_an_absent_one(stated: Json) -> None:
    """A place that cannot be read is refused."""
    plaintext = json.loads(secret_payload("open sesame", place=PLACE, now=0.0))
    plaintext["place"] = stated
    with pytest.raises(InvalidSecretPayload) as refused:
        read_payload(json.dumps(plaintext).encode(), "", place=PLACE)
    assert refused.value.__cause__ is None


def test_EN45_a_value_without_a_place_is_unbound() -> None:
    """Earlier versions and other clients seal values without a place."""
    plaintext = {"value": "v", "createdAt": "", "updatedAt": ""}
    read = read_payload(json.dumps(plaintext).encode(), "", place=PLACE)
    assert (read.value, read.is_bound) == ("v", False)


async def test_EN45_the_envelope_of_another_secret(bench) -> None:
    """The attack: another secret's envelope is stored under a name, with its label removed."""
    client, _ = await bench.owner()
    secrets = client.secrets()
    await secrets.put("OTHER", "sesame")
    envelope = replace(await secrets.envelope("OTHER"), aad=None)
    await client.kv("secrets").put("vault/secrets/API_KEY", envelope_bytes(envelope))
    with pytest.raises(PlaceMismatch):
        await secrets.get("API_KEY")
    assert await secrets.get("OTHER") == "sesame"


def test_a_place_has_no_other_members() -> None:
    """The fields of the record are those of the JSON object."""
    assert set(Place.__struct_fields__) == set(place_json(PLACE))
