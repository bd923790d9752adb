"""Digests of the wrapped keys in encrypted values (RL19).

A policy may name paths at which a key has to be stored. A release then compares its wrapped key
with the digest in the row that describes the value. The digest is written in the value's own
commit, so it cannot belong to another value, and the body need not be opened. Bodies in files have
no digest, nor have values that were written before digests existed; these are read when a policy
names their path.

Only the member with the key is examined. That is enough, because a writer at a path could as well
write a whole envelope there.
"""

from typing import Literal

import msgspec

from encryption_network.canonical_json import canonical_hash
from encryption_network.network_errors import InvalidCanonicalJson
from spaces.values.value_bodies import Body
from spaces.values.value_heads import Head

from ...services import Services

NO_ENVELOPE = b""
_MEMBER = b'"encryptedSymmetricKey"'
"""A member of every envelope; one that is spelt with escapes is not an envelope for policies."""


class _Sealed(msgspec.Struct, rename="camel"):
    """The wrapped key in an envelope's JSON (EN23)."""

    v: Literal[1]
    encrypted_symmetric_key: str
    encrypted_symmetric_key_hash: str


_DECODER = msgspec.json.Decoder(_Sealed)


def key_digest(wrapped_key: str) -> bytes:
    """Return the SHA-256 of a wrapped key's JSON text (EN11).

    The JSON text is the key's base64 text in double quotes.
    """
    return bytes.fromhex(canonical_hash(wrapped_key))


def sealed_key_of(body: Body) -> bytes | None:
    """Return the digest of an encrypted value's wrapped key.

    Return None if the value is not in memory. For a value that is not an envelope, the result is
    NO_ENVELOPE and costs a search for one word.
    """
    return None if body.inline is None else _digest_in(body.inline)


async def is_stored_at(services: Services, head: Head, digest: bytes, *, most_bytes: int) -> bool:
    """Return whether a stored value contains the given wrapped key."""
    if head.sealed_key is not None:
        return head.sealed_key == digest
    return (
        head.size_bytes <= most_bytes
        and _digest_in(await services.values.read_body(head)) == digest
    )


def _digest_in(data: bytes) -> bytes:
    """Return the digest of the wrapped key in an envelope, or NO_ENVELOPE for other data.

    The envelope states this digest. It counts only if it is that of the wrapped key.
    """
    # Unlike `find`, `in` raises and discards an error inside for every bytes that it looks for.
    if data.find(_MEMBER) < 0:
        return NO_ENVELOPE
    try:
        sealed = _DECODER.decode(data)
        stated = canonical_hash(sealed.encrypted_symmetric_key)
    except (msgspec.MsgspecError, InvalidCanonicalJson, ValueError, RecursionError):
        return NO_ENVELOPE
    return bytes.fromhex(stated) if stated == sealed.encrypted_symmetric_key_hash else NO_ENVELOPE
