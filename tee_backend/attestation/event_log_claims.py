"""Verification of event-log entries about an application.

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

Entries after `system-ready` were written by the application, which may repeat any of these names.
They extend the register like the others and prove nothing.

Example:
    claims = verify_event_log(parse_event_log(text), verified.quote.report)
    check_key_provider(claims.key_provider, accepted)

Source: spec/attestation.md AT20 to AT22, AT28.
"""

import hashlib
import hmac
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from itertools import combinations
from typing import Annotated, Literal, NamedTuple, get_args

import sha3
from msgspec import Meta

from capabilities.capability_errors import InvalidJson
from capabilities.strict_json import Json, JsonObject, StrictStruct, parse_json, shaped
from encryption_network.canonical_json import canonical_bytes
from encryption_network.key_providers import is_key_source_accepted

from .attestation_errors import QuoteRefused
from .event_log import Event, EventLog, replay, runtime_entries
from .quote import TdReport

KeyProviderName = Literal["none", "local-sgx", "kms", "tpm"]

COMPOSE_HASH_BYTES = 32
APP_ID_BYTES = 20
INSTANCE_ID_BYTES = 20


class KeyProvider(NamedTuple):
    """The source of an application's keys, such as a key service or a TPM."""

    name: KeyProviderName
    id: bytes

    @property
    def text(self) -> str:
        """The key provider as `name` or `name:id`.

        Evidence and policies use this form.
        """
        return f"{self.name}:{self.id.hex()}" if self.id else self.name


class EventLogClaims(NamedTuple):
    """The hashes, ids and key provider of an application, from its event log.

    The system logged these facts before it started the application. They are true of the trust
    domain whose quote matches the log, but only if MRTD and RTMR0 to RTMR2 are those of an image
    that is known to write the truth (AT22).
    """

    compose_hash: bytes
    app_id: bytes
    instance_id: bytes
    key_provider: KeyProvider
    gpu_policy_hash: bytes | None
    init_script_hashes: tuple[bytes, ...]


def check_key_provider(provider: KeyProvider | None, accepted: Collection[str]) -> None:
    """Check an application's key provider against the accepted providers.

    Args:
        provider: the key provider that a verified log names; None: no log names one.
        accepted: providers that the operator or owner accepts, entries of
            `encryption_network.key_providers`.
    Raises:
        QuoteRefused: `key-provider`, another kind or id than accepted, no provider at all, or no
            log although a default provider is not accepted (AT29).
    """
    # an application without a key provider is refused, whatever the list accepts (AT29)
    if provider is not None and provider.name == "none":
        raise QuoteRefused("key-provider", "the application has no key provider")
    if is_key_source_accepted(None if provider is None else provider.text, accepted):
        return
    if provider is None:
        raise QuoteRefused(
            "key-provider", "there is no event log that states the application's key provider"
        )
    raise QuoteRefused("key-provider", f"the key provider {provider.text[:80]!r} is not accepted")


# --- MRCONFIGID -----------------------------------------------------------------------------------
# An id that the host states about the application when it creates the trust domain. It is not a
# measurement, but it is part of the quote, so if it is set it has to match the event log.
#
# byte 0   bytes 1 to 32, then 15 zero bytes
# 0        all 48 bytes are zero: the host stated nothing
# 1        compose hash
# 2        Keccak-256( compose hash ‖ app id ‖ kind of key provider ‖ its id );
#          kinds: none 0, local-sgx 1, kms 2, tpm 3
# 3        SHA-256( "dstack-mr-config-v3:" ‖ 0 ‖ a JSON document )
#
# The document of version 3 is canonical JSON with `compose_hash`, `key_provider` (none, local, kms,
# tpm) and `version`. A host may add `app_id`, `gpu_policy_hash`, `init_script_hashes`,
# `instance_id` and `key_provider_id`. The document is not sent with the log. Since all its values
# are in the log, every possible document is tried.
#
# Source: the dstack guest agent's configuration ids, versions 1 to 3; spec/attestation.md AT28.

_DOCUMENT_DOMAIN = b"dstack-mr-config-v3:\x00"


def check_mr_config_id(mr_config_id: bytes, claims: EventLogClaims) -> None:
    """Check that the MRCONFIGID in a quote matches the event log (AT28).

    The host sets MRCONFIGID.

    Args:
        mr_config_id: 48 bytes of a quote.
        claims: read from the log that matches the quote.
    Raises:
        QuoteRefused: `event-log`, the host stated another application, or used an unknown form.
    """
    if not any(mr_config_id):  # the host stated no application
        return
    version = mr_config_id[0]
    possible = []
    if version == 1:
        possible = [claims.compose_hash]
    elif version == 2:
        provider = claims.key_provider
        # The names are declared in the order of their numbers.
        kind = get_args(KeyProviderName).index(provider.name)
        hashed = claims.compose_hash + claims.app_id + bytes([kind]) + provider.id
        possible = [sha3.keccak_256(hashed).digest()]
    elif version == 3:
        possible = [
            hashlib.sha256(_DOCUMENT_DOMAIN + document).digest()
            for document in _possible_documents(claims)
        ]
    # An id without 15 zero bytes at its end stays longer than any possible one, so it is refused.
    if mr_config_id[1:].removesuffix(bytes(15)) not in possible:
        raise QuoteRefused(
            "event-log", f"MRCONFIGID (version {version}) is for another application"
        )


def _possible_documents(claims: EventLogClaims) -> Iterator[bytes]:
    """Yield all documents that may have the hash in MRCONFIGID.

    MRCONFIGID has version 3. There are at most 32 such documents.
    """
    required: JsonObject = {
        "compose_hash": claims.compose_hash.hex(),
        "key_provider": claims.key_provider.name.removesuffix("-sgx"),
        "version": 3,
    }
    values = {
        "app_id": claims.app_id,
        "gpu_policy_hash": claims.gpu_policy_hash or b"",
        "instance_id": claims.instance_id,
        "key_provider_id": claims.key_provider.id,
    }
    optional: list[tuple[str, Json]] = [
        (name, value.hex()) for name, value in values.items() if value
    ]
    optional.append(("init_script_hashes", [digest.hex() for digest in claims.init_script_hashes]))
    for size in range(len(optional), -1, -1):
        for chosen in combinations(optional, size):
            yield canonical_bytes({**required, **dict(chosen)})


SYSTEM_READY = "system-ready"
BOOT_DONE = "boot-mr-done"
SEQUENCE = (
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
_OPTIONAL = frozenset({"os-image-hash", "storage-fs"})
_BEFORE_BOOT_DONE = frozenset({"init-script-hash", "gpu-policy-hash"})
_SIZES = {
    "system-preparing": (0,),
    "app-id": (APP_ID_BYTES,),
    "compose-hash": (COMPOSE_HASH_BYTES,),
    "init-script-hash": (32,),
    "gpu-policy-hash": (32,),
    "instance-id": (0, INSTANCE_ID_BYTES),
    BOOT_DONE: (0,),
    "os-image-hash": (32,),
    SYSTEM_READY: (0,),
}
_MAX_KEY_PROVIDER_BYTES = 4096
_MAX_INIT_SCRIPTS = 64


def verify_event_log(log: EventLog, report: TdReport) -> EventLogClaims:
    """Verify that an event log matches a quote.

    Args:
        log: parsed; untrusted.
        report: report of the quote; `examine` decides whether the quote itself is valid.
    Returns:
        The claims. They are true if the quote is valid and its other registers are those of a known
        image.
    Raises:
        QuoteRefused: `event-log`, a digest that cannot be recomputed; a replay with another result;
            system entries that are missing, repeated, out of order or of the wrong size; or a
            different MRCONFIGID.
    Does not check:
        Whether the application or its key provider is approved: see `check_key_provider` and
            policies.
    """
    # 1. The digests of all entries of register 3 are recomputed. The same entries are replayed and
    # read below, so that a log cannot show other entries than it proves.
    entries = runtime_entries(log)
    # 2. The replay yields the register of the quote.
    if not hmac.compare_digest(replay(entries), report.rtmr3):
        raise QuoteRefused("event-log", "the replayed RTMR3 differs from the quote's")
    # 3. The system's entries are complete, and precede those of the application.
    claims = _read_claims(_system_entries(entries))
    # 4. If the host stated an application, it is the same.
    check_mr_config_id(report.mr_config_id, claims)
    return claims


def _system_entries(entries: Sequence[Event]) -> tuple[Event, ...]:
    """Return a log's entries up to the first `system-ready` entry (AT21).

    Each required entry must occur once, in the required order.
    """
    names = [event.name for event in entries]
    if SYSTEM_READY not in names:
        raise QuoteRefused("event-log", "the event log has no system-ready entry")
    system = tuple(entries[: names.index(SYSTEM_READY) + 1])
    listed_names = [event.name for event in system if event.name in SEQUENCE]
    # An optional entry is expected, in its place, if the log has it.
    expected_names = [name for name in SEQUENCE if name not in _OPTIONAL or name in listed_names]
    # an application may repeat any entry, but only after system-ready (AT21)
    if listed_names != expected_names:
        raise QuoteRefused(
            "event-log",
            "in the event log, entries up to system-ready are missing, repeated or out of order",
        )
    boot_end = [event.name for event in system].index(BOOT_DONE)
    if any(event.name in _BEFORE_BOOT_DONE for event in system[boot_end:]):
        raise QuoteRefused(
            "event-log", "the event log contains a boot measurement after the end of the boot"
        )
    return system


def _read_claims(system: Sequence[Event]) -> EventLogClaims:
    """Return the claims in a log's system entries, each of which `_system_entries` has found."""
    payloads = defaultdict[str, list[bytes]](list)  # by the name of their entries
    for event in system:
        size_bytes = len(event.payload)
        # An entry without a size in the table may have any size.
        if size_bytes not in _SIZES.get(event.name, (size_bytes,)):
            expected = " or ".join(map(str, _SIZES[event.name]))
            raise QuoteRefused(
                "event-log",
                f"the payload of {event.name} must be {expected} bytes long, but is {size_bytes}",
            )
        payloads[event.name].append(event.payload)
    scripts = payloads["init-script-hash"]
    gpu_policies = payloads["gpu-policy-hash"]
    if len(scripts) > _MAX_INIT_SCRIPTS or len(gpu_policies) > 1:
        raise QuoteRefused(
            "event-log",
            "the event log has too many entries named init-script-hash or gpu-policy-hash",
        )
    # `_system_entries` has found exactly one entry of each name below.
    (compose_hash,) = payloads["compose-hash"]
    (app_id,) = payloads["app-id"]
    (instance_id,) = payloads["instance-id"]
    (provider_json,) = payloads["key-provider"]
    try:
        provider = shaped(
            parse_json(provider_json, max_bytes=_MAX_KEY_PROVIDER_BYTES), _StatedProvider
        )
    except InvalidJson as exc:
        raise QuoteRefused("event-log", f"key-provider: {exc}") from exc
    return EventLogClaims(
        compose_hash=compose_hash,
        app_id=app_id,
        instance_id=instance_id,
        key_provider=KeyProvider(provider.name, bytes.fromhex(provider.id)),
        gpu_policy_hash=gpu_policies[0] if gpu_policies else None,
        init_script_hashes=tuple(scripts),
    )


class _StatedProvider(StrictStruct):
    name: KeyProviderName
    id: Annotated[str, Meta(pattern=r"^(?:[0-9A-Fa-f]{2})*\Z")]
