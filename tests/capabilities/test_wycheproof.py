"""Project Wycheproof's signature vectors, each file to its last case."""

import json

import pytest
from tests_support import shared_vectors

from capabilities.errors import BadSignature
from capabilities.signatures import keccak256, recover_address, verify_ed25519

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


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
    """With one of the two recovery bytes a valid low-s signature gives the key's address; an invalid one never does."""
    import hashlib

    count = 0
    for group, case in cases("ecdsa_secp256k1_sha256_p1363_test.json"):
        key = bytes.fromhex(group["publicKey"]["uncompressed"])
        digest = hashlib.sha256(bytes.fromhex(case["msg"])).digest()
        signature = bytes.fromhex(case["sig"])
        low = len(signature) == 64 and int.from_bytes(signature[32:], "big") <= ORDER // 2
        assert (case["result"] == "valid" and low) == (keccak256(key[1:])[12:] in recovered(digest, signature)), case
        count += 1
    record_property("cases", count)
    assert count > 200


def recovered(digest, signature):
    """Return the addresses the signature may come from."""
    addresses = []
    for v in (0, 1, 27, 28):
        try:
            addresses.append(recover_address(digest, signature + bytes([v])))
        except BadSignature:
            continue
    return addresses
