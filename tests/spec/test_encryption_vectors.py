"""Tests of every vector in spec/vectors/encryption_network."""

import base64
import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from refusal_forms import on_invoke, on_route
from tests_support import REPOSITORY

from capabilities.abilities import NETWORK_CREATE
from capabilities.chain import Authority
from capabilities.resources import parse_network_id, parse_space_id
from capabilities.sign_ins import AuthorityFacts, owner_authority
from capabilities.signatures import verify_ed25519
from capabilities.tokens import parse_invocation, verify_invocation
from encryption_network.canonical_json import canonical_bytes, canonical_hash
from encryption_network.content_keys import content_key_hash
from encryption_network.envelope import open_envelope, parse_envelope
from encryption_network.gate import ReleaseRequest, admit
from encryption_network.grounds import RowStamp
from encryption_network.judgement import judge
from encryption_network.keyring import Keyring
from encryption_network.keywrap import open_wrapped, public_key_of, wrap
from encryption_network.network_errors import (
    DescriptorError,
    EncryptionError,
    EnvelopeError,
    PolicyError,
    RecordError,
    RequestError,
    RootSecretTooShort,
)
from encryption_network.networks import (
    ALGORITHM,
    FIRST_KEY_VERSION,
    KEY_BACKEND,
    NetworkRecord,
    Threshold,
    create_network,
    parse_descriptor,
    parse_path_id,
    timestamp,
)
from encryption_network.pins import NetworkPin
from encryption_network.policy import Evidence, encode_policy, parse_policy, policy_json
from encryption_network.release import open_key
from encryption_network.release_record import ReleaseRecord
from encryption_network.requests import (
    MAX_BODY_BYTES,
    REVOKE_BODY_HASH,
    bind_admin,
    bind_decrypt,
    check_audience,
    check_create,
    check_decrypt,
    check_revoke,
    parse_create,
    parse_decrypt_body,
    read_body,
)
from encryption_network.signed_descriptor import (
    SIGNATURE_MEMBER,
    is_nonce,
    sign_descriptor,
    verify_descriptor,
)
from encryption_network.withdrawals import NOTHING_WITHDRAWN
from sealspace.documents.key_statements import follow_key_changes
from sealspace.errors import StatementInvalid

SECRET = b"\x07" * 32
FOLDER = REPOSITORY / "spec" / "vectors" / "encryption_network"


def _document(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text("utf-8"))


def _cases(name: str) -> list[Any]:
    return [
        pytest.param(case, id=ascii(f"{'+'.join(case['rules'])} {case['name']}")[1:-1])
        for case in _document(name)["cases"]
    ]


class _Listed:
    """A random source that returns the listed values in order."""

    def __init__(self, values: Sequence[bytes]) -> None:
        self._values = list(values)

    def token(self, size_bytes: int) -> bytes:
        """Return the next value, which has the requested size."""
        value = self._values.pop(0)
        assert size_bytes == len(value)
        return value


@pytest.mark.parametrize("case", _cases("keys"))
def test_keys(case: Any) -> None:
    """Identities and sealed bytes follow from the root secret."""
    secret, expect = bytes.fromhex(case["secret_hex"]), case["expect"]
    if "code" in expect:
        with pytest.raises(RootSecretTooShort) as refused:
            Keyring(secret)
        assert expect["code"] == refused.value.code
        return
    keyring, plaintext = Keyring(secret), bytes.fromhex(case["plaintext_hex"])
    sealed = keyring.seal(plaintext, _Listed([bytes.fromhex(case["sealed_nonce_hex"])]))
    assert expect == {
        "node_did": keyring.node_did,
        "space_did": keyring.space_did(parse_space_id(case["space"])),
        "invitation_public_key": keyring.invitation_public_key,
        "sealed_hex": sealed.hex(),
    }
    assert plaintext == keyring.open_sealed(sealed)


@pytest.mark.parametrize("case", _cases("kept_keys"))
def test_kept_keys(case: Any) -> None:
    """The record of kept keys follows from both root secrets, and others are refused (RK3)."""
    new, expect = Keyring(bytes.fromhex(case["new_hex"])), case["expect"]
    if "code" in expect:
        with pytest.raises(RecordError) as refused:
            new.with_kept_keys(bytes.fromhex(case["sealed_hex"]))
        assert expect["code"] == refused.value.code
        return
    former = Keyring(bytes.fromhex(case["former_hex"]))
    nonce = _Listed([bytes.fromhex(case["nonce_hex"])])
    sealed = new.seal_kept_keys(former, nonce, keeps_identity=case["keeps_identity"])
    assert expect == {
        "check_value_hex": new.check_value.hex(),
        "node_did": new.with_kept_keys(sealed).node_did,
        "sealed_hex": sealed.hex(),
    }


@pytest.mark.parametrize("case", _cases("canonical_json"))
def test_canonical_json(case: Any) -> None:
    """A JSON value has one canonical text and one hash."""
    assert case["expect"]["canonical"].encode() == canonical_bytes(case["value"])
    assert case["expect"]["sha256"] == canonical_hash(case["value"])


def _run_keywrap(case: Any) -> dict[str, Any]:
    if case["operation"] == "wrap":
        entropy = _Listed([bytes.fromhex(case["ephemeral_hex"]), bytes.fromhex(case["nonce_hex"])])
        blob = wrap(
            bytes.fromhex(case["public_key_hex"]), bytes.fromhex(case["content_key_hex"]), entropy
        )
        return {"blob_hex": blob.hex(), "size_bytes": len(blob)}
    key = open_wrapped(bytes.fromhex(case["private_key_hex"]), bytes.fromhex(case["blob_hex"]))
    if case["operation"] == "hash":
        return {"hash_hex": content_key_hash(parse_network_id(case["network_id"]), key).hex()}
    return {"content_key_hex": key.hex()}


@pytest.mark.parametrize("case", _cases("keywrap"))
def test_keywrap(case: Any) -> None:
    """Wrapping a content key gives the vector's bytes, every altered wrap is refused, and a key has
    one hash under all its wraps."""
    if "code" not in case["expect"]:
        assert case["expect"] == _run_keywrap(case)
        return
    with pytest.raises(EncryptionError) as refused:
        _run_keywrap(case)
    assert case["expect"].get("text", refused.value.text) == refused.value.text
    assert case["expect"]["code"] == refused.value.code


@pytest.mark.parametrize("case", _cases("key_statements"))
def test_key_statements(case: Any) -> None:
    """The owner's statements lead from a known key to the newest; every other one is refused."""
    network, known, expect = parse_network_id(case["network"]), case["known"], case["expect"]
    pin = NetworkPin(
        network=network.text,
        public_key=base64.b64decode(known["publicEncryptionKey"]),
        key_version=known["keyVersion"],
    )
    statements = [statement.encode() for statement in case["statements"]]
    node_did = _document("key_statements")["node_did"]
    if "code" in expect:
        with pytest.raises(StatementInvalid) as refused:
            follow_key_changes(pin, statements, network=network, node_did=node_did)
        assert refused.value.code == expect["code"]
        return
    newest = follow_key_changes(pin, statements, network=network, node_did=node_did)
    assert {
        "keyVersion": newest.key_version,
        "publicEncryptionKey": base64.b64encode(newest.public_key).decode(),
    } == expect


@pytest.mark.parametrize(
    "case", [case for case in _cases("descriptor") if "asked" in case.values[0]]
)
def test_nonces(case: Any) -> None:
    """The nonce of a signed descriptor has one spelling and a bounded size."""
    assert case["expect"] == (
        {"is_nonce": True} if is_nonce(case["asked"]) else {"code": "bad-nonce"}
    )


@pytest.mark.parametrize(
    "case", [case for case in _cases("descriptor") if "answer" in case.values[0]]
)
def test_descriptor(case: Any) -> None:
    """A descriptor is signed byte for byte, and a client refuses every other one."""
    shared, answer, expect = _document("descriptor"), case["answer"], case["expect"]
    asked = {"node_did": shared["node_did"], "nonce": shared["nonce"]}
    if "code" in expect:
        with pytest.raises(DescriptorError) as refused:
            verify_descriptor(parse_descriptor(answer), answer.get(SIGNATURE_MEMBER), **asked)
        assert expect["code"] == refused.value.code
        return
    keyring, scalar = Keyring(SECRET), bytes.fromhex(case["network_key_hex"])
    entropy = _Listed([scalar, bytes(12)])
    record = create_network(
        parse_network_id(shared["network"]), now=0, keyring=keyring, entropy=entropy
    )
    record = msgspec.structs.replace(record, state=answer["descriptor"]["state"])
    assert expect["signature"] == sign_descriptor(record, shared["nonce"], keyring.node_signer)
    verify_ed25519(
        keyring.node_signer.public_key,
        expect["signed_text"].encode(),
        base64.b64decode(expect["signature"]),
    )
    verified = verify_descriptor(parse_descriptor(answer), answer[SIGNATURE_MEMBER], **asked)
    assert record.public_key == verified.public_key
    assert record.state == verified.state
    assert record.key_version == verified.key_version


@pytest.mark.parametrize("case", _cases("envelope"))
def test_envelope(case: Any) -> None:
    """An envelope is opened, or refused at the step that the vector names."""
    expect = case["expect"]
    if "code" in expect:
        with pytest.raises(EnvelopeError) as unread:
            parse_envelope(case["text"].encode())
        assert expect["code"] == unread.value.code
        return
    envelope, key = parse_envelope(case["text"].encode()), bytes.fromhex(expect["content_key_hex"])
    assert expect["network"] == envelope.network.text
    if "open_code" in expect:
        with pytest.raises(EnvelopeError) as unopened:
            open_envelope(envelope, key)
        assert expect["open_code"] == unopened.value.code
        return
    assert expect["plaintext"] == open_envelope(envelope, key).decode()


def _record(network: str, state: Any, keyring: Keyring, private_key: bytes) -> NetworkRecord:
    return NetworkRecord(
        version=1,
        network=network,
        public_key=public_key_of(private_key),
        sealed_private_key=keyring.seal(private_key, _Listed([bytes(12)])),
        state=state,
        alg=ALGORITHM,
        key_version=FIRST_KEY_VERSION,
        key_backend=KEY_BACKEND,
        threshold=Threshold(1, 1),
        created_at=timestamp(0),
        updated_at=timestamp(0),
        policy_json=None,
        claimed=True,
    )


def _decrypt(case: Any, shared: Any) -> dict[str, Any]:
    """Run the checks of the decrypt route for the network's owner in person (IP1)."""
    keyring, now = Keyring(bytes.fromhex(shared["root_secret_hex"])), case["now"]
    assert shared["node_did"] == keyring.node_did
    private_key = bytes.fromhex(shared["network_private_key_hex"])
    value = read_body(case["body"].encode(), max_bytes=MAX_BODY_BYTES)
    unverified = parse_invocation(case["token"])
    check_audience(unverified.audience, keyring.node_did)
    invocation = verify_invocation(unverified)
    network = parse_path_id(case["path"])
    bound = bind_decrypt(invocation, parse_decrypt_body(value), network, keyring.node_did)
    stored = case["network"]
    record = (
        None if stored is None else _record(stored["id"], stored["state"], keyring, private_key)
    )
    decrypt = check_decrypt(bound, record, now)
    row = RowStamp(b"row", bytes(16))
    request = ReleaseRequest(
        decrypt=decrypt,
        authority=Authority((), ()),
        owner=owner_authority(
            AuthorityFacts(
                owner=decrypt.network.owner,
                invoker=invocation.invoker,
                cited=(),
                links={},
                sessions=(),
                marks={},
                now=now,
            )
        ),
        exchange_key=keyring.exchange_signer.did,
        release_record=ReleaseRecord(),
        network_row=row,
        record_row=row,
        withdrawals=NOTHING_WITHDRAWN,
        withdrawals_row=row,
    )
    fixed = [
        bytes.fromhex(shared["answer_ephemeral_hex"]),
        bytes.fromhex(shared["answer_nonce_hex"]),
    ]
    return open_key(admit(request), keyring=keyring, entropy=_Listed(fixed))


def _check_refusal(refusal: RequestError, expect: Any) -> None:
    assert expect["code"] == refusal.code
    assert expect["status"] == on_route(refusal)[0]
    if "text" in expect:
        assert expect["text"] == on_route(refusal)[1]
        assert expect["invoke_text"] == on_invoke(refusal)[1]


@pytest.mark.parametrize("case", _cases("decrypt"))
def test_decrypt(case: Any) -> None:
    """A key request is answered byte for byte, or refused at its row with the wire's texts."""
    expect, shared = case["expect"], _document("decrypt")
    if "code" in expect:
        with pytest.raises(RequestError) as refused:
            _decrypt(case, shared)
        _check_refusal(refused.value, expect)
        return
    assert expect["answer"] == _decrypt(case, shared)


def _administer(case: Any, node_did: str) -> dict[str, Any]:
    """Run the checks of creating or revoking a network, up to the store."""
    unverified = parse_invocation(case["token"])
    check_audience(unverified.audience, node_did)
    invocation = verify_invocation(unverified)
    creating = case["action"] == NETWORK_CREATE
    network, body_hash = parse_path_id(case["path"]), REVOKE_BODY_HASH
    if creating:
        value = read_body(case["body"].encode(), max_bytes=MAX_BODY_BYTES)
        network, body_hash = parse_create(value)
    nonce = bind_admin(
        invocation, network, action=case["action"], body_hash=body_hash, node_did=node_did
    )
    keyring = Keyring(bytes(32))
    existing = _record(network.text, "active", keyring, bytes([1]) * 32) if case["exists"] else None
    if creating:
        check_create(existing)
    else:
        check_revoke(existing)
    return {"network": network.text, "nonce": nonce}


@pytest.mark.parametrize("case", _cases("admin"))
def test_admin(case: Any) -> None:
    """A network is created or revoked, or the request is refused at its row."""
    expect, node_did = case["expect"], _document("admin")["node_did"]
    if "code" in expect:
        with pytest.raises(RequestError) as refused:
            _administer(case, node_did)
        _check_refusal(refused.value, expect)
        return
    assert expect == _administer(case, node_did)


_TEXT_OR_NUMBER = frozenset(
    {
        "invoker",
        "receiver_mode",
        "tcb_status",
        "qe_status",
        "advisories",
        "evaluation_number",
        "tcb_date",
        "attested_at",
        "expires_at",
        "key_provider",
    }
)


def _evidence(members: Any) -> Evidence:
    read: dict[str, Any] = {
        name: value if name in _TEXT_OR_NUMBER or value is None else bytes.fromhex(value)
        for name, value in members.items()
    }
    return Evidence(**{**read, "advisories": tuple(read["advisories"])})


@pytest.mark.parametrize("case", _cases("policy"))
def test_policy(case: Any) -> None:
    """A policy is parsed and written back, applied to evidence, or refused."""
    expect = case["expect"]
    if "code" in expect:
        with pytest.raises(PolicyError) as refused:
            parse_policy(case["policy"])
        assert expect["code"] == refused.value.code
        return
    policy = parse_policy(case["policy"])
    assert policy == parse_policy(policy_json(policy))
    assert encode_policy(policy) == encode_policy(parse_policy(json.loads(encode_policy(policy))))
    if "refusal" in expect:
        evidence = _evidence(_document("policy")["evidence"] | case["evidence"])
        assert expect["refusal"] == judge(evidence, policy, case["now"])
