"""Names of services that give keys to attested applications.

A key provider gives an application its disk and application keys. Policies and nodes list the names
of the key providers that they accept.

    kms              any key management service
    kms:<hex>        the one with this id
    tpm, tpm:<hex>   a TPM, or the one with this id
    local-sgx:<hex>  the enclave beside the application; its host vouches for it, so the id is
                     required

The id is that of the `key-provider` entry in the event log, in lower-case hex. An application
without a provider ("none") is never accepted, even if a list names it.

Example:
    accepted = (parse_key_provider("kms:3059…"), parse_key_provider("tpm"))
    is_accepted(evidence.key_provider, accepted)

Source: spec/attestation.md AT29, spec/release.md RL8.
"""

from collections.abc import Collection, Iterable

from .network_errors import PolicyError

DEFAULT_KEY_PROVIDERS = ("kms", "tpm")
"""Accepted by default."""
NAMES = frozenset({"kms", "tpm", "local-sgx"})
"""Kinds of key providers that a list may accept."""
MAX_KEY_PROVIDERS = 16
"""Most entries of one list."""
MAX_ID_BYTES = 256
"""Longest id in an entry; the id of a KMS is a public key of about 91 bytes."""
_NEEDS_ID = "local-sgx"


def parse_key_provider(text: str) -> str:
    """Check that a string is the name of a key provider.

    The string is returned unchanged.
    """
    name, colon, id_text = text.partition(":")
    if name not in NAMES:
        raise PolicyError("keyProviders", "unknown kind of key provider")
    if not colon and name == _NEEDS_ID:
        raise PolicyError("keyProviders", f"{_NEEDS_ID} requires the provider's id")
    if colon and not _is_id(id_text):
        raise PolicyError("keyProviders", "the provider's id is not lower-case hex")
    return text


def provider_text(provider: str) -> str:
    """Describe a key provider. An id that is printable ASCII is also shown as text."""
    _, _, id_text = provider.partition(":")
    if not _is_id(id_text):
        return provider
    text = bytes.fromhex(id_text).decode("latin-1")
    if not text.isascii() or not text.isprintable():
        return provider
    return f'{provider} ("{text}")'


def is_accepted(provider: str | None, accepted: Collection[str]) -> bool:
    """Return whether a key provider is on a list of accepted ones.

    The list may contain the provider's id or its kind.
    """
    if provider is None:
        return False
    kind, _, _ = provider.partition(":")
    return provider in accepted or kind in accepted


def is_key_source_accepted(provider: str | None, terms: Collection[str]) -> bool:
    """Return whether a node accepts an application's key provider (AT29).

    The application's attestation evidence names the key provider. Evidence without an event log
    names none. It is accepted only if `kms` and `tpm` are listed without an id; otherwise an
    application with an excluded provider could pass by leaving out its log. For such evidence every
    policy has to state RTMR3, which covers the provider.

    Args:
        provider: as in the evidence; None: there is no event log.
        terms: the node's list of accepted providers, parsed by `parse_key_provider`.
    """
    if provider is None:
        return are_accepted(DEFAULT_KEY_PROVIDERS, terms)
    return is_accepted(provider, terms)


def are_accepted(inner: Iterable[str], outer: Collection[str]) -> bool:
    """Return whether all key providers in a list are accepted.

    The list `inner` contains the key providers. The list `outer` contains the accepted ones, by id
    or by kind; if it is empty, none is accepted.
    """
    return all(is_accepted(entry, outer) for entry in inner)


def accepted_by_both(one: Collection[str], other: Collection[str]) -> tuple[str, ...]:
    """Return the intersection of two lists of accepted key providers.

    The result is sorted. An entry with an id is in the result if the other list contains the same
    id, or the kind without an id.
    """
    narrower = {entry for entry in one if is_accepted(entry, other)}
    return tuple(sorted(narrower | {entry for entry in other if is_accepted(entry, one)}))


def _is_id(text: str) -> bool:
    """Return whether a string is the id of a key provider in lower-case hex."""
    if not 0 < len(text) <= 2 * MAX_ID_BYTES:
        return False
    try:
        # `fromhex` also reads upper case and spaces, so the bytes are encoded and compared.
        return bytes.fromhex(text).hex() == text
    except ValueError:
        return False
