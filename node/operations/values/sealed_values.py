"""Envelopes among the values that clients store (RL19, RL21).

A policy may name paths at which a key has to be stored. A release then compares its wrapped key
with the digest in the row that describes the value. The digest is written in the value's own
commit, so it cannot belong to another value, and the body need not be opened. Bodies in files have
no digest, nor have values that were written before digests existed; these are read when a policy
names their path.

Only the member with the key is examined. That is enough, because a writer at a path could as well
write a whole envelope there.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec.structs import replace

from capabilities.frozen_struct import FrozenStruct
from encryption_network.canonical_json import canonical_hash
from encryption_network.network_errors import InvalidCanonicalJson
from spaces.values.value_bodies import Body, Staging
from spaces.values.value_heads import Head
from spaces.values.value_writes import Write

from ...services import Services

NO_ENVELOPE = b""
KEY_MEMBER = b'"encryptedSymmetricKey"'
"""A member of every envelope; one that is spelt with escapes is not an envelope for policies."""
MOST_ENVELOPE_BYTES = 2 * 1024 * 1024
"""Maximum size in bytes of the values that are read to find the wrapped key in them.

A write reads at most one such value at a time. A release reads at most so many bytes together: the
author of a policy chooses the paths, so without a limit a policy could make each release read too
much. A longer value counts as no envelope; sealed secrets are small.
"""


class _Envelope(msgspec.Struct, rename="camel"):
    """The wrapped key in an envelope's JSON (EN23)."""

    v: Literal[1]
    encrypted_symmetric_key: str
    encrypted_symmetric_key_hash: str
    # Of any type, because the rules about paths do not look at them. They are not decoded here: a
    # value of 2 MiB can contain 690,000 lists, which took 0.6 s and 45 MB.
    network_id: msgspec.Raw = msgspec.Raw(b"null")
    key_version: msgspec.Raw = msgspec.Raw(b"null")


_DECODER = msgspec.json.Decoder(_Envelope)
_TEXT = msgspec.json.Decoder(str)
_MOST_VERSION_DIGITS = 9


class SealedKey(FrozenStruct):
    """The wrapped key in an envelope.

    Attributes:
        digest: see `key_digest`.
        wrapped_key: untrusted base64 text.
        network: untrusted id of the network; empty if the envelope does not state a text.
        key_version: untrusted version of the network's key; None if the envelope states no number.
    """

    digest: bytes
    wrapped_key: str
    network: str
    key_version: int | None


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


async def find_sealed_keys(
    writes: Sequence[Write], staging: Staging
) -> tuple[Sequence[Write], list[tuple[str, SealedKey]]]:
    """Find the wrapped keys in the values that an operation received.

    Args:
        writes: the writes of the values, without digests.
        staging: received the values, and searched files for KEY_MEMBER.
    Returns:
        The writes with their digests, and each path that gets an envelope with its wrapped key.
    """
    noted: list[Write] = []
    found: list[tuple[str, SealedKey]] = []
    for write in writes:
        body = write.body
        if body is None:
            noted.append(write)
            continue
        sealed = None
        if body.inline is not None:
            sealed = find_sealed_key(body.inline)
            digest = NO_ENVELOPE if sealed is None else sealed.digest
            write = replace(write, sealed_key=digest)
        elif body.has_word and body.size_bytes <= MOST_ENVELOPE_BYTES:
            sealed = find_sealed_key(await staging.contents(body))
        noted.append(write)
        if sealed is not None:
            found.append((write.path, sealed))
    return noted, found


async def is_stored_at(services: Services, head: Head, digest: bytes, *, most_bytes: int) -> bool:
    """Return whether a stored value contains the given wrapped key."""
    if head.sealed_key is not None:
        return head.sealed_key == digest
    return (
        head.size_bytes <= most_bytes
        and _digest_in(await services.values.read_body(head)) == digest
    )


def _digest_in(data: bytes) -> bytes:
    """Return the digest of the wrapped key in an envelope, or NO_ENVELOPE for other data."""
    sealed = find_sealed_key(data)
    return NO_ENVELOPE if sealed is None else sealed.digest


def find_sealed_key(data: bytes) -> SealedKey | None:
    """Return the wrapped key in an envelope, or None for other data.

    The envelope states the key's digest. It counts only if it is that of the wrapped key.
    """
    # Unlike `find`, `in` raises and discards an error inside for every bytes that it looks for.
    if data.find(KEY_MEMBER) < 0:
        return None
    try:
        envelope = _DECODER.decode(data)
        stated = canonical_hash(envelope.encrypted_symmetric_key)
        network = _text_of(envelope.network_id)
    except (msgspec.MsgspecError, InvalidCanonicalJson, ValueError, RecursionError):
        return None
    if stated != envelope.encrypted_symmetric_key_hash:
        return None
    return SealedKey(
        digest=bytes.fromhex(stated),
        wrapped_key=envelope.encrypted_symmetric_key,
        network=network,
        key_version=_version_of(envelope.key_version),
    )


def _text_of(member: msgspec.Raw) -> str:
    """Return a member that is a text; an empty text for other members.

    Raises:
        MsgspecError, UnicodeDecodeError: the text is malformed.
    """
    if not bytes(member).startswith(b'"'):
        return ""
    return _TEXT.decode(member)


def _version_of(member: msgspec.Raw) -> int | None:
    """Return a member that is the number of a version, or None."""
    digits = bytes(member)
    if len(digits) > _MOST_VERSION_DIGITS or not digits.isdigit():
        return None
    return int(digits)
