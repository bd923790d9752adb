"""Tests of secrets with a real node: texts, bytes, batches, scopes and networks."""

import base64
import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities.resources import parse_space_id
from sealspace.client import SignIn
from sealspace.delegations import allow
from sealspace.documents.places import place_of
from sealspace.documents.secret_payloads import MAX_SECRET_BYTES, read_payload
from sealspace.encryption import envelope_bytes
from sealspace.errors import (
    InvalidSecretName,
    InvalidSecretPayload,
    InvalidSecretScope,
    InvalidSecretValue,
    NetworkNotFound,
    NotFound,
    PlaceMismatch,
    PreconditionFailed,
    SealspaceError,
)
from sealspace.secrets import Secret

PLACE = place_of(parse_space_id("tinycloud:key:z6MkA:secrets"), "vault/secrets/A")


async def sealed(client, name: str, payload: Mapping[str, object] | bytes) -> None:
    """Store an envelope as another client might write it."""
    plaintext = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    envelope = await client.encryption.encrypt(plaintext, network=client.encryption.network())
    await client.kv("secrets").put(f"vault/secrets/{name}", envelope_bytes(envelope))


@pytest.mark.parametrize(
    "value", ["", "text ✓", "YWJj", b"", b"\x00\xff\xfe", b"text", bytes(range(256)) * 100]
)
async def test_a_value_is_kept_as_given(bench, value: str | bytes) -> None:
    """A text is read back as a text, and bytes as bytes."""
    secrets = (await bench.owner())[0].secrets()
    await secrets.put("A", value)
    read = await secrets.get("A")
    assert value == read and type(value) is type(read)
    assert (await secrets.get_many(["A"]))["A"] == value


async def test_what_is_sealed_of_bytes(bench) -> None:
    """Bytes are sealed as marked base64 text, which other clients read as that text (EN26)."""
    client, _ = await bench.owner()
    await client.secrets().put("A", memoryview(b"\x00\xff"))
    said = json.loads(await client.encryption.decrypt(await client.secrets().envelope("A")))
    assert base64.b64encode(b"\x00\xff").decode() == said["value"]
    assert said["encoding"] == "base64"
    assert {"value", "encoding", "createdAt", "updatedAt", "place"} == set(said)
    with pytest.raises(InvalidSecretPayload) as refused:
        await client.secrets().get_text("A")
    assert said["value"] not in str(refused.value)
    await client.secrets().put("B", "text")
    assert await client.secrets().get_text("B") == "text"


@pytest.mark.parametrize(
    "value",
    [None, 5, 1.5, True, {"a": 1}, ["a"], ("a",), object(), "\ud800", "x" * MAX_SECRET_BYTES],
)
async def test_what_is_no_value_is_refused(bench, value: object) -> None:
    """An invalid value is not sent, and the error does not contain it."""
    client, _ = await bench.owner()
    secrets = client.secrets()
    for call in (
        lambda: secrets.put("A", value),
        lambda: secrets.put_many({"B": "text", "A": value}),
    ):
        with pytest.raises(InvalidSecretValue) as refused:
            await call()
        assert "xxx" not in str(refused.value) and (
            value is None or repr(value) not in str(refused.value)
        )
    assert () == await secrets.list()


@pytest.mark.parametrize(
    "payload",
    [
        {"value": "YQ==", "encoding": "hex"},
        {"value": "YQ==", "encoding": None},
        {"value": "YQ==", "encoding": ["base64"]},
        {"value": "YQ", "encoding": "base64"},
        {"value": "YR==", "encoding": "base64"},
        {"value": "%%%", "encoding": "base64"},
        {"value": 5},
        {"value": None},
        b"not json",
    ],
)
async def test_payloads_that_are_not_understood(bench, payload: dict[str, object] | bytes) -> None:
    """A damaged payload, or one with an unknown encoding, is not returned as a value."""
    client, _ = await bench.owner()
    if isinstance(payload, dict):
        payload = {
            "createdAt": "2026-01-01T00:00:00.000Z",
            "updatedAt": "2026-01-01T00:00:00.000Z",
            **payload,
        }
    await sealed(client, "A", payload)
    with pytest.raises(InvalidSecretPayload):
        await client.secrets().get("A")


async def test_further_members_do_no_harm(bench) -> None:
    """The client reads a payload with unknown members and ignores those."""
    client, _ = await bench.owner()
    times = {"createdAt": "2026-01-01T00:00:00.000Z", "updatedAt": "2026-01-02T00:00:00.000Z"}
    await sealed(client, "A", {"value": "text", "more": [1], **times})
    version = await client.secrets().version("A")
    expected = Secret(
        value="text",
        created_at=times["createdAt"],
        updated_at=times["updatedAt"],
        etag=version,
        is_bound=False,
    )
    assert expected == await client.secrets().read("A")


async def test_many_at_once(bench) -> None:
    """Several secrets of one scope are written in one commit and read in the order of their
    names."""
    secrets = (await bench.owner())[0].secrets()
    values: dict[str, str | bytes] = {"C": "1", "A": b"2", "B": "3"}
    await secrets.put_many(values, scope="mail")
    assert list(values.items()) == list(
        (await secrets.get_many(["C", "A", "MISSING", "B"], scope="mail")).items()
    )
    assert {} == await secrets.get_many(values)
    assert ("A", "B", "C") == await secrets.list(scope="mail")
    assert {} == await secrets.get_many([])


async def test_one_that_does_not_open_ends_all(bench) -> None:
    """If one of several secrets cannot be opened, the error names that secret."""
    client, _ = await bench.owner()
    await client.secrets().put_many({"A": "1", "C": "3"})
    await client.kv("secrets").put("vault/secrets/B", b"no envelope")
    with pytest.raises(SealspaceError) as reported:
        await client.secrets().get_many(["A", "B", "C"])
    assert reported.value.__notes__ == ["this is about the secret B"]


async def test_bad_names_are_refused_before_anything_is_sent(bench) -> None:
    """If one of several names is invalid, no secret is written."""
    secrets = (await bench.owner())[0].secrets()
    for call in (
        lambda: secrets.put_many({"A": "1", "b": "2"}),
        lambda: secrets.get_many(["A", "b"]),
    ):
        with pytest.raises(InvalidSecretName):
            await call()
    with pytest.raises(InvalidSecretScope):
        await secrets.put_many({"A": "1"}, scope="default")
    assert () == await secrets.list()


async def test_names_that_no_run_grant_carries(bench) -> None:
    """RN216: the client refuses to write a secret under a name that is reserved for runners."""
    client, _ = await bench.owner()
    secrets = client.secrets()
    for name in ("NEAR_SENDER_ID", "WALLET_ID", "IEXEC_KEY", "SEALSPACE_KEY"):
        with pytest.raises(InvalidSecretName, match=f"{name} is a reserved name"):
            await secrets.put(name, "x", scope="prod")
        with pytest.raises(InvalidSecretName):
            await secrets.put_many({"KEY": "x", name: "x"})
    assert await secrets.list() == ()


async def test_a_secret_is_made_once(bench) -> None:
    """A put with `if_absent` does not overwrite an existing secret."""
    secrets = (await bench.owner())[0].secrets()
    first = await secrets.put("A", "1", if_absent=True)
    with pytest.raises(PreconditionFailed):
        await secrets.put("A", "2", if_absent=True)
    assert await secrets.get("A") == "1"
    await secrets.put("A", "2", if_match=first)
    assert await secrets.get("A") == "2"


async def test_a_secret_is_replaced_as_it_was_seen(bench) -> None:
    """A put with an expected version succeeds once, and fails after another put."""
    secrets = (await bench.owner())[0].secrets()
    put = await secrets.put("A", "1", scope="mail")
    seen = await secrets.read("A", scope="mail")
    assert put == seen.etag == await secrets.version("A", scope="mail")
    await secrets.put("A", "rival", scope="mail")
    with pytest.raises(PreconditionFailed):
        await secrets.put("A", "2", scope="mail", if_match=seen.etag)
    assert "rival" == await secrets.get("A", scope="mail")
    await secrets.put("A", "2", scope="mail", if_match=await secrets.version("A", scope="mail"))
    assert "2" == await secrets.get("A", scope="mail")
    with pytest.raises(NotFound):
        await secrets.version("B")


async def test_scopes_are_listed(bench) -> None:
    """Each scope with a secret is listed once in canonical form."""
    client, _ = await bench.owner()
    secrets = client.secrets()
    assert () == await secrets.scopes()
    for scope, name in ((None, "A"), ("Web App", "A"), ("web-app", "B"), ("mail", "A")):
        await secrets.put(name, "1", scope=scope)
    await client.kv("secrets").put("vault/secrets/scoped/No_Scope/A", b"1")
    await client.kv("secrets").put("vault/secrets/scoped/other/no-name", b"1")
    assert ("mail", "web-app") == await secrets.scopes()


async def test_deleting_what_is_not_there(bench) -> None:
    """Deleting a deleted secret gives the same error as deleting one that never existed."""
    secrets = (await bench.owner())[0].secrets()
    await secrets.put("A", "1", scope="mail")
    await secrets.delete("A", scope="mail")
    for name in ("A", "NEVER"):
        with pytest.raises(NotFound) as refused:
            await secrets.delete(name, scope="mail")
        assert refused.value.__notes__[-1] == f"this is about the secret mail/{name}"
        assert refused.value.message.startswith(
            f"there is no secret mail/{name} in the space tinycloud:"
        )
        assert refused.value.hint.endswith('.list(scope="mail")`')


async def test_another_network_than_the_default_one(bench) -> None:
    """A secret can be sealed to another network of the owner, and is read in the same way."""
    client = await bench.client()
    _, wallet = await bench.owner()
    await client.sign_in(wallet, SignIn())
    network = client.encryption.network("backup")
    abilities = ("tinycloud.encryption/decrypt", "tinycloud.encryption/network.create")
    await client.delegations.add_right(
        wallet, [allow(network.text, ability) for ability in abilities]
    )
    with pytest.raises(NetworkNotFound):
        await client.secrets(network="backup").put("A", "1")
    await client.encryption.ensure_network("backup")
    await client.secrets(network="backup").put("A", "1")
    assert network == (await client.secrets().envelope("A")).network
    assert await client.secrets().get("A") == "1"


@given(
    st.binary(max_size=200)
    | st.dictionaries(st.text(max_size=5), st.text(max_size=9)).map(
        lambda v: json.dumps(v).encode()
    )
)
def test_fuzz_payloads(plaintext: bytes) -> None:
    """Any plaintext is parsed as a secret or refused with an error that does not contain it."""
    try:
        assert isinstance(read_payload(plaintext, "", place=PLACE), Secret)
    except (InvalidSecretPayload, PlaceMismatch) as error:
        assert error.__cause__ is None
