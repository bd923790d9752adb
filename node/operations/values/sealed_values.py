"""Which values are sealed envelopes, and of which key: noted with each value when it is written
(RL19).

A policy may name the paths at which a key has to be stored. A release then compares the digest in
the head of the value: it is written in the commit of the value, so it cannot belong to another one,
and nothing has to be opened. Values in files have none, and values written before the digest
existed have none either; those are read when a policy names them.

Only the member about the key is examined: a writer at a path may as well write a whole envelope
there.
"""

from typing import Final, Literal

import msgspec

from encryption_network.canonical_json import canonical_hash
from encryption_network.network_errors import InvalidCanonicalJson
from spaces.values.value_bodies import Body
from spaces.values.value_heads import Head

from ...services import Services

NO_ENVELOPE: Final = b""
_MEMBER: Final = b'"encryptedSymmetricKey"'
"""Every envelope names this member; a spelling with escapes is no envelope for policies."""


class _Sealed(msgspec.Struct, rename="camel"):
    """What an envelope says about its key (EN23); everything else in it is skipped."""

    v: Literal[1]
    encrypted_symmetric_key: str
    encrypted_symmetric_key_hash: str


_DECODER: Final = msgspec.json.Decoder(_Sealed)


def key_digest(wrapped_key: str) -> bytes:
    """Return the SHA-256 by which a wrapped key is compared: over its base64 text as a JSON string
    (EN11)."""
    return bytes.fromhex(canonical_hash(wrapped_key))


def sealed_key_of(body: Body) -> bytes | None:
    """Return what the head of a value notes: the digest of its wrapped key, NO_ENVELOPE, or None
    for one in a file.

    For a value that is no envelope this costs a search for one word.
    """
    return None if body.inline is None else _digest_in(body.inline)


async def is_stored_at(services: Services, head: Head, digest: bytes, *, most_bytes: int) -> bool:
    """Return whether a value is an envelope with this wrapped key."""
    if head.sealed_key is not None:
        return head.sealed_key == digest
    return (
        head.size_bytes <= most_bytes
        and _digest_in(await services.values.read_body(head)) == digest
    )


def _digest_in(data: bytes) -> bytes:
    if _MEMBER not in data:
        return NO_ENVELOPE
    try:
        sealed = _DECODER.decode(data)
        stated = canonical_hash(sealed.encrypted_symmetric_key)
    except (msgspec.MsgspecError, InvalidCanonicalJson, ValueError, RecursionError):
        return NO_ENVELOPE
    return bytes.fromhex(stated) if stated == sealed.encrypted_symmetric_key_hash else NO_ENVELOPE
