"""Tests of false answers, by a node or a man in the middle, that the client must reject."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from patience import PATIENCE_S
from relay import Answer, Relay, relay_before

from capabilities.signatures import Ed25519Signer
from capabilities.strict_base64 import encode_standard
from sealspace.apps.attestation import Family
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.encryption import envelope_bytes
from sealspace.errors import (
    InvalidEnvelope,
    InvalidInput,
    InvalidSecretPayload,
    MalformedAnswer,
    NetworkNotActive,
    NetworkNotFound,
    NodeMismatch,
    ResponseSignatureInvalid,
    SealspaceError,
    TransferBroken,
)
from sealspace.wire.transport import TransportSettings

SETTINGS = TransportSettings(timeout_s=PATIENCE_S, tries=1, backoff_s=0)
OTHER = Ed25519Signer(b"\x0e" * 32).did


@dataclass
class Scene:
    """A signed-in owner with a secret and some values, and a client of the same session whose
    requests go through a lying relay."""

    liar: Relay
    client: Client
    owner: Client
    wallet: Any

    def lie(self, part: str, **members: Any) -> None:
        """Change members of every JSON answer whose path contains a text."""

        def twist(answer: Answer) -> None:
            if part in answer.path:
                answer.change(**members)

        self.liar.twist = twist


@pytest.fixture
async def scene(bench: Any) -> AsyncIterator[Scene]:
    """A scene in which the relay changes nothing yet."""
    owner, wallet = await bench.owner()
    await owner.secrets().put("API_KEY", "value")
    for key in ("list/a", "list/b", "list/c"):
        await owner.kv().put(key, b"1")
    async with (
        relay_before(bench.node.url) as liar,
        Client(
            liar.url,
            session=owner.session,
            settings=SETTINGS,
            clock=bench.clock,
            entropy=bench.entropy,
        ) as client,
    ):
        yield Scene(liar, client, owner, wallet)


async def test_an_honest_answer_is_believed(scene: Scene) -> None:
    """Unchanged answers are accepted, so the refusals below are caused by the changes."""
    assert await scene.client.secrets().get("API_KEY") == "value"
    assert [key async for key in scene.client.kv().list("list/", page_keys=2)] == [
        "list/a",
        "list/b",
        "list/c",
    ]
    assert (await scene.client.kv().signed_url("list/a")).url


async def test_a_body_that_is_not_of_its_version(scene: Scene) -> None:
    """A client refuses a body that does not match its digest, alone or in a batch (J16)."""

    def twist(answer: Answer) -> None:
        if answer.path == "/invoke":
            answer.body = answer.body.replace(b"1", b"2").replace(b"MQ==", b"Mg==")

    kv, etag = scene.client.kv(), (await scene.client.kv().metadata("list/a")).etag
    scene.liar.twist = twist
    for call in (
        lambda: kv.get("list/a"),
        lambda: kv.get_many(["list/a"]),
        lambda: kv.get_many(["list/a", "list/b"]),
        lambda: kv.get_if_changed("list/a", '"another"'),
    ):
        with pytest.raises(TransferBroken, match="the bytes do not match the ETag"):
            await call()
    assert etag == (await kv.metadata("list/a")).etag

    def twist_both(answer: Answer) -> None:
        twist(answer)
        answer.headers["ETag"] = '"1"'

    scene.liar.twist = twist_both
    assert b"2" == (await kv.get("list/a")).body


async def test_a_node_has_the_name_under_which_the_session_was_made(scene: Scene) -> None:
    """A client sends no secret or decrypt request to a node with another DID."""
    scene.lie("/info", nodeId=OTHER)
    encryption = scene.client.encryption
    unknown = encryption.network("unknown")  # not one that this node lacks: it is another node
    reading = scene.client.secrets()
    for asked in (
        scene.client.info,
        lambda: reading.get("API_KEY"),
        lambda: encryption.descriptor(unknown),
    ):
        with pytest.raises(NodeMismatch, match="the session was made at"):
            await asked()


@pytest.mark.parametrize("node_id", ["nobody", "did:key:zz", "did:pkh:eip155:1:0x" + "0" * 40])
async def test_a_node_is_a_key(scene: Scene, bench: Any, node_id: str) -> None:
    """A node whose id is not a key is rejected, even by a client without a session."""
    scene.lie("/info", nodeId=node_id)
    async with Client(
        scene.client.url, settings=SETTINGS, clock=bench.clock, entropy=bench.entropy
    ) as outsider:
        with pytest.raises(NodeMismatch):
            await outsider.info()


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        (
            {"networkId": f"urn:tinycloud:encryption:{OTHER}:default", "ownerDid": OTHER},
            MalformedAnswer,
        ),
        ({"alg": "rot13/v1"}, MalformedAnswer),
        ({"publicEncryptionKey": "AA=="}, MalformedAnswer),
        ({"publicEncryptionKey": encode_standard(bytes(32))}, ResponseSignatureInvalid),
        ({"keyVersion": "one"}, MalformedAnswer),
        ({"keyVersion": 2}, ResponseSignatureInvalid),
        ({"keyVersion": 1 << 80}, MalformedAnswer),
        ({"state": "rotating"}, ResponseSignatureInvalid),
    ],
)
async def test_nothing_is_sealed_to_a_network_that_is_described_wrongly(
    scene: Scene, members: dict[str, Any], kind: type[SealspaceError]
) -> None:
    """A client does not use a descriptor of another network or algorithm, or with an invalid
    key."""
    scene.lie("/encryption/networks/", **members)
    with pytest.raises(kind):
        await scene.client.encryption.encrypt(b"payload", network=scene.client.encryption.network())


async def test_nothing_is_sealed_to_a_network_of_another_node(scene: Scene) -> None:
    """A client encrypts nothing to a network of another node than the one it trusts."""

    def twist(answer: Answer) -> None:
        answer.body = answer.body.replace(scene.owner.session.node_id.encode(), OTHER.encode())

    await scene.client.info()
    scene.liar.twist = twist
    with pytest.raises(NodeMismatch):
        await scene.client.encryption.encrypt(b"payload", network=scene.client.encryption.network())


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (401, b"network has been revoked", NetworkNotActive),
        (404, b"network not found", NetworkNotFound),
    ],
)
async def test_a_network_that_ended_meanwhile(
    scene: Scene, status: int, text: bytes, kind: type[SealspaceError]
) -> None:
    """The error says whether the network was revoked or does not exist, and its descriptor is
    fetched again afterwards."""
    paths: list[str] = []

    def twist(answer: Answer) -> None:
        paths.append(answer.path)
        if answer.path.endswith("/decrypt"):
            answer.status, answer.body, answer.headers["Content-Type"] = status, text, "text/plain"

    scene.liar.twist = twist
    for asked in (1, 2):
        with pytest.raises(kind):
            await scene.client.secrets().get("API_KEY")
        assert asked == sum(
            "/encryption/" in path and not path.endswith("/decrypt") for path in paths
        )


async def test_a_list_that_is_cut_short_or_stands_still(scene: Scene) -> None:
    """A page without the promised cursor, and a page that repeats, are refused."""

    def without_cursor(answer: Answer) -> None:
        answer.headers.pop("x-tinycloud-next-cursor", None)

    first: list[Answer] = []

    def the_first_again(answer: Answer) -> None:
        if answer.path == "/invoke":
            first.append(answer)
            answer.body, answer.headers = first[0].body, first[0].headers

    for twist in (without_cursor, the_first_again):
        scene.liar.twist = twist
        with pytest.raises(MalformedAnswer):
            _ = [key async for key in scene.client.kv().list("list/", page_keys=2)]


@pytest.mark.parametrize(
    "url", ["https://elsewhere.example/signed/a", "//elsewhere.example/", "/public/a", ""]
)
async def test_a_signed_url_leads_to_the_node(scene: Scene, url: str) -> None:
    """A signed URL of another host is rejected."""
    scene.lie("/signed/kv", url=url)
    with pytest.raises(MalformedAnswer):
        await scene.client.kv().signed_url("list/a")


@pytest.mark.parametrize("members", [{"revoked": False}, {"revoked": "true"}, {"cid": "bafkr4ia"}])
async def test_a_revocation_is_over_when_the_node_says_so(
    scene: Scene, members: dict[str, Any]
) -> None:
    """An answer that does not confirm this revocation is refused."""
    cid = scene.owner.session.grants[0].cid
    scene.lie("/revoke", **members)
    with pytest.raises(MalformedAnswer):
        await scene.client.delegations.revoke_by_wallet(cid, scene.wallet)


@pytest.mark.parametrize(
    "cids", [None, [], "all", ["first"], ["first", "first"], ["first", "second", "third"]]
)
async def test_several_revocations_are_over_when_the_node_names_them(
    scene: Scene, cids: Any
) -> None:
    """An answer has to name exactly the revoked delegations (J10)."""
    read = [allow(f"{scene.owner.kv().space.text}/kv/a", "tinycloud.kv/get")]
    grants = [await scene.owner.delegations.delegate(f"did:example:{at}", read) for at in range(2)]
    named = {"first": grants[0].cid, "second": grants[1].cid}
    scene.lie(
        "/revoke", cids=[named.get(one, one) for one in cids] if isinstance(cids, list) else cids
    )
    with pytest.raises(MalformedAnswer):
        await scene.client.delegations.revoke(*grants)


@pytest.mark.parametrize(
    "members", [{"receipts": None}, {"receipts": {}}, {"after": 1}, {"after": "a" * 40}]
)
async def test_receipts_that_are_no_page_or_do_not_advance(
    scene: Scene, members: dict[str, Any]
) -> None:
    """A malformed list of receipts, or an endless one of empty pages, ends with an error."""
    asked: list[str] = []

    def twist(answer: Answer) -> None:
        if "/receipts" in answer.path:
            asked.append(answer.path)
            answer.status, answer.body = (
                200,
                json.dumps({"receipts": [], "after": None} | members).encode(),
            )

    network = scene.owner.encryption.network().text
    await scene.owner.delegations.add_right(
        scene.wallet, [allow(network, "sealspace.encryption/receipts")]
    )
    scene.client.use(scene.owner.session)
    scene.liar.twist = twist
    with pytest.raises(MalformedAnswer):
        _ = [receipt async for receipt in scene.client.receipts.all()]
    assert len(asked) == 1


@pytest.mark.parametrize(
    "members",
    [
        {"collateral": None},
        {"collateral": "fine"},
        {"trustRoots": "all"},
        {"attestation": "never"},
        {"keyProviders": 1},
    ],
)
async def test_terms_that_are_none(scene: Scene, members: dict[str, Any]) -> None:
    """Terms of another form, or without the requested collateral, are refused."""
    family = Family(bytes(6), "platform")
    assert (await scene.client.release_terms(family)).collateral == "missing"
    scene.lie("/attestation/terms", **members)
    with pytest.raises(MalformedAnswer):
        await scene.client.release_terms(family)


@pytest.mark.parametrize(
    "members", [{"policy": []}, {"policy": {"surprise": 1}}, {"policy": None, "more": 1}]
)
async def test_a_policy_that_is_none(scene: Scene, members: dict[str, Any]) -> None:
    """A malformed policy is rejected, also for an unknown member."""
    network = scene.owner.encryption.network()
    await scene.owner.delegations.add_right(
        scene.wallet, [allow(network.text, "sealspace.encryption/policy")]
    )
    scene.client.use(scene.owner.session)
    assert await scene.client.encryption.policy(network) is None
    scene.lie("/policy", **members)
    with pytest.raises(MalformedAnswer):
        await scene.client.encryption.policy(network)


@pytest.mark.parametrize(
    "members", [{"paths": "x"}, {"paths": [1]}, {"paths": ["a", "b", "c"]}, {"more": 1}]
)
async def test_paths_that_are_none(scene: Scene, members: dict[str, Any]) -> None:
    """A malformed or too long list of paths is rejected, also for an unknown member (RL23)."""
    scene.client.use(scene.owner.session)
    encryption = scene.client.encryption
    envelope = await encryption.encrypt(b"value", network=scene.owner.encryption.network())
    assert await encryption.paths_of(envelope) == ()
    with pytest.raises(InvalidEnvelope):
        await encryption.paths_of(b"{}")
    scene.lie("/paths", **members)
    with pytest.raises(MalformedAnswer):
        await encryption.paths_of(envelope)


@pytest.mark.parametrize("value", ["\ud800", "x" * 2_000_000])
async def test_what_cannot_be_a_secret_is_not_sent(scene: Scene, value: str) -> None:
    """The client refuses to store a value that is not a Unicode text of limited length."""
    with pytest.raises(InvalidInput):
        await scene.client.secrets().put("API_KEY", value)
    assert await scene.owner.secrets().get("API_KEY") == "value"


@pytest.mark.parametrize(
    "payload", [b"not json", b"[]", b'{"value":"x"}', b'{"value":1,"createdAt":"","updatedAt":""}']
)
async def test_a_plaintext_that_is_no_secret_is_not_shown(scene: Scene, payload: bytes) -> None:
    """A plaintext that is not a secret is rejected without being repeated in the error."""
    kv, encryption = scene.owner.kv("secrets"), scene.owner.encryption
    label = f"tinycloud.vault:{kv.space.text}:secrets/API_KEY".encode()
    envelope = await encryption.encrypt(payload, network=encryption.network(), label=label)
    await kv.put("vault/secrets/API_KEY", envelope_bytes(envelope))
    with pytest.raises(InvalidSecretPayload) as refused:
        await scene.client.secrets().get("API_KEY")
    assert payload.decode() not in str(refused.value)
