"""Who gave an application its disk and application keys, as policies, evidence and settings name
them: in one text.

    kms            any key management service
    kms:<hex>      the one with this id
    tpm, tpm:<hex> a TPM, or the one with this id
    local-sgx:<hex>  the enclave beside the application; it runs on the host's own word, so only with its id

The id is the one of the event log's `key-provider` entry, lower-case hex. An application without a
provider ("none") is never accepted, even if a list names it.

Example:
    accepted = (parse_key_provider("kms:3059…"), parse_key_provider("tpm"))
    is_accepted(evidence.key_provider, accepted)

Source: spec/attestation.md AT29, spec/release.md RL8.
"""

from collections.abc import Collection, Iterable
from typing import Final

from .network_errors import PolicyError

DEFAULT_KEY_PROVIDERS: Final = ("kms", "tpm")
"""Accepted by default."""
NAMES: Final = frozenset({"kms", "tpm", "local-sgx"})
"""Kinds that a list may accept."""
MAX_KEY_PROVIDERS: Final = 16
"""Most entries of one list."""
MAX_ID_BYTES: Final = 256
"""Longest id that an entry names; a KMS's is a public key of about 91 bytes."""
_NEEDS_ID: Final = "local-sgx"


def parse_key_provider(text: str) -> str:
    """Read an entry of a list of accepted key providers."""
    name, colon, id_text = text.partition(":")
    if name not in NAMES:
        raise PolicyError("keyProviders", "not a kind of key provider that can be accepted")
    if not colon and name == _NEEDS_ID:
        raise PolicyError("keyProviders", f"{_NEEDS_ID} needs the id of the provider")
    if colon and not _is_id(id_text):
        raise PolicyError("keyProviders", "the id of a key provider is not lower-case hex")
    return text


def is_accepted(provider: str | None, accepted: Collection[str]) -> bool:
    """Return whether a list accepts a provider, by its id or by its kind alone."""
    return provider is not None and (provider in accepted or provider.partition(":")[0] in accepted)


def is_within_terms(provider: str | None, terms: Collection[str]) -> bool:
    """Return whether a node's terms accept evidence of an application with this provider (AT29).

    Evidence without an event log names no provider. It is accepted only under terms that name no
    particular provider: an application that the terms exclude would otherwise leave out the log.
    Then RTMR3, which every policy has to state for such evidence, covers the provider.

    Args:
        provider: as evidence states it; None: no event log named one.
        terms: entries that `parse_key_provider` read.
    """
    return (
        are_accepted(DEFAULT_KEY_PROVIDERS, terms)
        if provider is None
        else is_accepted(provider, terms)
    )


def are_accepted(inner: Iterable[str], outer: Collection[str]) -> bool:
    """Return whether everything that one list accepts is accepted by the other; an empty list
    accepts nothing."""
    return all(is_accepted(entry, outer) for entry in inner)


def accepted_by_both(one: Collection[str], other: Collection[str]) -> tuple[str, ...]:
    """Return the list, in order of its texts, that accepts what both lists accept."""
    narrower = {entry for entry in one if is_accepted(entry, other)}
    return tuple(sorted(narrower | {entry for entry in other if is_accepted(entry, one)}))


def _is_id(text: str) -> bool:
    try:
        return 0 < len(text) <= 2 * MAX_ID_BYTES and bytes.fromhex(text).hex() == text
    except ValueError:
        return False
