"""Verification of nodes' attestation evidence for the command line."""

from pathlib import Path

import msgspec

from capabilities.strict_json import JsonObject
from encryption_network.key_providers import provider_text
from encryption_network.policy import Evidence, Policy, policy_json
from sealspace.cli.terminal import time_text
from sealspace.client import Client
from sealspace.documents.node_evidence import NodeAttestation, NodeStatement, SecretOrigin
from sealspace.errors import NodeEvidenceRefused
from sealspace.giving.words.policies import MODE_WORDS, hex_of
from sealspace.service.command_errors import CollateralRefused

from ..attestation.attestation_errors import CollateralUnusable
from ..attestation.collateral import HeldCollateral
from ..attestation.node_verifier import TdxNodeVerifier
from ..attestation.pcs import CollateralService
from ..attestation.trust_files import read_collateral_file
from ..attestation.trust_files import (
    read_trust_root as read_trust_root,  # the sign-in reads one too
)

_ORIGINS: dict[SecretOrigin, str] = {
    "platform": "the root secret comes from the platform and never leaves the trust domain",
    "operator": "the operator has the root secret, and can open everything sealed with it",
}
_LISTS = {
    False: "only owners approve the code that receives their keys",
    True: "if an owner approved no code, the operator's list of code applies",
}


def node_verifier(*, trust_root: Path | None, collateral: Path | None) -> TdxNodeVerifier:
    """Return a verifier of node evidence.

    Collateral comes from a folder or from Intel's service.
    """
    root = read_trust_root(trust_root)
    if collateral is None:
        return TdxNodeVerifier(root, CollateralService())
    if not collateral.is_dir():
        raise CollateralRefused(f"there is no folder {collateral}", hint=f"ls -ld {collateral}")
    try:
        documents = [read_collateral_file(path) for path in sorted(collateral.glob("*.json"))]
        return TdxNodeVerifier(root, HeldCollateral(documents))
    except CollateralUnusable as error:
        raise CollateralRefused(
            f"the collateral in {collateral} was refused: {error.code}: {error.detail}",
            hint=f"check the files in {collateral}",
        ) from None


async def ask_node(client: Client) -> NodeAttestation:
    """Fetch a node's evidence and check the node's DID.

    The evidence must name the same DID as /info.
    """
    info, attestation = await client.info(), await client.node_attestation()
    if info.node_id != attestation.statement.node_did:
        raise NodeEvidenceRefused(
            "node-did", f"the node says it is {info.node_id}, but its evidence is for another node"
        )
    return attestation


def in_words(statement: NodeStatement, facts: Evidence) -> tuple[str, ...]:
    """Describe a node's verified evidence in lines of text."""
    accepted = map(provider_text, statement.key_providers)
    lines = [
        f"node: {statement.node_did}, store {statement.store_id.hex()}",
        f"secret: {_ORIGINS[statement.secret_origin]}",
        f"demands: {MODE_WORDS[statement.attestation]}",
        f"approval: {_LISTS[statement.node_policy_suffices]}",
        f"accepted key providers: {', '.join(accepted) or 'none'}",
        (
            f"platform: {facts.tcb_status}, family {facts.fmspc.hex()}, verdict valid until"
            f" {time_text(facts.expires_at)}"
        ),
    ]
    if facts.advisories:
        lines.append(f"advisories: {', '.join(facts.advisories)}")
    if facts.compose_hash is not None:
        lines.append(
            f"application: compose hash {facts.compose_hash.hex()}, key provider"
            f" {provider_text(facts.key_provider or 'none')}"
        )
    text = msgspec.json.encode(policy_json(exact_code(facts))).decode()
    return (*lines, f"policy that approves exactly this code: {text}")


def as_json(statement: NodeStatement, facts: Evidence) -> JsonObject:
    """Describe a node's verified evidence as JSON."""
    return {
        "node": statement.node_did,
        "storeId": statement.store_id.hex(),
        "secretOrigin": statement.secret_origin,
        "attestation": statement.attestation,
        "trustRoots": [root.hex() for root in statement.trust_roots],
        "nodePolicySuffices": statement.node_policy_suffices,
        "keyProviders": list(statement.key_providers),
        "tcbStatus": facts.tcb_status,
        "advisories": list(facts.advisories),
        "platformFamily": facts.fmspc.hex(),
        "judgedUntil": time_text(facts.expires_at),
        "composeHash": hex_of(facts.compose_hash),
        "keyProvider": facts.key_provider,
        "policy": policy_json(exact_code(facts)),
    }


def exact_code(facts: Evidence) -> Policy:
    """Return a policy that approves only the measurements in the evidence."""
    return Policy(measurements=(facts.measurements,))
