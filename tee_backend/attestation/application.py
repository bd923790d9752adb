"""What an event log says about the application that runs in a trust domain, and who gave it its keys.

Example:
    claims = verify_event_log(log, quote.report)
    check_key_provider(claims, accepted=(AcceptedKeyProvider("kms", ids=frozenset({kms_id})),))
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal, cast

from encryption_network import key_providers

from .errors import KeyProviderRefused

KeyProviderName = Literal["none", "local-sgx", "kms", "tpm"]

COMPOSE_HASH_BYTES: Final = 32
APP_ID_BYTES: Final = 20
INSTANCE_ID_BYTES: Final = 20


@dataclass(frozen=True, slots=True)
class KeyProvider:
    """Who gave the application its disk and application keys.

    Attributes:
        name: the kind; "none": nobody, so nothing on its disk outlives it.
        id: of the provider, for example a KMS's public key; empty where the kind has none.
    """

    name: KeyProviderName
    id: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLogClaims:
    """What the system, before it let the application run, wrote about the application.

    It holds for the trust domain whose quote the log was compared with. It means nothing unless MRTD and RTMR0 to
    RTMR2 are those of an image that is known to write the truth (AT22).

    Attributes:
        compose_hash: SHA-256 of the application's compose file, 32 bytes.
        app_id: 20 bytes.
        instance_id: 20 bytes, or empty where the application asked for none.
        key_provider: who gave the keys.
        os_image_hash: 32 bytes, as the key provider told it; None when it did not.
        gpu_policy_hash: 32 bytes; None without one.
        init_script_hashes: SHA-256 of each script that ran before, in order.
    """

    compose_hash: bytes
    app_id: bytes
    instance_id: bytes
    key_provider: KeyProvider
    os_image_hash: bytes | None
    gpu_policy_hash: bytes | None
    init_script_hashes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class AcceptedKeyProvider:
    """A key provider that somebody accepts.

    Attributes:
        name: the kind; "none" is never accepted, whoever names it.
        ids: accepted ids; empty: any.
    """

    name: KeyProviderName
    ids: frozenset[bytes] = frozenset()


def accepted_key_provider(text: str) -> AcceptedKeyProvider:
    """Return what an entry of `encryption_network.key_providers` accepts; a kind that stands alone: any id.

    Args:
        text: from `parse_key_provider`.
    """
    name, _, provider_id = text.partition(":")
    ids = frozenset({bytes.fromhex(provider_id)} if provider_id else ())
    return AcceptedKeyProvider(cast(KeyProviderName, name), ids)


DEFAULT_KEY_PROVIDERS: Final = tuple(accepted_key_provider(text) for text in key_providers.DEFAULT_KEY_PROVIDERS)
"""Accepted unless somebody says otherwise. A local provider runs on the host's own word, so it has to be named."""


def check_key_provider(
    claims: EventLogClaims, *, accepted: Collection[AcceptedKeyProvider] = DEFAULT_KEY_PROVIDERS
) -> None:
    """Refuse an application whose keys somebody else may hold.

    Args:
        claims: of a verified log.
        accepted: what the operator or owner accepts.
    Raises:
        KeyProviderRefused: another kind or id than accepted, or no provider at all (AT29).
    """
    # AT29
    provider = claims.key_provider
    if provider.name == "none":
        raise KeyProviderRefused("the application has no key provider")
    for entry in accepted:
        if entry.name == provider.name and (not entry.ids or provider.id in entry.ids):
            return
    raise KeyProviderRefused(f"key provider {provider.name!r} with id {provider.id[:16].hex()}")
