"""A decrypt exchange with known bytes (enc 2.7) and its refusals, over HTTP.

The node has a fixed root secret and a fixed network key, so that a wrap made elsewhere opens. The
tokens are fresh, because recorded ones have expired.
"""

import base64
import hashlib
import itertools
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from conformance.minting import key_token, wallet_grant
from conformance.replay_node import ReplayNode, ReplayNodes
from wire_replay import Answer, Request, canonical, node_signed, opened, token_id

from capabilities.signatures import Ed25519Signer, WalletSigner
from capabilities.strict_json import Json

ROOT_SECRET = b"\x07" * 32
NODE_DID = "did:key:z6MkrTtdPR2vyCnytuChTWGCzKqhUTZywQu7wHH3LvEjHKzf"
WALLET = WalletSigner((1).to_bytes(32, "big"))
SESSION = Ed25519Signer(b"\x41" * 32)
STRANGER = Ed25519Signer(b"\x42" * 32)
NETWORK = (
    "urn:tinycloud:encryption:did:pkh:eip155:1:0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf:default"
)
LOWER_NETWORK = NETWORK.replace(
    "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf", "0x7e5f4552091a69125d5dfcb7b8c2659029395bdf"
)
OTHER_NETWORK = NETWORK.replace(":default", ":other")
REVOKED_NETWORK = NETWORK.replace(":default", ":revoked")
UNKNOWN_NETWORK = NETWORK.replace(":default", ":unknown")
NETWORK_KEY = b"\x17" * 32
NETWORK_PUBLIC_KEY = "8T/vPvqVmKKiP8dWv2iP6LvX9s+VKLuu87REJojwqzE="
CONTENT_KEY = bytes(range(32))
WRAPPED = (
    "F9firNML9eGdhhroCYjRf66PZi9dgLAFP2zHPNqx0mQBAgICAgICAgICAgICRqTsVdNso+FCZ9t6"
    "5hNj2Z7x9pGyu5PlNANG6a+D0Z7g4iYIs+K1EdQuPs/x7u78"
)
RECEIVER_SEED = b"\x31" * 32
RECEIVER = "BPXykWLDGo3voY5udCIk7oBvwXGKJ4voWbpWIEArjzo="
BODY_HASH = "e8aa9e3648251b00ee0c4fd74dacd44793d011714dfc85c54b9aa8ca00934fc5"
# The answer's wrap, with the documented ephemeral scalar and nonce.
REWRAPPED = (
    "JhzZzS6TX5wkVYdqgPAqTWeGuKuHfwcidzfKC1d78WEBBAQEBAQEBAQEBAQE+mUOpYAyI253huQS"
    "oXQVonhTr3OP4cwrxwRMlTG26mODDFkbOhWPa1Ek0EdIrR+L"
)
NOW = 1767225600.0
_COUNT = itertools.count(1)


def text_hash(value: Any) -> str:
    """Return the hash of a JSON value's canonical form (enc 2.3)."""
    return hashlib.sha256(canonical(value)).hexdigest()


def nonce() -> str:
    """Return a nonce that was never used before."""
    return f"urn:uuid:00000000-0000-4000-8000-{next(_COUNT):012x}"


def wallet_to(audience: str, grants: dict[str, list[str]]) -> str:
    """Return a grant by the network's owner, valid for a day."""
    return wallet_grant(
        WALLET,
        audience=audience,
        grants=grants,
        nonce=f"nonce{next(_COUNT):08}",
        issued_at="2025-12-31T23:00:00.000Z",
        expires_at="2026-01-02T00:00:00.000Z",
    )


SESSION_GRANT = wallet_to(
    SESSION.did_url,
    {
        network: [
            f"tinycloud.encryption/{name}"
            for name in ("decrypt", "network.create", "network.revoke")
        ]
        for network in (NETWORK, OTHER_NETWORK, REVOKED_NETWORK, UNKNOWN_NETWORK)
    },
)
STRANGER_GRANT = wallet_to(STRANGER.did_url, {NETWORK: ["tinycloud.encryption/decrypt"]})
CREATE_ONLY_GRANT = wallet_to(SESSION.did_url, {NETWORK: ["tinycloud.encryption/network.create"]})
WILDCARD_GRANT = wallet_to(SESSION.did_url, {NETWORK: ["tinycloud.encryption/*"]})
PREFIX_GRANT = wallet_to(SESSION.did_url, {NETWORK[:-1]: ["tinycloud.encryption/decrypt"]})
REVOKED_GRANT = wallet_to(SESSION.did_url, {NETWORK: ["tinycloud.encryption/decrypt"]})


@dataclass(frozen=True)
class Decrypt:
    """A decrypt request that differs from the known exchange in the given fields."""

    network: str = NETWORK  # of the token's capability
    path_network: str | None = None  # of the path; None: as the capability's
    body: dict[str, Any] = field(default_factory=dict)
    dropped: str = ""  # a member left out of the body
    facts: dict[str, Any] | None = field(default_factory=dict)  # None: no facts at all
    body_text: bytes | None = None
    audience: str = NODE_DID
    signer: Ed25519Signer = SESSION
    expires_in_s: float = 60
    proofs: Sequence[str] = (SESSION_GRANT,)  # grants, or ids that start with "bafkr4i"
    abilities: Sequence[str] = ("tinycloud.encryption/decrypt",)
    more_networks: Sequence[str] = ()
    flip_signature: bool = False

    def json_body(self) -> dict[str, Any]:
        """Return the body with consistent hashes, then with the changes."""
        key = self.body.get("encryptedSymmetricKey", WRAPPED)
        receiver = self.body.get("receiverPublicKey", RECEIVER)
        body = {
            "type": "tinycloud.encryption.decrypt/v1",
            "targetNode": NODE_DID,
            "networkId": self.network,
            "alg": "x25519-aes256gcm/v1",
            "keyVersion": 1,
            "encryptedSymmetricKey": key,
            "encryptedSymmetricKeyHash": text_hash(key),
            "receiverPublicKey": receiver,
            "receiverPublicKeyHash": text_hash(receiver),
        } | self.body
        body.pop(self.dropped, None)
        return body

    def token(self) -> str:
        """Return the invocation for the request."""
        body = self.json_body()
        facts = (
            {name: body.get(name) for name in _FACT_MEMBERS}
            | {"bodyHash": text_hash(body)}
            | (self.facts or {})
        )
        token = key_token(
            self.signer,
            audience=self.audience,
            grants=dict.fromkeys((self.network, *self.more_networks), self.abilities),
            expires_at=NOW + self.expires_in_s,
            proofs=[
                proof if proof.startswith("bafkr4i") else token_id(proof) for proof in self.proofs
            ],
            nonce=nonce(),
            facts=[] if self.facts is None else [facts],
        )
        return _flipped(token) if self.flip_signature else token

    def request(self, route: str, token: str) -> Request:
        """Return the HTTP request for the dedicated route or for `/invoke`."""
        place = quote(self.path_network or self.network, safe="")
        path = "/invoke" if route == "invoke" else f"/encryption/networks/{place}/decrypt"
        text = canonical(self.json_body()) if self.body_text is None else self.body_text
        return Request(
            "POST", path, (("authorization", token), ("content-type", "application/json")), text
        )


_FACT_MEMBERS = (
    "type",
    "targetNode",
    "networkId",
    "encryptedSymmetricKeyHash",
    "receiverPublicKeyHash",
    "alg",
    "keyVersion",
)


def _flipped(token: str) -> str:
    """Return the token with another well-formed signature."""
    head, _, signature = token.rpartition(".")
    raw = bytearray(base64.urlsafe_b64decode(signature + "=="))
    raw[5] ^= 1
    return f"{head}.{base64.urlsafe_b64encode(raw).decode().rstrip('=')}"


def altered_wrap(offset: int, value: int | None = None) -> str:
    """Return the documented wrap with one byte changed."""
    blob = bytearray(base64.b64decode(WRAPPED))
    blob[offset] = blob[offset] ^ 1 if value is None else value
    return base64.b64encode(blob).decode()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def node(replay_nodes: ReplayNodes) -> AsyncIterator[ReplayNode]:
    """A node with the documented secret and network, a revoked network, and all grants."""
    node = await replay_nodes.new_node(secret=ROOT_SECRET)
    node.clock.time = NOW
    for grant in (
        SESSION_GRANT,
        STRANGER_GRANT,
        CREATE_ONLY_GRANT,
        WILDCARD_GRANT,
        PREFIX_GRANT,
        REVOKED_GRANT,
    ):
        answer = await node.connection.send(
            Request("POST", "/delegate", (("authorization", grant),), None)
        )
        assert answer.status == 200, answer.body
    for name in ("default", "other", "revoked"):
        node.entropy.lay_ready(NETWORK_KEY)
        answer = await administrate(node, name, "create", "/encryption/networks")
        assert answer.status == 200, answer.body
        assert json.loads(answer.body)["descriptor"]["publicEncryptionKey"] == NETWORK_PUBLIC_KEY
    place = quote(REVOKED_NETWORK, safe="")
    assert (
        await administrate(node, "revoked", "revoke", f"/encryption/networks/{place}/revoke")
    ).status == 204
    target = {f"urn:cid:{token_id(REVOKED_GRANT)}": ["tinycloud.delegation/revoke"]}
    revocation = key_token(
        SESSION, audience=NODE_DID, grants=target, expires_at=NOW + 60, nonce=nonce()
    )
    answer = await node.connection.send(
        Request("POST", "/revoke", (("authorization", revocation),), None)
    )
    assert answer.status == 200, answer.body
    yield node


async def administrate(node: ReplayNode, name: str, verb: str, path: str) -> Answer:
    """Create or revoke a network of the owner with the session key."""
    network = NETWORK.replace(":default", f":{name}")
    owner = "did:pkh:eip155:1:0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"
    body = (
        {"name": name, "ownerDid": owner, "threshold": {"n": 1, "t": 1}} if verb == "create" else {}
    )
    facts: dict[str, Json] = {
        "type": "tinycloud.encryption.network-admin/v1",
        "targetNode": NODE_DID,
        "networkId": network,
        "bodyHash": text_hash(body),
        "action": f"tinycloud.encryption/network.{verb}",
    }
    token = key_token(
        SESSION,
        audience=NODE_DID,
        grants={network: [f"tinycloud.encryption/network.{verb}"]},
        expires_at=NOW + 60,
        proofs=[token_id(SESSION_GRANT)],
        nonce=nonce(),
        facts=[facts],
    )
    headers = (("authorization", token), ("content-type", "application/json"))
    return await node.connection.send(Request("POST", path, headers, canonical(body)))


async def ask(
    node: ReplayNode, decrypt: Decrypt, *, route: str = "route", token: str | None = None
) -> Answer:
    """Send a decrypt request."""
    node.clock.time = NOW
    return await node.connection.send(decrypt.request(route, token or decrypt.token()))


def test_documented_hashes() -> None:
    """The hashes of body, key, receiver and administration match the documents (EN11)."""
    body = Decrypt().json_body()
    assert (
        body["encryptedSymmetricKeyHash"]
        == "43c6c73a72c5f2be00ecb65d38dd1f60a089093c80bbe70d7f7fc7fe94066922"
    )
    assert (
        body["receiverPublicKeyHash"]
        == "26efd0112c3e668ee4bb3dc749fc81d7bfdfcff7475df35aa69e89261a64ac51"
    )
    assert text_hash(body) == BODY_HASH
    assert text_hash({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


@pytest.mark.parametrize("route", ["route", "invoke"])
@pytest.mark.asyncio(loop_scope="module")
async def test_documented_request_is_answered_with_the_documented_wrap(
    node: ReplayNode, route: str
) -> None:
    """With the documented scalar and nonce, the node's answer equals the documented wrap byte for
    byte."""
    decrypt = Decrypt()
    token = decrypt.token()
    node.entropy.lay_ready(b"\x53" * 32, b"\x04" * 12)
    answer = await ask(node, decrypt, route=route, token=token)
    assert answer.status == 200, answer.body
    value = json.loads(answer.body)
    assert node_signed(value, secret=ROOT_SECRET)
    assert value.pop("nodeSignature")
    assert value == {
        "type": "tinycloud.encryption.decrypt-result/v1",
        "targetNode": NODE_DID,
        "networkId": NETWORK,
        "invocationCid": token_id(token),
        "encryptedSymmetricKeyHash": decrypt.json_body()["encryptedSymmetricKeyHash"],
        "receiverPublicKeyHash": decrypt.json_body()["receiverPublicKeyHash"],
        "wrappedKey": REWRAPPED,
        "alg": "x25519-aes256gcm/v1",
        "keyVersion": 1,
        "requestHash": hashlib.sha256((token_id(token) + BODY_HASH).encode()).hexdigest(),
        "nodeId": NODE_DID,
    }
    assert opened(value["wrappedKey"], RECEIVER_SEED) == CONTENT_KEY


MALFORMED = "decrypt request body is malformed: "
NO_FACTS = MALFORMED + "missing encryption invocation facts"
NO_PARENT = "Cannot find parent delegation"
NOT_GRANTED = f"Unauthorized Action: {NETWORK} / tinycloud.encryption/decrypt"
BAD_BASE64 = "hex decode error: invalid base64"
KEY_ERROR = "key backend error: "

# What is changed -> the request, and the status and text on the dedicated route. A text that ends
# in a blank begins it.
MATRIX: dict[str, tuple[Decrypt, int, str]] = {
    "aud is the session's DID": (
        Decrypt(audience=SESSION.did),
        401,
        "invocation audience does not match this node",
    ),
    "signature flipped": (Decrypt(flip_signature=True), 401, "Failed to verify signature"),
    "aud wrong and signature wrong": (
        Decrypt(audience=SESSION.did, flip_signature=True),
        401,
        "invocation audience does not match this node",
    ),
    "exp past": (Decrypt(expires_in_s=-1), 401, "Invocation expired or not yet valid"),
    "exp beyond 300 s": (Decrypt(expires_in_s=302), 401, "invocation expired"),
    "no proof": (Decrypt(proofs=()), 401, NO_PARENT),
    "unknown proof": (
        Decrypt(proofs=("bafkr4ibxxskb2v2jyxzgfyiwzx3wwopsyo6cpcjthzxmwz4ojmqykhrxjq",)),
        401,
        NO_PARENT,
    ),
    "one proof twice": (Decrypt(proofs=(SESSION_GRANT, SESSION_GRANT)), 401, NO_PARENT),
    "grant to another principal": (Decrypt(proofs=(STRANGER_GRANT,)), 401, "Unauthorized Invoker"),
    "grant of create only": (Decrypt(proofs=(CREATE_ONLY_GRANT,)), 401, NOT_GRANTED),
    "grant of a wildcard": (Decrypt(proofs=(WILDCARD_GRANT,)), 401, NOT_GRANTED),
    "grant on a network whose name is a prefix": (
        Decrypt(proofs=(PREFIX_GRANT,)),
        401,
        NOT_GRANTED,
    ),
    "grant revoked": (
        Decrypt(proofs=(REVOKED_GRANT,)),
        401,
        f"delegation-revoked: {token_id(REVOKED_GRANT)}",
    ),
    "no facts": (Decrypt(facts=None), 400, NO_FACTS),
    "facts with a member more": (Decrypt(facts={"x": 1}), 400, NO_FACTS),
    "facts with version 1.0": (Decrypt(facts={"keyVersion": 1.0}), 400, NO_FACTS),
    "body with a member more": (Decrypt(body={"x": 1}), 400, MALFORMED),
    "body with a member less": (Decrypt(dropped="alg"), 400, MALFORMED),
    "facts for another node": (
        Decrypt(facts={"targetNode": SESSION.did}),
        401,
        "invocation target node does not match this node",
    ),
    "path of another network": (
        Decrypt(path_network=OTHER_NETWORK),
        401,
        "invocation references a different network",
    ),
    "unknown network": (Decrypt(network=UNKNOWN_NETWORK), 404, "network not found"),
    "revoked network": (Decrypt(network=REVOKED_NETWORK), 401, "network has been revoked"),
    "key version 2": (
        Decrypt(body={"keyVersion": 2}),
        401,
        "invocation alg / key version does not match network",
    ),
    "receiver replaced, its hash not": (
        Decrypt(
            body={
                "receiverPublicKey": NETWORK_PUBLIC_KEY,
                "receiverPublicKeyHash": text_hash(RECEIVER),
            }
        ),
        401,
        "invocation hash mismatch: receiverPublicKeyHash",
    ),
    "key hash of the facts altered": (
        Decrypt(facts={"encryptedSymmetricKeyHash": "0" * 64}),
        401,
        "invocation hash mismatch: encryptedSymmetricKeyHash",
    ),
    "body hash of the facts altered": (
        Decrypt(facts={"bodyHash": "0" * 64}),
        401,
        "invocation hash mismatch: bodyHash",
    ),
    "hash of the raw key bytes": (
        Decrypt(
            body={
                "encryptedSymmetricKeyHash": hashlib.sha256(base64.b64decode(WRAPPED)).hexdigest()
            }
        ),
        401,
        "invocation hash mismatch: encryptedSymmetricKeyHash",
    ),
    "base64 of the URL alphabet": (
        Decrypt(body={"encryptedSymmetricKey": WRAPPED.replace("+", "-").replace("/", "_")}),
        400,
        BAD_BASE64,
    ),
    "base64 unpadded": (Decrypt(body={"receiverPublicKey": RECEIVER.rstrip("=")}), 400, BAD_BASE64),
    "base64 with a line break": (
        Decrypt(body={"encryptedSymmetricKey": WRAPPED + "\n"}),
        400,
        BAD_BASE64,
    ),
    "base64 with spare bits set": (
        Decrypt(body={"receiverPublicKey": RECEIVER[:-2] + "p="}),
        400,
        BAD_BASE64,
    ),
    "wrap altered in its ephemeral key": (
        Decrypt(body={"encryptedSymmetricKey": altered_wrap(0)}),
        500,
        KEY_ERROR,
    ),
    "wrap altered in its nonce": (
        Decrypt(body={"encryptedSymmetricKey": altered_wrap(33)}),
        500,
        KEY_ERROR,
    ),
    "wrap altered in its ciphertext": (
        Decrypt(body={"encryptedSymmetricKey": altered_wrap(50)}),
        500,
        KEY_ERROR,
    ),
    "wrap altered in its tag": (
        Decrypt(body={"encryptedSymmetricKey": altered_wrap(92)}),
        500,
        KEY_ERROR,
    ),
    # enc-W5, enc-W6, enc-W8: refused like its neighbours.
    "wrap with another version byte": (
        Decrypt(body={"encryptedSymmetricKey": altered_wrap(32, 0)}),
        500,
        KEY_ERROR,
    ),
    "wrap of 32 bytes": (
        Decrypt(
            body={
                "encryptedSymmetricKey": base64.b64encode(base64.b64decode(WRAPPED)[:32]).decode()
            }
        ),
        500,
        KEY_ERROR,
    ),
    "empty wrap": (
        Decrypt(body={"encryptedSymmetricKey": ""}),
        500,
        "key backend error: invalid wrapped key envelope",
    ),
    "wrap of 60 bytes": (
        Decrypt(
            body={
                "encryptedSymmetricKey": base64.b64encode(base64.b64decode(WRAPPED)[:60]).decode()
            }
        ),
        500,
        "key backend error: encrypted data too short",
    ),
    "ephemeral key all zero": (
        Decrypt(
            body={
                "encryptedSymmetricKey": base64.b64encode(
                    bytes(32) + base64.b64decode(WRAPPED)[32:]
                ).decode()
            }
        ),
        500,
        KEY_ERROR,
    ),
    "receiver key of 10 bytes": (
        Decrypt(body={"receiverPublicKey": base64.b64encode(bytes(10)).decode()}),
        500,
        "key backend error: invalid public key length",
    ),
    "receiver key all zero": (
        Decrypt(body={"receiverPublicKey": base64.b64encode(bytes(32)).decode()}),
        500,
        KEY_ERROR,
    ),
    "receiver key of low order": (
        Decrypt(body={"receiverPublicKey": base64.b64encode(b"\x01" + bytes(31)).decode()}),
        500,
        KEY_ERROR,
    ),
    "no decrypt capability": (
        Decrypt(abilities=("tinycloud.encryption/network.create",)),
        401,
        "decrypt action not permitted",
    ),
}

# On `/invoke` every refusal after admission is 403, and some texts are coarser (enc 2.7).
INVOKE_INSTEAD: dict[str, tuple[int, str]] = {
    "aud is the session's DID": (403, "invocation type is not a decrypt invocation"),
    "signature flipped": (401, "Failed to verify signature"),
    "aud wrong and signature wrong": (401, "Failed to verify signature"),
    "exp past": (401, "Invocation expired or not yet valid"),
    "exp beyond 300 s": (401, "Invocation lifetime exceeds server maximum"),
    "facts for another node": (403, "invocation type is not a decrypt invocation"),
    "path of another network": (200, ""),
    "revoked network": (403, "network is not active (state: revoked)"),
    "receiver replaced, its hash not": (403, "invocation hash mismatch: bodyHash"),
    "key hash of the facts altered": (403, "invocation hash mismatch: bodyHash"),
    "hash of the raw key bytes": (403, "invocation hash mismatch: bodyHash"),
    "no decrypt capability": (200, ""),
}


@pytest.mark.parametrize("name", MATRIX)
@pytest.mark.asyncio(loop_scope="module")
async def test_refusals_of_the_route(node: ReplayNode, name: str) -> None:
    """The dedicated route refuses each row with its status and text (EN17)."""
    decrypt, status, text = MATRIX[name]
    assert_refused(await ask(node, decrypt), status, text)


@pytest.mark.parametrize("name", MATRIX)
@pytest.mark.asyncio(loop_scope="module")
async def test_refusals_of_invoke(node: ReplayNode, name: str) -> None:
    """`/invoke` refuses each row with 403, except for those with rules of their own (2.7)."""
    decrypt, _, text = MATRIX[name]
    status, text = INVOKE_INSTEAD.get(name, (403, text))
    answer = await ask(node, decrypt, route="invoke")
    if status == 200:
        assert answer.status == 200, answer.body
    else:
        assert_refused(answer, status, text)


def assert_refused(answer: Answer, status: int, text: str) -> None:
    """Assert status and text of a refusal; a text that ends in a blank is a prefix."""
    body = answer.body.decode()
    assert (answer.status, body[: len(text)] if text.endswith(" ") else body) == (status, text)


@pytest.mark.asyncio(loop_scope="module")
async def test_missing_authorization_is_a_problem(node: ReplayNode) -> None:
    """A request without a token is answered with 401 as H2 says."""
    request = Decrypt().request("route", "")
    bare = replace(request, headers=(("content-type", "application/json"),))
    answer = await node.connection.send(bare)
    assert (answer.status, answer.header("content-type")) == (401, "application/problem+json")


@pytest.mark.asyncio(loop_scope="module")
async def test_spelling_of_path_and_body_does_not_matter(node: ReplayNode) -> None:
    """Address case, blanks, and order and repetition of members do not change the request."""
    canonical_id = [Decrypt(path_network=LOWER_NETWORK), Decrypt(network=LOWER_NETWORK)]
    for decrypt in canonical_id:
        answer = await ask(node, decrypt)
        assert answer.status == 200, answer.body
        assert json.loads(answer.body)["networkId"] == NETWORK
    body = Decrypt().json_body()
    spaced = json.dumps(dict(reversed(body.items())), indent=2).encode()
    repeated = b'{"alg":"other",' + canonical(body)[1:]
    for text in (spaced, repeated):
        answer = await ask(node, Decrypt(body_text=text))
        assert answer.status == 200, answer.body


@pytest.mark.parametrize("second", ["route", "invoke"])
@pytest.mark.parametrize("first", ["route", "invoke"])
@pytest.mark.asyncio(loop_scope="module")
async def test_a_token_is_used_once(node: ReplayNode, first: str, second: str) -> None:
    """A token that released a key is refused on both routes (EN18, ST4)."""
    decrypt = Decrypt()
    token = decrypt.token()
    assert (await ask(node, decrypt, route=first, token=token)).status == 200
    again = await ask(node, decrypt, route=second, token=token)
    assert (again.status, again.body) == (409, b"duplicate invocation")


@pytest.mark.asyncio(loop_scope="module")
async def test_each_release_wraps_anew(node: ReplayNode) -> None:
    """Two tokens for one key get two different wraps of it."""
    values = [json.loads((await ask(node, Decrypt())).body) for _ in range(2)]
    assert len({value["wrappedKey"] for value in values}) == 2
    assert {opened(value["wrappedKey"], RECEIVER_SEED) for value in values} == {CONTENT_KEY}


@pytest.mark.asyncio(loop_scope="module")
async def test_two_networks_in_one_token(node: ReplayNode) -> None:
    """The route uses the first network in sorted order; `/invoke` refuses two."""
    decrypt = Decrypt(more_networks=(OTHER_NETWORK,))
    assert (await ask(node, decrypt)).status == 200
    other_first = Decrypt(network=OTHER_NETWORK, more_networks=(NETWORK,))
    refused = await ask(node, other_first)
    assert (refused.status, refused.body) == (401, b"invocation references a different network")
    several = await ask(node, decrypt, route="invoke")
    assert (several.status, several.body) == (403, b"decrypt invocation contains multiple networks")
