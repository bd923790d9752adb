"""Backends that an owner need not confirm, because all their code seems to be named."""

import hashlib
import time
from dataclasses import replace
from pathlib import Path

import pytest
from attacks.parties import Delegate
from backend_site import Domain, serving
from deviating_log import LogOptions, mint_event_log
from deviating_platform import SimulatedPlatform

from capabilities.strict_json import Json
from sealspace.apps.backends import (
    fetch_evidence,
    is_whole_code,
    is_whole_policy,
    policy_for,
    require_expected,
    require_like,
)
from tee_backend.attestation.event_log_claims import KeyProvider, KeyProviderName
from tee_backend.attestation.inspection import CollateralFolder, Inspector
from tee_backend.attestation.trust_root import parse_trust_root
from tee_backend.backend.publishing import BackendSurface
from tee_backend.evidence.simulated import measurements_of

IMAGE = replace(measurements_of("image"), rtmr3=None)
COMPOSE = "services:\n  notes: {}\n"
COMPOSE_SHA256 = hashlib.sha256(COMPOSE.encode()).digest()
MANIFEST: dict[str, Json] = {
    "app_id": "com.example",
    "name": "Notes",
    "defaults": False,
    "secrets": {"API_KEY": True},
}


@pytest.mark.parametrize("name", ["kms", "tpm"])
@pytest.mark.parametrize("provider_id", [b"", b"\x01"], ids=["without an id", "with an id"])
async def test_a_key_provider_without_an_id_is_anybody(
    tmp_path: Path, platform: SimulatedPlatform, name: KeyProviderName, provider_id: bytes
) -> None:
    """An owner must confirm a backend that lists a key provider without an id (AT53)."""
    (tmp_path / "platform.json").write_bytes(platform.collateral_json(time.time()))
    log = mint_event_log(
        COMPOSE_SHA256, options=LogOptions(key_provider=KeyProvider(name, provider_id))
    )
    surface = BackendSurface(
        Domain(platform, IMAGE, log), did=Delegate().did, manifest=MANIFEST, compose=COMPOSE
    )
    inspector = Inspector(CollateralFolder(tmp_path), root=parse_trust_root(platform.root_der))
    async with serving(surface) as url:
        seen = await fetch_evidence(url, inspector)
    provider = f"{name}:{provider_id.hex()}".removesuffix(":")
    image = [one.hex() for one in (IMAGE.mrtd, IMAGE.rtmr0, IMAGE.rtmr1, IMAGE.rtmr2)]
    expected = [*image, COMPOSE_SHA256.hex(), provider]
    approved = policy_for(seen, ttl_s=60)
    require_expected(seen, expected)
    require_like(seen, approved)
    assert is_whole_code(seen, expected) is is_whole_policy(seen, approved) is bool(provider_id)
    started = policy_for(seen, pin="instance", ttl_s=60)
    assert is_whole_policy(seen, started)  # RTMR3 counts the provider in
