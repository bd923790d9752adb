"""Fuzzing of all parsers: each input gives a value or an EncryptionError."""

import base64
import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from fuzz_strategies import (
    LARGE_UNITS,
    changed_objects,
    damaged_bytes,
    damaged_text,
    deep_packed,
    json_values,
    large_texts,
    packed_values,
)
from hypothesis import given
from hypothesis import strategies as st
from tests_support import CountingEntropy, fuzzed

from capabilities.abilities import NETWORK_CREATE
from capabilities.facts import ATTESTATION_FACT
from capabilities.resources import parse_network_id
from capabilities.strict_base64 import encode_url
from encryption_network.canonical_json import canonical_bytes
from encryption_network.envelope import (
    encode_envelope,
    open_envelope,
    parse_envelope,
    seal_envelope,
)
from encryption_network.keyring import Keyring
from encryption_network.keywrap import open_blob, open_wrapped, public_key_of, seal_blob, wrap
from encryption_network.network_errors import EncryptionError
from encryption_network.networks import (
    Descriptor,
    create_network,
    decode_network,
    descriptor_json,
    encode_network,
    parse_descriptor,
    parse_path_id,
    well_known_id,
    well_known_json,
)
from encryption_network.policy import (
    Measurements,
    Policy,
    decode_evidence,
    encode_evidence,
    encode_policy,
    parse_policy,
    policies_of,
    policy_json,
)
from encryption_network.release_record import (
    ReleaseRecord,
    decode_release_record,
    encode_release_record,
)
from encryption_network.requests import (
    MAX_BODY_BYTES,
    REVOKE_BODY_HASH,
    admin_fact,
    bind_admin,
    bind_decrypt,
    check_decrypt,
    decrypt_fact,
    invoked_network,
    parse_create,
    parse_decrypt_body,
    read_body,
)
from encryption_network.signed_descriptor import is_nonce, sign_descriptor, verify_descriptor

URN = "urn:tinycloud:encryption:did:pkh:eip155:1:0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf:default"
NETWORK = parse_network_id(URN)
SCALAR, CONTENT_KEY = b"\x17" * 32, bytes(range(32))
KEYRING = Keyring(b"\x07" * 32)
ENTROPY = CountingEntropy()
DESCRIPTOR = Descriptor(
    network_id=NETWORK,
    public_key=public_key_of(SCALAR),
    state="active",
    alg="x25519-aes256gcm/v1",
    key_version=1,
    node_did=None,
)
WRAPPED = wrap(public_key_of(SCALAR), CONTENT_KEY, ENTROPY)
ENVELOPE = encode_envelope(
    seal_envelope(DESCRIPTOR, b"secret", ENTROPY, aad=b"a", metadata={"k": "v"})
)
POLICY = Policy(
    measurements=(
        Measurements(
            mrtd=bytes(48), rtmr0=bytes(48), rtmr1=bytes(48), rtmr2=bytes(48), rtmr3=bytes(48)
        ),
    ),
    paths=("tinycloud:key:zA:secrets/kv/a",),
    max_age_s=300,
)
POLICY_JSON = policy_json(POLICY)
RECORD = create_network(NETWORK, now=1_795_000_000.0, keyring=KEYRING, entropy=ENTROPY)
RELEASE_RECORD = json.loads(
    encode_release_record(ReleaseRecord(trust_roots=(bytes(32),), node_policy=POLICY))
)
HEX = "00" * 48
POLICY_VALUES = json_values(
    HEX, "UpToDate", "signed", "default", members=[*POLICY_JSON, "mrtd", "rtmr3"]
)


def _is_signable(value: Any) -> bool:
    """Return whether JSON can contain a value; otherwise no token can."""
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except ValueError:
        return False
    return True


def _nested(value: Any) -> Any:
    for _ in range(100_000):
        value = [value]
    return value


@fuzzed()
@given(st.binary(max_size=200) | damaged_bytes(WRAPPED, seal_blob(SCALAR, CONTENT_KEY, ENTROPY)))
def test_fuzz_wrapped_keys(data: bytes) -> None:
    """Wrapped keys and sealed blobs of any bytes open or are rejected."""
    for opener in (
        lambda: open_wrapped(SCALAR, data),
        lambda: open_blob(SCALAR, data),
        lambda: KEYRING.open_sealed(data),
        lambda: wrap(data, CONTENT_KEY, ENTROPY),
    ):
        with suppress(EncryptionError):
            opener()


@fuzzed()
@given(
    st.binary(max_size=200)
    | large_texts.map(str.encode)
    | damaged_bytes(ENVELOPE)
    | changed_objects(json.loads(ENVELOPE), json_values(URN)).map(
        lambda value: json.dumps(value).encode()
    )
)
def test_fuzz_envelopes(data: bytes) -> None:
    """Envelopes of any bytes are parsed and opened, or rejected."""
    with suppress(EncryptionError):
        open_envelope(parse_envelope(data), CONTENT_KEY)


@fuzzed()
@given(json_values() | st.text(st.characters()) | st.just([]).map(_nested))
def test_fuzz_canonical_json(value: Any) -> None:
    """A JSON value has a canonical text or is rejected."""
    with suppress(EncryptionError):
        canonical_bytes(value)


@fuzzed()
@given(
    st.binary(max_size=100)
    | large_texts.map(str.encode)
    | st.text(alphabet='{}[]",:0123456789.eE-+ntf ulr\\\n\ud800', max_size=40).map(
        lambda text: text.encode("utf-8", "surrogatepass")
    )
)
def test_fuzz_bodies(data: bytes) -> None:
    """Any bytes are JSON or rejected, and any JSON is a request body or rejected."""
    with suppress(EncryptionError):
        value = read_body(data, max_bytes=MAX_BODY_BYTES)
        for parse in (parse_decrypt_body, parse_create, parse_policy, parse_descriptor):
            with suppress(EncryptionError):
                parse(value)


@pytest.mark.parametrize("unit", LARGE_UNITS)
def test_fuzz_large_bodies(unit: str) -> None:
    """Repetitive bodies and envelopes of the maximum size are handled quickly."""
    data = (unit * MAX_BODY_BYTES)[:MAX_BODY_BYTES].encode()
    for text in (data, b'{"a":' + data[:-10] + b"}"):
        for read in (lambda body: read_body(body, max_bytes=MAX_BODY_BYTES), parse_envelope):
            with suppress(EncryptionError):
                read(text)


@fuzzed(1 / 20)
@given(st.data())
def test_fuzz_decrypt_requests(world: Any, data: st.DataObject) -> None:
    """Decrypt bodies and facts of any shape are checked or rejected."""
    values = json_values(world.urn, world.keyring.node_did, "tinycloud.encryption.decrypt/v1")
    body = data.draw(st.just(world.body()) | changed_objects(world.body(), values))
    fact = data.draw(
        values | changed_objects(decrypt_fact(world.body()), values).filter(_is_signable)
    )
    with suppress(EncryptionError):
        parsed = parse_decrypt_body(body)
        invocation = world.invocation(world.session, facts=[fact] if _is_signable(fact) else [])
        bound = bind_decrypt(
            invocation, parsed, parse_network_id(world.urn), world.keyring.node_did
        )
        check_decrypt(bound, world.network, world.now)


@fuzzed(1 / 20)
@given(st.data())
def test_fuzz_admin_requests(world: Any, data: st.DataObject) -> None:
    """Create bodies and administration facts of any shape are checked or rejected."""
    values = json_values(world.urn, world.keyring.node_did, NETWORK_CREATE)
    fact = admin_fact(world.urn, target_node=world.keyring.node_did, action=NETWORK_CREATE, body={})
    asked = {"name": "default", "ownerDid": world.owner, "threshold": {"n": 1, "t": 1}}
    with suppress(EncryptionError):
        parse_create(data.draw(changed_objects(asked, values)))
    drawn = data.draw(changed_objects(fact, values).filter(_is_signable))
    invocation = world.invocation(
        world.session, facts=[drawn], att={world.urn: {NETWORK_CREATE: [{}]}}
    )
    with suppress(EncryptionError):
        bind_admin(
            invocation,
            parse_network_id(world.urn),
            action=NETWORK_CREATE,
            body_hash=REVOKE_BODY_HASH,
            node_did=world.keyring.node_did,
        )


@fuzzed()
@given(
    st.text() | damaged_text(URN) | large_texts,
    st.none() | st.text() | damaged_text("did:key:zOwner"),
)
def test_fuzz_network_ids(text: str, owner: str | None) -> None:
    """Ids of any text, in paths and queries, are parsed or rejected."""
    for read in (
        lambda: parse_path_id(text),
        lambda: well_known_id(text, owner),
        lambda: invoked_network(()),
    ):
        with suppress(EncryptionError):
            read()


@fuzzed(1 / 20)
@given(st.data())
def test_fuzz_descriptors(data: st.DataObject) -> None:
    """Descriptors of any shape are parsed or rejected."""
    values = json_values(URN, base64.b64encode(bytes(32)).decode())
    original = data.draw(
        st.sampled_from([descriptor_json(RECORD, KEYRING.node_did), well_known_json(RECORD)])
    )
    drawn = data.draw(values | changed_objects(original, values))
    with suppress(EncryptionError):
        parse_descriptor(data.draw(st.sampled_from([drawn, {"descriptor": drawn}])))


@fuzzed()
@given(st.data())
def test_fuzz_signed_descriptors(data: st.DataObject) -> None:
    """A signature is invalid after any change that a client would use (EN29)."""
    nonce, signer = encode_url(bytes(16)), KEYRING.node_signer
    signature = sign_descriptor(RECORD, nonce, signer)
    original = descriptor_json(RECORD, signer.did)
    values = json_values(URN, base64.b64encode(bytes(32)).decode())
    changed = data.draw(st.just(original) | changed_objects(original, values))
    given_signature = data.draw(st.just(signature) | values | damaged_text(signature))
    asked = data.draw(st.just(nonce) | st.text())
    with suppress(EncryptionError):
        read = parse_descriptor(changed)
        verify_descriptor(read, given_signature, node_did=signer.did, nonce=asked)
        assert read == parse_descriptor(original)._replace(node_did=read.node_did)
        assert signature == given_signature
        assert nonce == asked
    assert is_nonce(asked) is (asked == nonce) or 22 <= len(asked) <= 43


@fuzzed()
@given(POLICY_VALUES | changed_objects(POLICY_JSON, POLICY_VALUES))
def test_fuzz_policies(value: Any) -> None:
    """Policies and facts of any shape are rejected, or parsed and written back unchanged."""
    with suppress(EncryptionError):
        policies_of([value, {ATTESTATION_FACT: value}])
    with suppress(EncryptionError):
        policy = parse_policy(value)
        assert policy == parse_policy(json.loads(encode_policy(policy)))


@fuzzed(1 / 10)
@given(st.data())
def test_fuzz_records(world: Any, data: st.DataObject) -> None:
    """Stored rows of any bytes are parsed or raise RecordError."""
    rows = (encode_network(RECORD), encode_evidence(world.evidence(world.backend)))
    whole = st.sampled_from(rows).flatmap(_with_other_fields)
    drawn = data.draw(st.binary(max_size=200) | deep_packed | damaged_bytes(*rows) | whole)
    for decode in (decode_network, decode_release_record, decode_evidence):
        with suppress(EncryptionError):
            decode(drawn)


@fuzzed(1 / 10)
@given(
    changed_objects(RELEASE_RECORD, POLICY_VALUES).filter(_is_signable)
    | json_values().filter(_is_signable)
)
def test_fuzz_release_records(value: Any) -> None:
    """Release records of any shape are parsed or raise RecordError."""
    with suppress(EncryptionError):
        decode_release_record(json.dumps(value).encode())


def _with_other_fields(row: bytes) -> st.SearchStrategy[bytes]:
    """Return the row with one field of another type or length."""
    fields = msgspec.msgpack.decode(row)
    version, *_ = fields
    if isinstance(fields[1], dict):
        return changed_objects(fields[1], packed_values).map(
            lambda inner: msgspec.msgpack.encode([version, inner])
        )
    places = st.integers(0, len(fields) - 1)
    return st.builds(
        lambda place, value: msgspec.msgpack.encode([*fields[:place], value, *fields[place + 1 :]]),
        places,
        packed_values,
    )
