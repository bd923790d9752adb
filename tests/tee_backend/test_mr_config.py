"""The three versions of MRCONFIGID, compared with a log."""

import hashlib
import json

import pytest
import sha3

from tee_backend.attestation.attestation_errors import QuoteRefused
from tee_backend.attestation.event_log_claims import EventLogClaims, KeyProvider, check_mr_config_id

CLAIMS = EventLogClaims(
    compose_hash=b"\x22" * 32,
    app_id=b"\x11" * 20,
    instance_id=b"\x44" * 20,
    key_provider=KeyProvider("kms", b"\x33" * 32),
    gpu_policy_hash=b"\x55" * 32,
    init_script_hashes=(b"\xaa" * 32, b"\xbb" * 32),
)
WHOLE = {
    "app_id": "11" * 20,
    "compose_hash": "22" * 32,
    "gpu_policy_hash": "55" * 32,
    "init_script_hashes": ["aa" * 32, "bb" * 32],
    "instance_id": "44" * 20,
    "key_provider": "kms",
    "key_provider_id": "33" * 32,
    "version": 3,
}


def stated(version: int, digest: bytes) -> bytes:
    """Return an MRCONFIGID."""
    return bytes([version]) + digest + bytes(15)


def of_document(document: dict[str, object]) -> bytes:
    """Return the MRCONFIGID of a document."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    return stated(3, hashlib.sha256(b"dstack-mr-config-v3:\x00" + text).digest())


def of_instance(kind: int, provider_id: bytes = b"\x33" * 32) -> bytes:
    """Return the MRCONFIGID over compose hash, app id and key provider."""
    fields = b"\x22" * 32 + b"\x11" * 20 + bytes([kind]) + provider_id
    return stated(2, sha3.keccak_256(fields).digest())


@pytest.mark.parametrize(
    "found",
    [
        bytes(48),
        stated(1, CLAIMS.compose_hash),
        of_instance(2),
        of_document(WHOLE),
        of_document({name: WHOLE[name] for name in ("compose_hash", "key_provider", "version")}),
        of_document({name: value for name, value in WHOLE.items() if name != "instance_id"}),
        of_document(
            {
                name: value
                for name, value in WHOLE.items()
                if name not in ("app_id", "init_script_hashes")
            }
        ),
    ],
    ids=[
        "nothing",
        "version 1",
        "version 2",
        "all members",
        "needed members",
        "one less",
        "two less",
    ],
)
def test_fits(found: bytes) -> None:
    """Each version matches its log, and version 3 with any choice of its optional members
    (AT28)."""
    check_mr_config_id(found, CLAIMS)


@pytest.mark.parametrize(
    "found",
    [
        stated(1, b"\x23" * 32),
        stated(1, CLAIMS.compose_hash)[:-1] + b"\x01",
        of_instance(1),
        of_instance(2, b""),
        of_document({**WHOLE, "app_id": "12" * 20}),
        of_document({**WHOLE, "key_provider": "local"}),
        of_document({**WHOLE, "init_script_hashes": ["bb" * 32, "aa" * 32]}),
        of_document({**WHOLE, "more": 1}),
        stated(4, CLAIMS.compose_hash),
        stated(0, CLAIMS.compose_hash),
        b"\xff" * 48,
    ],
)
def test_does_not_fit(found: bytes) -> None:
    """Another application, another encoding and another version are refused (AT28)."""
    with pytest.raises(QuoteRefused, match=r"^event-log$"):
        check_mr_config_id(found, CLAIMS)


def test_kinds_of_key_providers() -> None:
    """In version 2, the four kinds of provider have different numbers."""
    for name, kind in (("none", 0), ("local-sgx", 1), ("kms", 2), ("tpm", 3)):
        claims = CLAIMS._replace(key_provider=KeyProvider(name, b"\x33" * 32))  # type: ignore[arg-type]  # by name
        check_mr_config_id(of_instance(kind), claims)
