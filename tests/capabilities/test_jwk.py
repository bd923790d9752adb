"""Rules K3, K4 and K8: JSON Web Keys."""

from typing import Any

import pytest
from key_types import ED25519, P256, SECP256K1, b64, name_of

from capabilities.capability_errors import BadSignature
from capabilities.issuers import key_of_jwk

KEYS: list[Any] = [ED25519, P256, SECP256K1]


def refused(jwk):
    with pytest.raises(BadSignature):
        key_of_jwk(jwk)


@pytest.mark.parametrize("signer", KEYS, ids=name_of)
def test_K3_the_three_types(signer):
    """A key of each type is parsed, with or without purpose, name and unknown members."""
    for more in (
        {},
        {"alg": None, "use": None, "key_ops": None, "d": None},
        {"use": "sig", "key_ops": ["verify"], "kid": "k", "x5c": [1]},
        {"key_ops": ["sign", "verify"], "ext": True},
    ):
        key = key_of_jwk(signer.jwk | more)
        assert signer.public_key == key.verifier.public_key
        assert key.algorithm is None
        key.verifier.verify(signer.algorithm, b"m", signer.sign(b"m"))


@pytest.mark.parametrize("signer", KEYS, ids=name_of)
def test_K8_algorithm_is_kept(signer):
    """The parsed key includes the algorithm that it allows."""
    assert "ES384" == key_of_jwk(signer.jwk | {"alg": "ES384"}).algorithm


@pytest.mark.parametrize(
    "change",
    [
        {"kty": None},
        {"kty": "RSA"},
        {"kty": "oct"},
        {"kty": ["OKP"]},
        {"crv": None},
        {"crv": "P-384"},
        {"crv": "X25519"},
        {"crv": "ed25519"},
        {"crv": ["P-256"]},
        {"x": None},
        {"x": 1},
        {"x": ""},
        {"x": b64(bytes(31))},
        {"x": b64(bytes(33))},
        {"x": b64(b"\0" * 32)[:-1] + "B"},
        {"x": "=" * 43},
        {"x": "+" * 43},
        {"x": "\ud800" * 43},
        {"use": "enc"},
        {"use": "SIG"},
        {"use": ["sig"]},
        {"key_ops": []},
        {"key_ops": ["sign"]},
        {"key_ops": "verify"},
        {"key_ops": {"verify": 1}},
        {"alg": 1},
        {"alg": ["EdDSA"]},
        {"d": b64(bytes(32))},
        {"d": ""},
    ],
    ids=lambda change: str(change)[:40],
)
def test_K3_K9_what_is_no_key(change):
    """Another type or purpose, a malformed coordinate or a private half is rejected."""
    for signer in KEYS:
        refused(signer.jwk | change)


@pytest.mark.parametrize("signer", [P256, SECP256K1], ids=name_of)
def test_K3_points_lie_on_their_curve(signer):
    """A point off its curve or with one coordinate only is rejected."""
    jwk = signer.jwk
    other = SECP256K1.jwk if signer is P256 else P256.jwk
    refused(jwk | {"y": jwk["x"]})
    refused(jwk | {"crv": other["crv"]})
    refused({name: value for name, value in jwk.items() if name != "y"})
    refused(jwk | {"x": b64(bytes(32)), "y": b64(bytes(32))})
    refused(jwk | {"x": b64(b"\xff" * 32)})
    # the same 64 bytes, cut elsewhere
    refused(jwk | {"x": b64(signer.point[1:32]), "y": b64(signer.point[32:])})


def test_K3_curves_belong_to_their_type():
    """A curve under the wrong key type is rejected."""
    refused(ED25519.jwk | {"kty": "EC", "y": ED25519.jwk["x"]})
    refused(P256.jwk | {"kty": "OKP"})
