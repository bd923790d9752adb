"""From an event log to claims about the application, tied to a quote's registers.

The system writes these entries into register 3 before it starts the application:

| entry | payload |
|---|---|
| system-preparing | empty |
| app-id | 20 bytes |
| compose-hash | 32 bytes |
| init-script-hash, gpu-policy-hash | 32 bytes; any number of the first, at most one of the second |
| instance-id | 20 bytes or empty |
| boot-mr-done | empty |
| os-image-hash | 32 bytes; optional |
| key-provider | JSON {"name", "id"} |
| storage-fs | text; optional |
| system-ready | empty |

What follows `system-ready` was written by the application, which may repeat any of these names: it extends the
register like the rest and proves nothing.

Example:
    claims = verify_event_log(parse_event_log(text), verified.quote.report)
    check_key_provider(claims.key_provider, accepted)

Source: spec/attestation.md AT20 to AT22, AT28.
"""

import hashlib
import hmac
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Final, get_args

import sha3

from capabilities.errors import InvalidJson
from capabilities.strict_json import Json, parse_json
from encryption_network.canonical_json import canonical_bytes

from .application import (
    APP_ID_BYTES,
    COMPOSE_HASH_BYTES,
    INSTANCE_ID_BYTES,
    EventLogClaims,
    KeyProvider,
    KeyProviderName,
)
from .errors import QuoteRefused
from .event_log import Event, EventLog, replay, runtime_entries
from .quote import TdReport

# --- MRCONFIGID ------------------------------------------------------------------------------------------------------
# What the host stated about the application when it created the trust domain.
# It measures nothing, but it is part of the quote, so where it is stated it has to match the event log:
#
# | byte 0 | bytes 1 to 32, then 15 zero bytes |
# |---|---|
# | 0 | all 48 bytes are zero: the host stated nothing |
# | 1 | compose hash |
# | 2 | Keccak-256( compose hash ‖ app id ‖ kind of key provider ‖ its id ); kinds: none 0, local-sgx 1, kms 2, tpm 3 |
# | 3 | SHA-256( "dstack-mr-config-v3:" ‖ 0 ‖ a JSON document ) |
#
# The document of version 3 is canonical JSON with `compose_hash`, `key_provider` (none, local, kms, tpm) and `version`,
# and, where the host chose to pin them, `app_id`, `gpu_policy_hash`, `init_script_hashes`, `instance_id` and
# `key_provider_id`. It is not sent with the log; since all its values are in the log, the few documents that are
# possible are tried.
#
# Source: the dstack guest agent's configuration ids, versions 1 to 3; spec/attestation.md AT28.

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


SYSTEM_READY: Final = "system-ready"
BOOT_DONE: Final = "boot-mr-done"
SEQUENCE: Final = (
    "system-preparing",
    "app-id",
    "compose-hash",
    "instance-id",
    BOOT_DONE,
    "os-image-hash",
    "key-provider",
    "storage-fs",
    SYSTEM_READY,
)
_OPTIONAL: Final = frozenset({"os-image-hash", "storage-fs"})
_BEFORE_BOOT_DONE: Final = frozenset({"init-script-hash", "gpu-policy-hash"})
_MAX_KEY_PROVIDER_BYTES: Final = 4096
_MAX_INIT_SCRIPTS: Final = 64


def verify_event_log(log: EventLog, report: TdReport) -> EventLogClaims:
    """Verify that a log matches a report's registers, and read it.

    Args:
        log: parsed; untrusted.
        report: of the quote; `verify_quote` decides whether the quote itself is valid.
    Returns:
        The claims; they are true if the quote is valid and its other registers are those of a known image.
    Raises:
        QuoteRefused: `event-log`, an entry whose digest cannot be recomputed, a replay with another result, system
            entries that are missing, repeated, out of order or of another size, or an MRCONFIGID that states something
            else.
    Does not check:
        Whether the application or its key provider is approved: see `check_key_provider` and policies.
    """
    # 1. Every entry of register 3 has a digest that follows from its contents; the same entries are replayed and read.
    entries = runtime_entries(log)
    # 2. Together they yield the register of the quote.
    if not hmac.compare_digest(replay(entries), report.rtmr3):
        raise QuoteRefused("event-log", "the replay gives another RTMR3 than the quote's")
    # 3. The system wrote what a system writes, before the application ran.
    claims = _read_claims(_system_entries(entries))
    # 4. The host stated the same application, where it stated one.
    check_mr_config_id(report.mr_config_id, claims)
    return claims


def _system_entries(entries: Sequence[Event]) -> tuple[Event, ...]:
    """Return what was written up to the first `system-ready`; its known names occur once each, in order (AT21)."""
    names = [event.name for event in entries]
    if SYSTEM_READY not in names:
        raise QuoteRefused("event-log", "the system was not ready yet")
    system = tuple(entries[: names.index(SYSTEM_READY) + 1])
    found = [event.name for event in system if event.name in SEQUENCE]
    # AT21
    if found != [name for name in SEQUENCE if name not in _OPTIONAL or name in found]:
        raise QuoteRefused("event-log", "system entries are missing, repeated or out of order")
    booted = [event.name for event in system].index(BOOT_DONE)
    if any(event.name in _BEFORE_BOOT_DONE for event in system[booted:]):
        raise QuoteRefused("event-log", "a measurement of the boot stands after its end")
    return system


def _read_claims(system: Sequence[Event]) -> EventLogClaims:
    for mark in ("system-preparing", BOOT_DONE, SYSTEM_READY):
        _payload(system, mark, sizes=(0,))
    scripts = _payloads(system, "init-script-hash")
    gpu_policies = _payloads(system, "gpu-policy-hash")
    if len(scripts) > _MAX_INIT_SCRIPTS or len(gpu_policies) > 1:
        raise QuoteRefused("event-log", "too many measurements of one kind")
    if any(len(digest) != COMPOSE_HASH_BYTES for digest in (*scripts, *gpu_policies)):
        raise QuoteRefused("event-log", "a measurement of the boot has another size")
    return EventLogClaims(
        compose_hash=_payload(system, "compose-hash", sizes=(COMPOSE_HASH_BYTES,)),
        app_id=_payload(system, "app-id", sizes=(APP_ID_BYTES,)),
        instance_id=_payload(system, "instance-id", sizes=(0, INSTANCE_ID_BYTES)),
        key_provider=_key_provider(_payloads(system, "key-provider")[0]),
        os_image_hash=_os_image_hash(system),
        gpu_policy_hash=gpu_policies[0] if gpu_policies else None,
        init_script_hashes=scripts,
    )


def _payloads(system: Sequence[Event], name: str) -> tuple[bytes, ...]:
    return tuple(event.payload for event in system if event.name == name)


def _payload(system: Sequence[Event], name: str, *, sizes: tuple[int, ...]) -> bytes:
    payload = _payloads(system, name)[0]
    if len(payload) not in sizes:
        raise QuoteRefused("event-log", f"{name} of {len(payload)} bytes")
    return payload


def _os_image_hash(system: Sequence[Event]) -> bytes | None:
    if not _payloads(system, "os-image-hash"):
        return None
    return _payload(system, "os-image-hash", sizes=(COMPOSE_HASH_BYTES,))


def _key_provider(payload: bytes) -> KeyProvider:
    try:
        stated = parse_json(payload, max_bytes=_MAX_KEY_PROVIDER_BYTES)
    except InvalidJson as exc:
        raise QuoteRefused("event-log", "key-provider is no JSON object") from exc
    name, id_text = stated.get("name"), stated.get("id")
    if stated.keys() != {"name", "id"} or not isinstance(id_text, str):
        raise QuoteRefused("event-log", "key-provider has other members than name and id")
    try:
        provider_id = bytes.fromhex(id_text)
    except ValueError as exc:
        raise QuoteRefused("event-log", "key-provider's id is no hex") from exc
    if 2 * len(provider_id) != len(id_text):  # spaces between the digits
        raise QuoteRefused("event-log", "key-provider's id is no plain hex")
    return KeyProvider(_provider_name(name), provider_id)


def _provider_name(name: object) -> KeyProviderName:
    known: KeyProviderName
    for known in get_args(KeyProviderName):
        if name == known:
            return known
    raise QuoteRefused("event-log", f"unknown key provider {str(name)[:40]!r}")
