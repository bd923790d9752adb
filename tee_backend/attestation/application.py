"""What an event log says about the application that runs in a trust domain, and who gave it its keys.

Example:
    claims = verify_event_log(log, quote.report)
    check_key_provider(claims.key_provider, ("tpm", "kms:3059…"))
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

from encryption_network.key_providers import is_within_terms, key_provider_text

from .errors import QuoteRefused

KeyProviderName = Literal["none", "local-sgx", "kms", "tpm"]

COMPOSE_HASH_BYTES: Final = 32
APP_ID_BYTES: Final = 20
INSTANCE_ID_BYTES: Final = 20


@dataclass(frozen=True, slots=True)
class KeyProvider:
    """Who gave the application its disk and application keys."""

    name: KeyProviderName
    id: bytes

    @property
    def text(self) -> str:
        """The provider as evidence and policies write it."""
        return key_provider_text(self.name, self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLogClaims:
    """What the system wrote about the application before it started the application.

    It is true of the trust domain whose quote the log was compared with. It means nothing unless MRTD and RTMR0 to
    RTMR2 are those of an image that is known to write the truth (AT22).
    """

    compose_hash: bytes
    app_id: bytes
    instance_id: bytes
    key_provider: KeyProvider
    os_image_hash: bytes | None
    gpu_policy_hash: bytes | None
    init_script_hashes: tuple[bytes, ...]


def check_key_provider(provider: KeyProvider | None, accepted: Collection[str]) -> None:
    """Refuse an application whose keys another party may have.

    Args:
        provider: of a verified log; None: no log names one.
        accepted: what the operator or owner accepts: entries of `encryption_network.key_providers`.
    Raises:
        QuoteRefused: `key-provider`, another kind or id than accepted, no provider at all, or no log under terms that
            exclude a provider of the default (AT29).
    """
    # AT29
    if provider is not None and provider.name == "none":  # no list can accept it
        raise QuoteRefused("key-provider", "the application has no key provider")
    if is_within_terms(None if provider is None else provider.text, accepted):
        return
    if provider is None:
        raise QuoteRefused("key-provider", "no event log tells who gave the application its keys")
    raise QuoteRefused("key-provider", f"key provider {provider.name!r} with id {provider.id[:16].hex()}")
