"""Identifiers of tokens, computed from the tokens' contents (E6 to E9).

A CID is the hash of the bytes received. The same signed statement can arrive as different bytes, so
authority and revocation use the content key: the hash of the signer and of the signed text.

    content key = BLAKE3-256( label NUL ‖ canonical signer NUL ‖ signed text or digest )

The label separates CACAOs from UCANs. NUL ends label and signer, which cannot contain one, so
different inputs never give the same bytes.
"""

from typing import NewType

import libipld
from blake3 import blake3

from .capability_errors import InvalidIdentifier
from .frozen_struct import AcyclicStruct

Digest = NewType("Digest", bytes)
"""32 bytes: the BLAKE3-256 of bytes as received."""

ContentKey = NewType("ContentKey", bytes)
"""32 bytes that identify a signed statement, in whatever encoding it arrived."""

RAW = 0x55
BLAKE3_256 = 0x1E
MAX_CID_CHARS = 512
"""Longest CID text that is parsed; 36 bytes in base 2 have 289 characters."""

# The CID version, the codec, the hash function and the length of the digest.
_PREFIX = b"\x01\x55\x1e\x20"
_CACAO_LABEL = b"sealspace/content/cacao/v1\0"
_UCAN_LABEL = b"sealspace/content/ucan/v1\0"


class Cid(AcyclicStruct):
    """A parsed content identifier."""

    codec: int
    hash_code: int
    digest: bytes

    @property
    def digest32(self) -> Digest | None:
        """The BLAKE3-256 digest in a CID, or None.

        It is None if the digest in the CID is of another hash function or length. Such a CID never
        matches a stored token (E8).
        """
        if self.hash_code != BLAKE3_256 or len(self.digest) != 32:
            return None
        return Digest(self.digest)

    def text(self) -> str:
        """Return the CID as a version 1 string in lower-case base32."""
        if self.codec == RAW and (digest := self.digest32) is not None:
            return cid_text(digest)
        parts = (1, self.codec, self.hash_code, len(self.digest))
        return libipld.encode_multibase("b", b"".join(map(_varint, parts)) + self.digest)


def digest_of(event_bytes: bytes) -> Digest:
    """Return the BLAKE3-256 digest of a token's bytes (E6).

    The bytes are hashed exactly as received.
    """
    return Digest(blake3(event_bytes).digest())


def cid_text(digest: Digest) -> str:
    """Return the CID string for a digest (E7).

    It is version 1, raw, BLAKE3-256, in base32: 59 characters that begin with `bafkr4i`.
    """
    return libipld.encode_multibase("b", _PREFIX + digest)


def parse_cid(text: str) -> Cid:
    """Parse a CID of version 0 or 1 (E8).

    Version 1 may be in any multibase. Version 0 is in base58.

    Raises:
        InvalidIdentifier: Not a CID, followed by further bytes, or longer than MAX_CID_CHARS.
    """
    if len(text) > MAX_CID_CHARS:
        raise InvalidIdentifier("invalid CID")
    try:
        # A CID of version 0 is base58 without the multibase code "z".
        is_version_0 = len(text) == 46 and text.startswith("Qm")
        multibase = "z" + text if is_version_0 else text
        data = libipld.decode_multibase(multibase)[1]
        # Fast path: all CIDs of this node's tokens begin with the same four bytes (E7).
        if len(data) == len(_PREFIX) + 32 and data.startswith(_PREFIX):
            return Cid(codec=RAW, hash_code=BLAKE3_256, digest=data[len(_PREFIX) :])
        cid = _decode(data)
    except ValueError as exc:
        raise InvalidIdentifier("invalid CID") from exc
    return cid


def content_key_of_cacao(signer: str, eip191_digest: bytes) -> ContentKey:
    """Return the hash that identifies a signed CACAO.

    `signer` is a canonical DID.
    """
    return ContentKey(blake3(b"%b%b\0%b" % (_CACAO_LABEL, signer.encode(), eip191_digest)).digest())


def content_key_of_ucan(signer: str, signing_input: bytes) -> ContentKey:
    """Return the hash that identifies a signed UCAN.

    `signer` is a canonical DID.
    """
    return ContentKey(blake3(b"%b%b\0%b" % (_UCAN_LABEL, signer.encode(), signing_input)).digest())


def _decode(data: bytes) -> Cid:
    """Decode the bytes of a CID, and refuse bytes after it."""
    parts = libipld.decode_cid(data)
    cid = Cid(
        codec=parts["codec"],
        hash_code=parts["hash"]["code"],
        digest=parts["hash"]["digest"],
    )
    # The library ignores bytes after the digest, which would make a second spelling of the CID.
    heads = [cid.hash_code, len(cid.digest)]
    if parts["version"] != 0:
        heads = [1, cid.codec, *heads]
    if data != b"".join(map(_varint, heads)) + cid.digest:
        raise InvalidIdentifier("invalid CID")
    return cid


def _varint(number: int) -> bytes:
    """Encode a number in groups of seven bits, lowest first; all but the last have the high bit."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
