"""The start of a runner: a receipt key, and the one quote that names it (RN71).

Example:
    identity = await begin(source, did=backend.did, manifest=manifest, compose=compose)
"""

import asyncio
from collections.abc import Mapping

from capabilities.ambient import SystemEntropy
from capabilities.principals import Principal
from capabilities.signatures import Ed25519Signer
from capabilities.strict_json import Json
from sealspace.apps.backends import RUNNER_APP_ID
from sealspace.documents.published import parse_statement, statement_json

from ...attestation.report_data import runner_binding
from ...evidence.source import EvidenceSource
from .run_receipts import encode_start, parse_start
from .service import Identity


def manifest_of(did: str, name: str) -> dict[str, Json]:
    """Return the manifest that a runner publishes; it asks for nothing by itself: owners say what, for which
    programs."""
    return {"app_id": RUNNER_APP_ID, "name": name, "did": did, "defaults": False}


async def begin(
    source: EvidenceSource, *, did: Principal, manifest: Mapping[str, Json], compose: str | None
) -> Identity:
    """Make a receipt key, and have one quote name it."""
    key = Ed25519Signer(SystemEntropy().token(32))
    stated = statement_json(did, dict(manifest), compose)
    binding = runner_binding(did, key.public_key, parse_statement(stated).sha256)
    # Quotes come out of a file system or a socket of the platform, neither of which belongs on the event loop.
    quoted = await asyncio.to_thread(source.quote, binding.report_data)
    log = None if quoted.event_log is None else quoted.event_log.to_json()
    start = encode_start(stated, key.did, quoted.quote, log)
    return Identity(receipt_key=key, start=start, start_sha256=parse_start(start).sha256)
