"""The signing key of a running runner, and the document that attests it (RN71).

Example:
    identity = await begin(source, did=backend.did, manifest=manifest_of(did, name), compose=None)
"""

import asyncio
from collections.abc import Mapping
from dataclasses import field

from capabilities.clock_and_entropy import SystemEntropy
from capabilities.frozen import frozen
from capabilities.principals import Principal
from capabilities.signatures import Ed25519Signer
from capabilities.strict_base64 import encode_url
from capabilities.strict_json import Json, JsonObject
from sealspace.apps.backends import RUNNER_APP_ID
from sealspace.documents.published import parse_statement, statement_json
from tee_backend.attestation.report_data import runner_binding
from tee_backend.evidence.source import EvidenceSource

from .run_receipts import encode_start, parse_start


@frozen
class Identity:
    """A runner's signing key and attested startup document.

    `start_hash` is the SHA-256 of the document in base64url.
    """

    receipt_key: Ed25519Signer = field(repr=False)
    start: bytes = field(repr=False)
    start_hash: str


def manifest_of(did: str, name: str) -> JsonObject:
    """Return a runner's application manifest.

    The manifest requests no permissions, because owners choose what they grant.
    """
    return {"app_id": RUNNER_APP_ID, "name": name, "did": did, "defaults": False}


async def begin(
    source: EvidenceSource, *, did: Principal, manifest: Mapping[str, Json], compose: str | None
) -> Identity:
    """Create a runner's signing key and attested startup document (RN71).

    The document contains a quote for the key.
    """
    key = Ed25519Signer(SystemEntropy().token(32))
    stated = statement_json(did, dict(manifest), compose)
    binding = runner_binding(did, key.public_key, parse_statement(stated).sha256)
    # In a thread: a quote is read from a file system or a socket of the platform, which may block.
    quoted = await asyncio.to_thread(source.quote, binding.report_data)
    start = encode_start(stated, key.did, quoted.quote, quoted.log_entries)
    return Identity(receipt_key=key, start=start, start_hash=encode_url(parse_start(start).sha256))
