"""MRCONFIGID: what the host stated about the application when it created the trust domain.

It measures nothing, but it is part of the quote, so where it is stated it has to match the event log:

| byte 0 | bytes 1 to 32, then 15 zero bytes |
|---|---|
| 0 | all 48 bytes are zero: the host stated nothing |
| 1 | compose hash |
| 2 | Keccak-256( compose hash ‖ app id ‖ kind of key provider ‖ its id ); kinds: none 0, local-sgx 1, kms 2, tpm 3 |
| 3 | SHA-256( "dstack-mr-config-v3:" ‖ 0 ‖ a JSON document ) |

The document of version 3 is canonical JSON with `compose_hash`, `key_provider` (none, local, kms, tpm) and `version`,
and, where the host chose to pin them, `app_id`, `gpu_policy_hash`, `init_script_hashes`, `instance_id` and
`key_provider_id`. It is not sent with the log; since all its values are in the log, the few documents that are
possible are tried.

Source: the dstack guest agent's configuration ids, versions 1 to 3; spec/attestation.md AT28.
"""

import hashlib
from collections.abc import Iterator
from itertools import combinations
from typing import Final

import sha3

from capabilities.strict_json import Json
from encryption_network.canonical_json import canonical_bytes

from .application import EventLogClaims, KeyProviderName
from .errors import QuoteRefused

MR_CONFIG_ID_BYTES: Final = 48

_KIND_BYTES: Final[dict[KeyProviderName, int]] = {"none": 0, "local-sgx": 1, "kms": 2, "tpm": 3}
_KIND_NAMES: Final[dict[KeyProviderName, str]] = {"none": "none", "local-sgx": "local", "kms": "kms", "tpm": "tpm"}
_DOCUMENT_DOMAIN: Final = b"dstack-mr-config-v3:\x00"


def check_mr_config_id(mr_config_id: bytes, claims: EventLogClaims) -> None:
    """Compare what the host stated with the log.

    Args:
        mr_config_id: 48 bytes of a quote.
        claims: read from the log that fits the quote.
    Raises:
        QuoteRefused: `event-log`, the host stated another application, or something in an unknown form.
    """
    # AT28
    if not any(mr_config_id):
        return
    if mr_config_id not in _possible_ids(mr_config_id[0], claims):
        raise QuoteRefused("event-log", f"MRCONFIGID of version {mr_config_id[0]} states another application")


def _possible_ids(version: int, claims: EventLogClaims) -> Iterator[bytes]:
    if version == 1:
        yield _padded(1, claims.compose_hash)
    elif version == 2:
        yield _padded(2, _instance_digest(claims))
    elif version == 3:
        for document in _possible_documents(claims):
            yield _padded(3, hashlib.sha256(_DOCUMENT_DOMAIN + document).digest())


def _padded(version: int, digest: bytes) -> bytes:
    return (bytes([version]) + digest).ljust(MR_CONFIG_ID_BYTES, b"\x00")


def _instance_digest(claims: EventLogClaims) -> bytes:
    provider = claims.key_provider
    stated = claims.compose_hash + claims.app_id + bytes([_KIND_BYTES[provider.name]]) + provider.id
    digest: bytes = sha3.keccak_256(stated).digest()
    return digest


def _possible_documents(claims: EventLogClaims) -> Iterator[bytes]:
    """Yield the document with every choice of optional members; at most 32."""
    always: dict[str, Json] = {
        "compose_hash": claims.compose_hash.hex(),
        "key_provider": _KIND_NAMES[claims.key_provider.name],
        "version": 3,
    }
    optional = _optional_members(claims)
    for size in range(len(optional), -1, -1):
        for chosen in combinations(optional, size):
            yield canonical_bytes({**always, **dict(chosen)})


def _optional_members(claims: EventLogClaims) -> list[tuple[str, Json]]:
    values = {
        "app_id": claims.app_id,
        "gpu_policy_hash": claims.gpu_policy_hash or b"",
        "instance_id": claims.instance_id,
        "key_provider_id": claims.key_provider.id,
    }
    members: list[tuple[str, Json]] = [(name, value.hex()) for name, value in values.items() if value]
    return [*members, ("init_script_hashes", [digest.hex() for digest in claims.init_script_hashes])]
