"""Judging a node's own evidence: what `sealspace.node_evidence` asks for, for nodes in TDX trust domains.

Example:
    documents = HeldCollateral([path.read_bytes() for path in folder.glob("*.json")])
    required = NodeRequirement(TdxNodeVerifier(intel_root(), documents), NodePolicy(code=policy))
    client = Client("https://node.example", require_node_evidence=required)
"""

import asyncio

from capabilities.principals import ed25519_public_key, parse_principal
from encryption_network.judgement import judge
from encryption_network.key_providers import DEFAULT_KEY_PROVIDERS, are_accepted, is_accepted, key_provider_text
from encryption_network.policy import Evidence
from sealspace.errors import NodeEvidenceRefused
from sealspace.node_evidence import NodeAttestation, NodeEvidence, NodePolicy, NodeStatement
from tee_backend.attestation.application import EventLogClaims
from tee_backend.attestation.collateral_fetcher import Service
from tee_backend.attestation.errors import AttestationError
from tee_backend.attestation.event_log import read_event_log
from tee_backend.attestation.event_log_claims import verify_event_log
from tee_backend.attestation.judgement import to_evidence
from tee_backend.attestation.quote import Quote, parse_quote
from tee_backend.attestation.report_data import check_report_data, node_report_data
from tee_backend.attestation.trust_root import TrustRoot
from tee_backend.attestation.verify import verify_quote


class TdxNodeVerifier:
    """Verifies a node's quote with collateral of the verifier's own choice.

    Args:
        root: where the quote's chain has to end.
        collateral: asked for the document of the node's platform family: `held_collateral.HeldCollateral`, or Intel's
            service (`pcs.CollateralService`). Never the node: who chooses the collateral chooses the verdict.
    """

    def __init__(self, root: TrustRoot, collateral: Service) -> None:
        self._root = root
        self._collateral = collateral

    async def verify(self, attestation: NodeAttestation, policy: NodePolicy, *, now: float) -> NodeEvidence:
        """Return the evidence if it is genuine, is about the statement, and satisfies the policy; see NodeVerifier.

        Raises:
            NodeEvidenceRefused: anything about it does not hold.
        """
        facts = await self.examine(attestation, now=now)
        self._check_statement(attestation.statement, policy)
        _check_key_provider(facts, attestation.statement, policy)
        refusal = judge(facts, policy.code, now)
        if refusal is not None:
            raise NodeEvidenceRefused(refusal, "the policy does not approve what the quote shows")
        return NodeEvidence(statement=attestation.statement, facts=facts)

    async def examine(self, attestation: NodeAttestation, *, now: float) -> Evidence:
        """Return what the quote says if it is genuine and names nonce and statement.

        Returns:
            Facts; `invoker` is the node's DID, and in place of a receiver key stands the node's public key.
        Raises:
            NodeEvidenceRefused: a signature, a window, the report data or the event log does not hold.
        Does not check:
            Whether anybody approves of the code, its platform, its key provider or the statement.
        """
        try:
            quote = parse_quote(attestation.quote)
            # AT41
            check_report_data(quote.report.report_data, node_report_data(attestation.nonce, attestation.statement))
            claims = _claims(attestation, quote)
            document = await self._collateral.collateral(quote.platform.fmspc, quote.platform.ca)
            verified = await asyncio.to_thread(
                verify_quote, attestation.quote, document.collateral, root=self._root, now=now
            )
        except AttestationError as exc:
            raise NodeEvidenceRefused(exc.code, exc.detail) from exc
        node_did = parse_principal(attestation.statement.node_did)
        return to_evidence(
            verified,
            invoker=node_did,
            receiver_public_key=ed25519_public_key(node_did) or b"",
            receiver_mode="attested",
            compose_hash=None if claims is None else claims.compose_hash,
            app_id=None if claims is None else claims.app_id,
            key_provider=None
            if claims is None
            else key_provider_text(claims.key_provider.name, claims.key_provider.id),
        )

    def _check_statement(self, statement: NodeStatement, policy: NodePolicy) -> None:
        # AT45
        if policy.store_id is not None and statement.store_id != policy.store_id:
            raise NodeEvidenceRefused("store", f"the node's store is {statement.store_id.hex()}")
        if statement.secret_origin not in policy.secret_origins:
            raise NodeEvidenceRefused(
                "secret_origin", f"the node has its root secret from its {statement.secret_origin}"
            )
        if statement.attestation not in policy.modes:
            raise NodeEvidenceRefused("mode", f"the node's attestation mode is {statement.attestation}")
        foreign = set(statement.trust_roots) - {self._root.sha256} - policy.release_roots
        if foreign:
            raise NodeEvidenceRefused("trust_roots", f"the node believes backends under {min(foreign).hex()}")
        if statement.node_policy_suffices and not policy.accepts_node_policy:
            raise NodeEvidenceRefused("node_policy", "the node's own list of code may stand for that of an owner")
        if not are_accepted(statement.key_providers, policy.release_key_providers):
            told = ", ".join(statement.key_providers)[:200]
            raise NodeEvidenceRefused("key_providers", f"the node takes evidence of applications with keys from {told}")


def _check_key_provider(facts: Evidence, statement: NodeStatement, policy: NodePolicy) -> None:
    """Refuse a node whose keys come from whom the policy does not accept, or from whom nobody can tell (AT45)."""
    # AT29: where the policy names no key providers, those count that a node takes by default.
    providers = policy.code.key_providers or DEFAULT_KEY_PROVIDERS
    found = facts.key_provider
    if statement.secret_origin == "platform":  # noqa: S105  # where it comes from
        # Whoever gave this secret knows it. An answer can come without the log, and anybody can run a service of a
        # kind: that it is the right one is known only of a name in the policy, or of RTMR3, which counts it in.
        if not policy.code.key_providers and any(entry.rtmr3 is None for entry in policy.code.measurements):
            providers = ()
    elif found is None:
        return
    if not is_accepted(found, providers):
        told = "nobody who can be told" if found is None else found[:80]
        raise NodeEvidenceRefused("key_provider", f"the node's keys come from {told}")


def _claims(attestation: NodeAttestation, quote: Quote) -> EventLogClaims | None:
    if attestation.event_log is None:
        return None
    return verify_event_log(read_event_log(list(attestation.event_log)), quote.report)
