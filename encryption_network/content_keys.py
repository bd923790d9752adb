"""Hashes of content keys, by which a node knows where each key is stored (RL21).

A wrapped key has several spellings: X25519 ignores the top bit of the ephemeral public key, and a
key may be wrapped again. So the hash is of the opened key. The key itself does not leave this
module, and a content key is 32 random bytes, so its hash does not help to guess it.
"""

import hashlib

from capabilities.resources import NetworkId

from .keyring import Keyring
from .keywrap import open_wrapped
from .network_errors import RequestError
from .networks import NetworkRecord, private_key, usable_versions

_LABEL = b"sealspace/content-key/v1\0"


def content_key_hash(network: NetworkId, content_key: bytes) -> bytes:
    """Return the hash of a content key, 32 bytes.

    It is SHA-256 of a label, the network's canonical id, a zero byte and the content key.
    """
    network_text = network.text.encode("utf-8", "surrogatepass")
    return hashlib.sha256(_LABEL + network_text + b"\0" + content_key).digest()


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
    versions = usable_versions(network) if key_version is None else (key_version,)
    for version in versions:
        try:
            scalar = private_key(network, keyring, key_version=version)
            content_key = open_wrapped(scalar, wrapped_key)
        except RequestError:
            continue
        return content_key_hash(network.network_id, content_key)
    return None
