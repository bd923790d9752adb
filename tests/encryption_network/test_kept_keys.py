"""Tests of the keys that a node keeps when its root secret is replaced."""

import msgspec
import pytest
from msgspec.structs import replace
from tests_support import CountingEntropy

from capabilities.resources import network_id, parse_space_id
from capabilities.signatures import Ed25519Signer
from encryption_network.keyring import (
    ATTESTATION_CHALLENGE,
    KEPT_KEYS_SEAL,
    KEPT_WITH_IDENTITY,
    MAX_KEPT_KEYS_BYTES,
    NETWORK_SEAL,
    OIDC_EXCHANGE,
    REQUEST_LOG,
    SMS_CHALLENGES,
    KeptKeys,
    Keyring,
)
from encryption_network.keywrap import seal_blob
from encryption_network.network_errors import RecordError, RequestError
from encryption_network.networks import (
    NetworkRecord,
    create_network,
    is_sealed_by,
    private_key,
    resealed,
)

FORMER, NEW, THIRD = (Keyring(bytes([at]) * 32) for at in (7, 8, 9))
SPACE = parse_space_id(f"tinycloud:{Ed25519Signer(bytes(32)).did[4:]}:default")


def kept(*, keeps_identity: bool = True) -> Keyring:
    sealed = NEW.seal_kept_keys(FORMER, CountingEntropy(), keeps_identity=keeps_identity)
    return NEW.with_kept_keys(sealed)


def test_RK3_what_others_know_is_kept() -> None:
    """Identity, exchange, invitations and the service for iExec keep their keys, and nothing
    else."""
    after = kept()
    assert after.node_did == FORMER.node_did
    assert after.exchange_signer.did == FORMER.exchange_signer.did
    assert after.sms_signer.did == FORMER.sms_signer.did
    assert after.invitation_public_key == FORMER.invitation_public_key
    assert after.derive(SMS_CHALLENGES) == FORMER.derive(SMS_CHALLENGES)
    for context in (ATTESTATION_CHALLENGE, REQUEST_LOG, NETWORK_SEAL, "sealspace/kv/list-cursor"):
        assert after.derive(context) == NEW.derive(context) != FORMER.derive(context)
    assert after.space_did(SPACE) == NEW.space_did(SPACE) != FORMER.space_did(SPACE)
    assert after.check_value == NEW.check_value != FORMER.check_value


def test_RK3_kept_again_at_the_next_replacement() -> None:
    """The keys of the first secret are kept through several replacements."""
    sealed = THIRD.seal_kept_keys(kept(), CountingEntropy(), keeps_identity=True)
    after = THIRD.with_kept_keys(sealed)
    assert after.node_did == FORMER.node_did
    assert after.derive(OIDC_EXCHANGE) == FORMER.derive(OIDC_EXCHANGE)
    with pytest.raises(RecordError):
        NEW.with_kept_keys(sealed)


def test_RK9_a_new_identity_keeps_one_key() -> None:
    """With a new identity only the key of the used challenges stays."""
    after = kept(keeps_identity=False)
    assert after.node_did == NEW.node_did
    assert after.exchange_signer.did == NEW.exchange_signer.did
    assert after.derive(SMS_CHALLENGES) == FORMER.derive(SMS_CHALLENGES)


def sealed_by_new(keys: object, version: int = 1) -> bytes:
    encoded = msgspec.msgpack.encode([version, keys])
    return seal_blob(NEW.derive(KEPT_KEYS_SEAL), encoded, CountingEntropy())


def with_other_end(data: bytes) -> bytes:
    """Return bytes whose last one has another value."""
    return data[:-1] + bytes([data[-1] ^ 1])


GOOD = {context: FORMER.derive(context) for context in KEPT_WITH_IDENTITY}


@pytest.mark.parametrize(
    "sealed",
    [
        b"",
        bytes(MAX_KEPT_KEYS_BYTES + 1),
        with_other_end(sealed_by_new(GOOD)),
        b"\2" + sealed_by_new(GOOD)[1:],
        sealed_by_new(GOOD, version=2),
        sealed_by_new({}),
        sealed_by_new(dict(list(GOOD.items())[1:])),
        sealed_by_new(GOOD | {NETWORK_SEAL: bytes(32)}),
        sealed_by_new(GOOD | {OIDC_EXCHANGE: bytes(31)}),
        sealed_by_new(GOOD | {OIDC_EXCHANGE: "x" * 32}),
        sealed_by_new([1, 2]),
        seal_blob(NEW.derive(NETWORK_SEAL), msgspec.msgpack.encode([1, GOOD]), CountingEntropy()),
        seal_blob(
            FORMER.derive(KEPT_KEYS_SEAL), msgspec.msgpack.encode([1, GOOD]), CountingEntropy()
        ),
    ],
)
def test_RK3_other_records_are_refused(sealed: bytes) -> None:
    """A record that is altered, of another key, or of other keys than may be kept is refused."""
    with pytest.raises(RecordError):
        NEW.with_kept_keys(sealed)


def test_RK3_the_record_has_no_root_secret() -> None:
    """The record has the derived keys only."""
    assert NEW.with_kept_keys(sealed_by_new(GOOD)).node_did == FORMER.node_did
    plain = msgspec.msgpack.encode(KeptKeys(version=1, keys=GOOD))
    assert bytes([7]) * 32 not in plain
    assert FORMER.derive(NETWORK_SEAL) not in plain


# --- networks -------------------------------------------------------------------------------------

NETWORK = create_network(
    network_id(Ed25519Signer(bytes(32)).did, "default"),
    now=1e9,
    keyring=FORMER,
    entropy=CountingEntropy(),
)


def test_RK5_only_the_seal_changes() -> None:
    """A network that is sealed again has the same keys, policy and times."""
    again = resealed(NETWORK, former=FORMER, new=NEW, entropy=CountingEntropy(b"again"))
    assert again is not None
    assert private_key(again, NEW) == private_key(NETWORK, FORMER)
    assert not is_sealed_by(again, FORMER)
    assert replace(again, sealed_private_key=NETWORK.sealed_private_key) == NETWORK
    assert resealed(again, former=FORMER, new=NEW, entropy=CountingEntropy()) is None


@pytest.mark.parametrize(
    "damaged",
    [
        replace(NETWORK, public_key=bytes(32)),
        replace(NETWORK, sealed_private_key=with_other_end(NETWORK.sealed_private_key)),
    ],
)
def test_RK5_a_damaged_network_is_not_sealed_again(damaged: NetworkRecord) -> None:
    """A key that does not open, or that does not match the public key, is not sealed again."""
    with pytest.raises(RequestError):
        resealed(damaged, former=FORMER, new=NEW, entropy=CountingEntropy())
