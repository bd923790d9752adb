"""Hashes of content keys, by which a node knows where each key is stored (RL21).

A wrapped key has several spellings: X25519 ignores the top bit of the ephemeral public key, and a
key may be wrapped again. So the hash is of the opened key. The key itself does not leave this
module, and a content key is 32 random bytes, so its hash does not help to guess it.
"""

import hashlib

from capabilities.cache import Recent
from capabilities.frozen_struct import FrozenStruct
from capabilities.resources import NetworkId

from .keyring import Keyring
from .keywrap import open_wrapped
from .network_errors import RequestError
from .networks import NetworkRecord, private_key, usable_versions

_LABEL = b"sealspace/content-key/v1\0"


class _Known(FrozenStruct):
    """The hash of a wrapped key that was opened.

    Attributes:
        sealed_private_key: the private key that opened it, encrypted as in the network's record.
        digest: `content_key_hash` of the content key.
    """

    sealed_private_key: bytes
    digest: bytes


# A private key opens a wrapped key to the same content key for ever, so its hash never changes.
# Opening it costs a tenth of a release.
_known_digests = Recent[tuple[str, int, bytes], _Known](1024)


def content_key_hash(network: NetworkId, content_key: bytes) -> bytes:
    """Return the hash of a content key, 32 bytes.

    It is SHA-256 of a label, the network's canonical id, a zero byte and the content key.
    """
    network_text = network.text.encode("utf-8", "surrogatepass")
    return hashlib.sha256(_LABEL + network_text + b"\0" + content_key).digest()


def known_digest(network: NetworkId, key_version: int, wrapped_key: bytes) -> bytes | None:
    """Return the hash of a wrapped content key that this process has opened recently, or None.

    Does not check:
        Whether the network still has the private key. So the result is only a hint which row to
        read early.
    """
    known = _known_digests.get((network.text, key_version, wrapped_key))
    return None if known is None else known.digest


def versions_to_try(network: NetworkRecord, key_version: int | None) -> tuple[int, ...]:
    """Return the versions of a network's key that may open a wrapped key, the newest first.

    An envelope that states no version is nearly always sealed to the present key.

    Args:
        network: to which the key is wrapped.
        key_version: untrusted number that the envelope states; None: it states none.
    """
    if key_version is not None:
        return (key_version,)
    return usable_versions(network)[::-1]


def content_key_digest(
    network: NetworkRecord, wrapped_key: bytes, keyring: Keyring, *, key_version: int | None
) -> bytes | None:
    """Return the hash of a wrapped content key, or None if the key cannot be opened.

    Args:
        network: to which the key is wrapped.
        wrapped_key: untrusted, of any length.
        keyring: of the node that keeps the network.
        key_version: untrusted number of the version of the network's key. None: every version that
            is not retired is tried, at most `key_versions.MAX_KEY_VERSION`.
    Returns:
        `content_key_hash`. A key that cannot be opened is never released, so it needs no hash.
    Source: release RL21.
    """
    for version in versions_to_try(network, key_version):
        sealed_private_key = network.sealed_key_of(version)
        if sealed_private_key is None:  # unknown or retired
            continue
        cache_key = (network.network_id.text, version, wrapped_key)
        known = _known_digests.get(cache_key)
        if known is not None and known.sealed_private_key == sealed_private_key:
            return known.digest
        try:
            scalar = private_key(network, keyring, key_version=version)
            content_key = open_wrapped(scalar, wrapped_key)
        except RequestError:
            continue
        digest = content_key_hash(network.network_id, content_key)
        _known_digests.put(cache_key, _Known(sealed_private_key=sealed_private_key, digest=digest))
        return digest
    return None
