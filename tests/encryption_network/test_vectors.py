"""Known answers for identity, network key, wrap, envelope and a whole decrypt exchange."""

import base64
import json
from typing import Any

import pytest

from capabilities.abilities import NETWORK_CREATE
from capabilities.cids import cid_text
from capabilities.resources import parse_network_id, parse_space_id
from capabilities.strict_json import Json
from capabilities.tokens import parse_invocation, verify_invocation
from encryption_network.canonical_json import canonical_bytes, canonical_hash
from encryption_network.envelope import (
    encode_envelope,
    open_envelope,
    parse_envelope,
    seal_envelope,
)
from encryption_network.keyring import NETWORK_SEAL, NODE_IDENTITY, Keyring
from encryption_network.keywrap import open_wrapped, public_key_of, wrap
from encryption_network.network_errors import RootSecretTooShort
from encryption_network.networks import Descriptor, create_network, descriptor_json, private_key
from encryption_network.requests import (
    REVOKE_BODY_HASH,
    admin_fact,
    bind_decrypt,
    check_decrypt,
    decrypt_body_json,
    decrypt_fact,
    parse_create,
    parse_decrypt_body,
    request_hash,
)

SECRET = bytes.fromhex("07" * 32)
SAMPLE_SECRET = b"Some long piece of entropy which is a secret and more than 32 bytes"
NODE_DID = "did:key:z6MkrTtdPR2vyCnytuChTWGCzKqhUTZywQu7wHH3LvEjHKzf"
OWNER = "did:pkh:eip155:1:0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"
NETWORK = f"urn:tinycloud:encryption:{OWNER}:default"
NETWORK_SCALAR = bytes.fromhex("17" * 32)
NETWORK_PUBLIC = "8T/vPvqVmKKiP8dWv2iP6LvX9s+VKLuu87REJojwqzE="
SEALED = bytes.fromhex(
    "01010101010101010101010101361efbd571e6ed8acc8512769b2a2b"
    "77e76c6a6f921f6adac6f2fba05cb27232f5e77985e6dcfd733b87f1"
    "3ed0494759"
)
CONTENT_KEY = bytes(range(32))
WRAPPED = (
    "F9firNML9eGdhhroCYjRf66PZi9dgLAFP2zHPNqx0mQBAgICAgICAgIC"
    "AgICRqTsVdNso+FCZ9t65hNj2Z7x9pGyu5PlNANG6a+D0Z7g4iYIs+K1"
    "EdQuPs/x7u78"
)
KEY_HASH = "43c6c73a72c5f2be00ecb65d38dd1f60a089093c80bbe70d7f7fc7fe94066922"
PLAINTEXT = (
    b'{"value":"sk-demo","createdAt":"2026-01-01T00:00:00.000Z",'
    b'"updatedAt":"2026-01-01T00:00:00.000Z"}'
)
ENVELOPE = (
    '{"v":1,"networkId":"urn:tinycloud:encryption:did:pkh:eip1'
    '55:1:0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf:default",'
    '"alg":"x25519-aes256gcm/v1","keyVersion":1,"encryptedSymmetricKey":"'
    + WRAPPED
    + '","encryptedSymmetricKeyHash":"'
    + KEY_HASH
    + '","ciphertext":"AwMDAwMDAwMDAwMDlWlKt2fnNzTkf3UV4M4xanV02tK5ilnQ'
    "9tgiXHAAk3CpMw7oiLdGyHiaED5bcQ0qyeZHgpu"
    "SdvAc0W5k94udLiKuxdx25AawYPlyYvhpaVSfgIGwYLxzhz5DFkET/mXE"
    'wudBqWFxIXPw6RhuitOQc9I=","aad":"dGlueWNsb3VkLnZhdWx0OnRpb'
    "nljbG91ZDpwa2g6ZWlwMTU1OjE6MHg3RTVGNDU1MjA5MUE2OTEyNWQ1RG"
    "ZDYjdiOEMyNjU5MDI5Mzk1QmRmOnNlY3JldHM6c2VjcmV0cy9ERU1PX0tF"
    'WQ==","metadata":{"x-vault-version":"2","x-vault-cipher":"t'
    'inycloud-network-envelope","x-vault-content-type":"applicat'
    'ion/json"}}'
)
RECEIVER_SEED = bytes.fromhex("31" * 32)
RECEIVER = "BPXykWLDGo3voY5udCIk7oBvwXGKJ4voWbpWIEArjzo="
BODY_HASH = "e8aa9e3648251b00ee0c4fd74dacd44793d011714dfc85c54b9aa8ca00934fc5"
CID = "bafkr4ibc4gb7hbv45yaulyhhjwqhc752xp5ooydn4n3dtkrfofpuzhlaje"
REQUEST_HASH = "fd3653cc02275940100fd78b7e6320c2d3ed4d9461cc76b12217dc4198265053"
CANONICAL_BODY = (
    '{"alg":"x25519-aes256gcm/v1","encryptedSymmetricKey":"'
    + WRAPPED
    + '","encryptedSymmetricKeyHash":"'
    + KEY_HASH
    + '","keyVersion":1,"networkId":"'
    + NETWORK
    + '","receiverPublicKey":"'
    + RECEIVER
    + '","receiverPublicKeyHash":"26ef'
    'd0112c3e668ee4bb3dc749fc81d7bfdfcff7475df35aa69e89261a64ac51","targetNode":"'
    + NODE_DID
    + '","type":"tinycloud.encryption.decrypt/v1"}'
)
TOKEN = (
    "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCIsInVjdiI6IjAuMTAuMCJ9."
    "eyJhdHQiOnsidXJuOnRpbnljbG91ZDplbmNyeXB0aW9uOmRpZDpwa2g6Z"
    "WlwMTU1OjE6MHg3RTVGNDU1MjA5MUE2OTEyNWQ1RGZDYjdiOEMyNjU5MD"
    "I5Mzk1QmRmOmRlZmF1bHQiOnsidGlueWNsb3VkLmVuY3J5cHRpb24vZGVj"
    "cnlwdCI6W3t9XX19LCJhdWQiOiJkaWQ6a2V5Ono2TWtyVHRkUFIydnlDb"
    "nl0dUNoVFdHQ3pLcWhVVFp5d1F1N3dISDNMdkVqSEt6ZiIsImV4cCI6MTc"
    "2NzIyNTY2MCwiZmN0IjpbeyJhbGciOiJ4MjU1MTktYWVzMjU2Z2NtL3Yx"
    "IiwiYm9keUhhc2giOiJlOGFhOWUzNjQ4MjUxYjAwZWUwYzRmZDc0ZGFjZD"
    "Q0NzkzZDAxMTcxNGRmYzg1YzU0YjlhYThjYTAwOTM0ZmM1IiwiZW5jcnl"
    "wdGVkU3ltbWV0cmljS2V5SGFzaCI6IjQzYzZjNzNhNzJjNWYyYmUwMGVjY"
    "jY1ZDM4ZGQxZjYwYTA4OTA5M2M4MGJiZTcwZDdmN2ZjN2ZlOTQwNjY5Mj"
    "IiLCJrZXlWZXJzaW9uIjoxLCJuZXR3b3JrSWQiOiJ1cm46dGlueWNsb3Vk"
    "OmVuY3J5cHRpb246ZGlkOnBraDplaXAxNTU6MToweDdFNUY0NTUyMDkxQ"
    "TY5MTI1ZDVEZkNiN2I4QzI2NTkwMjkzOTVCZGY6ZGVmYXVsdCIsInJlY2V"
    "pdmVyUHVibGljS2V5SGFzaCI6IjI2ZWZkMDExMmMzZTY2OGVlNGJiM2Rj"
    "NzQ5ZmM4MWQ3YmZkZmNmZjc0NzVkZjM1YWE2OWU4OTI2MWE2NGFjNTEiLC"
    "J0YXJnZXROb2RlIjoiZGlkOmtleTp6Nk1rclR0ZFBSMnZ5Q255dHVDaFR"
    "XR0N6S3FoVVRaeXdRdTd3SEgzTHZFakhLemYiLCJ0eXBlIjoidGlueWNsb"
    "3VkLmVuY3J5cHRpb24uZGVjcnlwdC92MSJ9XSwiaXNzIjoiZGlkOmtleT"
    "p6Nk1rdUVVeWJGZ0RoU3lybXZQTVViZXpSTkg4aEhkdjhQWXBnNlBzVGNy"
    "TFhzd1MjejZNa3VFVXliRmdEaFN5cm12UE1VYmV6Uk5IOGhIZHY4UFlwZ"
    "zZQc1RjckxYc3dTIiwibm5jIjoidXJuOnV1aWQ6MDAwMDAwMDAtMDAwMC0"
    "0MDAwLTgwMDAtMDAwMDAwMDAwMDAxIiwicHJmIjpbImJhZmtyNGlieHhz"
    "a2IydjJqeXh6Z2Z5aXd6eDN3d29wc3lvNmNwY2p0aHp4bXd6NG9qbXF5a2"
    "hyeGpxIl19.fRTMnt5uyjcSUCRPnnp19KNeBCUkSNLpK0Hnf"
    "Db0vJXKbyy_0VWuXuEVmUNcF4FHHo-xrPy2zhTTm931-kf4BQ"
)
RESPONSE: dict[str, Json] = {
    "type": "tinycloud.encryption.decrypt-result/v1",
    "targetNode": NODE_DID,
    "networkId": NETWORK,
    "invocationCid": CID,
    "encryptedSymmetricKeyHash": KEY_HASH,
    "receiverPublicKeyHash": "26efd0112c3e668ee4bb3dc749fc81d7bfdfcff7475df35aa69e89261a64ac51",
    "wrappedKey": (
        "JhzZzS6TX5wkVYdqgPAqTWeGuKuHfwcidzfKC1d78WEBBAQEBAQEBAQE"
        "BAQE+mUOpYAyI253huQSoXQVonhTr3OP4cwrxwRMlTG26mODDFkbOhWP"
        "a1Ek0EdIrR+L"
    ),
    "alg": "x25519-aes256gcm/v1",
    "keyVersion": 1,
    "requestHash": REQUEST_HASH,
    "nodeId": NODE_DID,
    "nodeSignature": (
        "zIaVu+OicpyvI4Qj8PCEdfwtUBvLfjjmRlMxZVsm+3aQCzNeMolzn8CdTxocZjxNOez4z74GGvmR8/f9Ow8GDQ=="
    ),
}


class Script:
    """A random source that returns given values in order."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    def token(self, size_bytes: int) -> bytes:
        piece = self._pieces.pop(0)
        assert size_bytes == len(piece)
        return piece


def network_record() -> Any:
    """The network of the vectors, with its published key and seal."""
    entropy = Script(NETWORK_SCALAR, b"\x01" * 12)
    return create_network(
        parse_network_id(NETWORK), now=1_767_225_600.0, keyring=Keyring(SECRET), entropy=entropy
    )


def test_identity_follows_from_the_root_secret() -> None:
    """EN4: the 32-byte sample secret gives the expected seeds and DID."""
    keyring = Keyring(SECRET)
    assert (
        keyring.derive(NODE_IDENTITY).hex()
        == "02addb0d5ac03dcf6a862a6c575c6d8de2c49cfd6e6f3f06990a03c57ee745f3"
    )
    assert (
        keyring.derive(NETWORK_SEAL).hex()
        == "97a583b17a34ad2d0f397cbfc61ae07dfbb0741f9a16f81eb931689d1b707825"
    )
    column = keyring.derive(b"tinycloud/hooks/webhook-secrets")
    assert column.hex() == "57c57877219e744d2efd3ec8b844f69afec8d4f5e02661471de98d711ca4bc02"
    assert keyring.node_did == NODE_DID


def test_known_answers_of_the_sample_secrets() -> None:
    """wire 5.7: two secrets give the expected node, host and invitation keys."""
    space = parse_space_id(
        "tinycloud:pkh:eip155:1:0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266:default"
    )
    sample, zero = Keyring(SAMPLE_SECRET), Keyring(bytes(32))
    assert sample.node_did == "did:key:z6MkfhoxdzVTa6fLWMgEJNiRJomE5grMqkWyHiRbU9Tt7mAq"
    assert sample.space_did(space) == "did:key:z6MkrrUdGhJwgf5DoGAKzw52dwSg7gTgRjnKbybZZzfRCn1Z"
    assert sample.invitation_public_key == "LVksILm-pOvZD5nKa-pzUiPcpEggaoSxd3Le0yB0Wkk"
    assert (
        sample.derive("tinycloud/kv/list-cursor").hex()
        == "9082ab3f87344f23c15ee7a6c3d1abd88d6e8e17dedef3f4c09b82b2ea32cbfc"
    )
    assert zero.node_did == "did:key:z6Mko6nD6G5AKtGER7mYjNhxdM5KMi5wb8x2yRfhh99HiSLY"
    assert zero.space_did(space) == "did:key:z6Mktnn3WtiLSohBYP79H3Kvq7EBcfK8hXUvd9eJVZQCRLKm"


def test_a_short_root_secret_is_refused() -> None:
    """A root secret of 31 bytes raises RootSecretTooShort."""
    with pytest.raises(RootSecretTooShort):
        Keyring(bytes(31))


def test_network_key_and_its_seal() -> None:
    """EN5, EN6: public key, descriptor field and sealed private key match."""
    record = network_record()
    assert descriptor_json(record, NODE_DID)["publicEncryptionKey"] == NETWORK_PUBLIC
    assert record.sealed_private_key == SEALED
    assert private_key(record, Keyring(SECRET)) == NETWORK_SCALAR


def test_key_wrap() -> None:
    """EN11, EN21: the wrap and the hash over its quoted text match, and the wrap opens."""
    blob = wrap(public_key_of(NETWORK_SCALAR), CONTENT_KEY, Script(b"\x29" * 32, b"\x02" * 12))
    assert base64.b64encode(blob).decode() == WRAPPED
    assert open_wrapped(NETWORK_SCALAR, blob) == CONTENT_KEY
    assert canonical_hash(WRAPPED) == KEY_HASH


def test_envelope() -> None:
    """EN23: the envelope matches byte for byte and opens with the content key."""
    envelope = parse_envelope(ENVELOPE.encode())
    assert open_envelope(envelope, CONTENT_KEY) == PLAINTEXT
    assert encode_envelope(envelope) == ENVELOPE.encode()
    descriptor = Descriptor(
        network_id=parse_network_id(NETWORK),
        public_key=base64.b64decode(NETWORK_PUBLIC),
        state="active",
        alg="x25519-aes256gcm/v1",
        key_version=1,
        node_did=NODE_DID,
    )
    entropy = Script(CONTENT_KEY, b"\x03" * 12, b"\x29" * 32, b"\x02" * 12)
    aad = f"tinycloud.vault:tinycloud:{OWNER[4:]}:secrets:secrets/DEMO_KEY".encode()
    assert (
        seal_envelope(descriptor, PLAINTEXT, entropy, aad=aad, metadata=envelope.metadata)
        == envelope
    )


def test_decrypt_exchange() -> None:
    """EN11, EN12: body, facts, token id and request hash of one exchange match."""
    body = decrypt_body_json(
        NETWORK,
        target_node=NODE_DID,
        alg="x25519-aes256gcm/v1",
        key_version=1,
        encrypted_symmetric_key=WRAPPED,
        receiver_public_key=public_key_of(RECEIVER_SEED),
    )
    assert canonical_bytes(body).decode() == CANONICAL_BODY
    invocation = verify_invocation(parse_invocation(TOKEN))
    assert list(invocation.facts) == [decrypt_fact(body)]
    parsed = parse_decrypt_body(body)
    assert parsed.body_hash == BODY_HASH
    assert cid_text(invocation.cid) == CID
    assert request_hash(CID, BODY_HASH) == REQUEST_HASH
    bound = bind_decrypt(invocation, parsed, parse_network_id(NETWORK), NODE_DID)
    checked = check_decrypt(bound, network_record(), 1_767_225_600.0)
    assert checked.invocation_cid == CID
    assert checked.request_hash == REQUEST_HASH


def test_decrypt_response() -> None:
    """EN20: the answer opens, and its canonical JSON without signature is the signed text."""
    blob = base64.b64decode(str(RESPONSE["wrappedKey"]))
    assert (
        wrap(public_key_of(RECEIVER_SEED), CONTENT_KEY, Script(b"\x53" * 32, b"\x04" * 12)) == blob
    )
    assert open_wrapped(RECEIVER_SEED, blob) == CONTENT_KEY
    signed = canonical_bytes(
        {name: value for name, value in RESPONSE.items() if name != "nodeSignature"}
    )
    signature = Keyring(SECRET).node_signer.sign(signed)
    assert base64.b64encode(signature).decode() == RESPONSE["nodeSignature"]


def test_admin_hashes() -> None:
    """EN11: the body hashes of create and revoke match."""
    body: dict[str, Any] = {"name": "default", "ownerDid": OWNER, "threshold": {"n": 1, "t": 1}}
    assert (
        parse_create(body)[1] == "21a22875dd4639b7a72cab3eb585b23b006176767c8cc6b4b79ff1ca4dffdb76"
    )
    assert REVOKE_BODY_HASH == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert parse_create(body)[0].text == NETWORK
    fact = admin_fact(NETWORK, target_node=NODE_DID, action=NETWORK_CREATE, body=body)
    assert fact["bodyHash"] == parse_create(body)[1]


@pytest.mark.parametrize(
    ("text", "canonical", "digest"),
    [
        ('"abc"', '"abc"', "6cc43f858fbb763301637b5af970e2a46b46f461f27e5a0f41e009c59b827b25"),
        ("null", "null", "74234e98afe7498fb5daf1f36ac2d78acc339464f950703b8c019892f982b90b"),
        (
            '{"a b":1,"A":2,"_":3,"é":4}',
            '{"A":2,"_":3,"a b":1,"é":4}',
            "fa5b617341ef1eb5732f1a3a6ea7f0b691d36135a988ef615c57dc0e90a169d6",
        ),
        (
            '{"b":1,"a":[true,null,{"z":"é","y":"\\u2028"}]}',
            '{"a":[true,null,{"y":"\u2028","z":"é"}],"b":1}',
            "522551eb0628515802051bfe5541d2fe6b2db90a72276e4d5414543502dc0bba",
        ),
    ],
)
def test_canonical_samples(text: str, canonical: str, digest: str) -> None:
    """EN10: the canonical texts and their hashes match."""
    assert canonical_bytes(json.loads(text)) == canonical.encode()
    assert canonical_hash(json.loads(text)) == digest
