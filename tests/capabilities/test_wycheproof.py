"""Project Wycheproof's test vectors for signatures and keys, all cases of each file.

A high `s` is rejected although the vectors call it valid (Q25). Only the algorithms of tokens are
implemented, so valid RSA, HMAC and P-521 signatures are rejected. No file has an "acceptable" case;
the counts would show one.
"""

import hashlib
import json

import pytest
from key_types import did_jwk, twin_of
from tests_support import shared_vectors

from capabilities.capability_errors import BadSignature, InvalidJson
from capabilities.issuers import verify_jws
from capabilities.signatures import SECP256K1_ORDER, keccak256, recover_address, verify_ed25519
from capabilities.strict_base64 import decode_url
from capabilities.strict_json import parse_json
from capabilities.verifiers import P256_ORDER, P256Verifier, Secp256k1Verifier


def cases(name):
    groups = json.loads(shared_vectors(f"wycheproof/{name}").read_text())["testGroups"]
    return [(group, case) for group in groups for case in group["tests"]]


@pytest.mark.shared
def test_ed25519(record_property):
    """Valid signatures verify, invalid ones do not."""
    count = 0
    for group, case in cases("ed25519_test.json"):
        key = bytes.fromhex(group["publicKey"]["pk"])
        message, signature = bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"])
        if case["result"] == "valid":
            verify_ed25519(key, message, signature)
        else:
            with pytest.raises(BadSignature):
                verify_ed25519(key, message, signature)
        count += 1
    record_property("cases", count)
    assert count == 151


@pytest.mark.shared
def test_secp256k1_recovery(record_property):
    """A valid low-s signature recovers the key's address, and an invalid signature never does."""
    count = 0
    for group, case in cases("ecdsa_secp256k1_sha256_p1363_test.json"):
        key = bytes.fromhex(group["publicKey"]["uncompressed"])
        digest = hashlib.sha256(bytes.fromhex(case["msg"])).digest()
        signature = bytes.fromhex(case["sig"])
        low = len(signature) == 64 and int.from_bytes(signature[32:], "big") <= SECP256K1_ORDER // 2
        assert (case["result"] == "valid" and low) == (
            keccak256(key[1:])[12:] in recovered(digest, signature)
        ), case
        count += 1
    record_property("cases", count)
    assert count > 200


def recovered(digest, signature):
    """Return the addresses that may have made the signature."""
    addresses = []
    for v in (0, 1, 27, 28):
        try:
            addresses.append(recover_address(digest, signature + bytes([v])))
        except BadSignature:
            continue
    return addresses


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "verifier", "algorithm", "order", "total", "accepted"),
    [
        ("ecdsa_secp256r1_sha256_p1363_test.json", P256Verifier, "ES256", P256_ORDER, 262, 103),
        (
            "ecdsa_secp256k1_sha256_p1363_test.json",
            Secp256k1Verifier,
            "ES256K",
            SECP256K1_ORDER,
            252,
            95,
        ),
    ],
    ids=["ES256", "ES256K"],
)
def test_K7_Q25_ecdsa(name, verifier, algorithm, order, total, accepted, record_property):
    """Valid low-s signatures verify; for valid high-s signatures only their twins do."""
    counts = {True: 0, False: 0}
    for group, case in cases(name):
        key = verifier(bytes.fromhex(group["publicKey"]["uncompressed"]))
        message, signature = bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"])
        s = int.from_bytes(signature[32:], "big")
        low = len(signature) == 64 and s <= order // 2
        assert (case["result"] == "valid" and low) == verifies(
            key, algorithm, message, signature
        ), case
        if case["result"] == "valid":
            low_twin = signature[:32] + min(s, order - s).to_bytes(32, "big")
            key.verify(algorithm, message, low_twin)
        counts[case["result"] == "valid" and low] += 1
    record_property("cases", sum(counts.values()))
    assert counts == {True: accepted, False: total - accepted}


def verifies(key, algorithm, message, signature):
    try:
        key.verify(algorithm, message, signature)
    except BadSignature:
        return False
    return True


def is_signed(jws, jwk):
    """Return whether a JWS is signed by a key, which is used as a did:jwk."""
    signing_input, _, last = jws.rpartition(".")
    header, signature = decode_url(signing_input.partition(".")[0]), decode_url(last)
    if header is None or signature is None or signing_input.count(".") != 1:
        return False
    try:
        algorithm = parse_json(header, max_bytes=10_000).get("alg")
        verify_jws(f"{did_jwk(jwk)}#0", str(algorithm), signing_input.encode(), signature)
    except (BadSignature, InvalidJson):
        return False
    return True


def low(jws):
    """Return a JWS with the low form of a P-256 signature; any other JWS unchanged."""
    signature = decode_url(jws.rpartition(".")[2])
    if (
        signature is None
        or len(signature) != 64
        or int.from_bytes(signature[32:], "big") <= P256_ORDER // 2
    ):
        return jws
    return jws if int.from_bytes(signature[32:], "big") > P256_ORDER else twin_of(jws, P256_ORDER)


@pytest.mark.shared
def test_Q33_K8_K9_json_web_signatures(record_property):
    """Exactly the valid ES256 signatures verify, after their `s` is made low."""
    count, as_given, lowered = 0, [], []
    for group, case in cases("json_web_signature_test.json"):
        key = group.get("public") or group["private"]
        if is_signed(case["jws"], key):
            as_given.append(case["tcId"])
        if is_signed(low(case["jws"]), key):
            assert case["result"] == "valid", case
            assert key["kty"] == "EC", case
            assert key["crv"] == "P-256", case
            lowered.append(case["tcId"])
        count += 1
    record_property("cases", count)
    assert count == 401
    assert as_given == [378]
    assert lowered == [18, 378]


@pytest.mark.shared
def test_K3_K8_json_web_keys(record_property):
    """Keys with a wrong use, algorithm, curve, type or point verify nothing."""
    count = 0
    for group, case in cases("json_web_key_test.json"):
        for key in (group.get("public") or group["private"])["keys"]:
            assert not is_signed(low(case["jws"]), key), case
        count += 1
    record_property("cases", count)
    assert count == 26


@pytest.mark.shared
def test_K3_json_web_key_without_its_fault():
    """A JSON Web Key whose fault was removed verifies the same signature."""
    faults = {
        "wrong_algorithm",
        "invalid_algorithm",
        "invalid_use",
        "invalid_point",
        "wrong_curve",
        "wrong_kty",
    }
    mended = {"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig"}
    seen = set()
    for group, case in cases("json_web_key_test.json"):
        if group["comment"] in faults:
            (key,) = group["public"]["keys"]
            assert is_signed(low(case["jws"]), key | mended | {"y": key["y"].replace("gnw", "gmw")})
            seen.add(group["comment"])
    assert seen == faults
