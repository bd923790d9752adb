"""Trusted roots of Sigstore, as runners and grants name them (PV18).

A trusted root is a public JSON document with Sigstore's authorities and logs. It is named by the
SHA-256 of its canonical JSON, so that copies with other spaces or another order of members have the
same name.

Example:
    document = b'{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}'
    assert named_root(document) == named_root(document + b"\\n{}")
"""

import hashlib
from typing import NamedTuple

from capabilities.capability_errors import InvalidJson
from capabilities.strict_json import parse_json
from encryption_network.canonical_json import canonical_bytes
from encryption_network.network_errors import InvalidCanonicalJson

from ..errors import ProvenanceInvalid

MAX_TRUSTED_ROOT_BYTES = 1024 * 1024


class NamedRoot(NamedTuple):
    """A trusted root.

    Attributes:
        sha256: its name, 64 lower-case hex digits.
        document: the document as canonical JSON.
    """

    sha256: str
    document: bytes


def named_root(data: bytes) -> NamedRoot:
    """Read the trusted root in a file, and name it by its hash.

    Args:
        data: one JSON document, or JSON lines, as `gh attestation trusted-root` prints them. Of
            JSON lines, only the first one is read.
    Raises:
        ProvenanceInvalid: the data is longer than MAX_TRUSTED_ROOT_BYTES, or is not JSON.
    Does not check:
        Whether the document is a trusted root. `sealspace.apps.provenance` does.
    """
    try:
        parsed = parse_json(first_document(data), max_bytes=MAX_TRUSTED_ROOT_BYTES)
        document = canonical_bytes(parsed)
    except (InvalidJson, InvalidCanonicalJson) as exc:
        raise ProvenanceInvalid(
            "the trusted root cannot be read",
            claim="root",
            hint="use the first line of what `gh attestation trusted-root` prints",
        ) from exc
    return NamedRoot(sha256=hashlib.sha256(document).hexdigest(), document=document)


def first_document(data: bytes) -> bytes:
    """Return the first line of JSON lines, and any other data unchanged."""
    if len(data) > MAX_TRUSTED_ROOT_BYTES:
        return data  # whole, so that the parser refuses its length
    first_line, _, _ = data.partition(b"\n")
    # In JSON lines, the first line is a whole document. Otherwise all lines are one document.
    is_whole_document = first_line.rstrip().endswith(b"}")
    return first_line if is_whole_document else data
