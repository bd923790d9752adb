"""Judging a node's own evidence: what `sealspace.documents.node_evidence` asks for, for nodes in
TDX trust domains.

Example:
    documents = HeldCollateral([path.read_bytes() for path in folder.glob("*.json")])
    required = NodeRequirement(TdxNodeVerifier(intel_root(), documents), NodePolicy(code=policy))
    client = Client("https://node.example", require_node_evidence=required)
"""

from encryption_network.judgement import judge
from encryption_network.key_providers import DEFAULT_KEY_PROVIDERS, NAMES, are_accepted, is_accepted
from encryption_network.policy import Evidence
from sealspace.documents.node_evidence import (
    NodeAttestation,
    NodeEvidence,
    NodePolicy,
    NodeStatement,
)
from sealspace.errors import NodeEvidenceRefused

from .attestation_errors import AttestationError
from .collateral import CollateralProvider
from .examine import bind_quote, examine_with
from .report_data import node_binding
from .trust_root import TrustRoot


class TdxNodeVerifier:
    """Verifies a node's quote with collateral of the verifier's own choice."""

    def __init__(self, root: TrustRoot, collateral: CollateralProvider) -> None:
        self._root = root
        self._collateral = collateral

    async def verify(
        self, attestation: NodeAttestation, policy: NodePolicy, *, now: float
    ) -> NodeEvidence:
        """Return the evidence if it is genuine, is about the statement, and satisfies the policy;
        see NodeVerifier."""
        facts = await self.examine(attestation, now=now)
        self._check_statement(attestation.statement, policy)
        _check_key_provider(facts, attestation.statement, policy)
        refusal = judge(facts, policy.code, now)
        if refusal is not None:
            # Refusals of a policy are spelled as the wire says them; a client's codes are in
            # kebab-case.
            raise NodeEvidenceRefused(
                refusal.replace("_", "-"), "the policy does not approve what the quote shows"
            )
        return NodeEvidence(statement=attestation.statement, facts=facts)

    async def examine(self, attestation: NodeAttestation, *, now: float) -> Evidence:
        """Return what the quote says if it is genuine and names nonce and statement.

        Returns:
            Facts; `invoker` is the node's DID, and the node's public key takes the place of a
            receiver key.
        Raises:
            NodeEvidenceRefused: a signature, a window, the report data or the event log is not
                valid, or the log says that the application has no key provider.
        Does not check:
            That a policy approves of the code, its platform, its key provider and the statement.
        """
        binding = node_binding(attestation.nonce, attestation.statement)  # AT41
        try:
            # The policy names the accepted key providers, in `verify` (AT45); "none" is accepted by
            # no policy.
            bound = bind_quote(
                attestation.quote, binding, event_log=attestation.event_log, accepted=NAMES
            )
            return (await examine_with(bound, self._collateral, root=self._root, now=now))[0]
        except AttestationError as exc:
            raise NodeEvidenceRefused(exc.code, exc.detail) from exc

    def _check_statement(self, statement: NodeStatement, policy: NodePolicy) -> None:
        # AT45
        if policy.store_id is not None and statement.store_id != policy.store_id:
            raise NodeEvidenceRefused("store", f"the node's store is {statement.store_id.hex()}")
        if statement.secret_origin not in policy.secret_origins:
            raise NodeEvidenceRefused(
                "secret-origin", f"the node has its root secret from its {statement.secret_origin}"
            )
        if statement.attestation not in policy.modes:
            raise NodeEvidenceRefused(
                "mode", f"the node's attestation mode is {statement.attestation}"
            )
        foreign = set(statement.trust_roots) - {self._root.sha256} - policy.release_roots
        if foreign:
            raise NodeEvidenceRefused(
                "trust-roots", f"the node believes backends under {min(foreign).hex()}"
            )
        if statement.node_policy_suffices and not policy.accepts_node_policy:
            raise NodeEvidenceRefused(
                "node-policy", "the node's own list of code may stand for that of an owner"
            )
        if not are_accepted(statement.key_providers, policy.release_key_providers):
            named = ", ".join(statement.key_providers)[:200]
            raise NodeEvidenceRefused(
                "key-providers", f"the node takes evidence of applications with keys from {named}"
            )


def _check_key_provider(facts: Evidence, statement: NodeStatement, policy: NodePolicy) -> None:
    """Refuse a node whose keys come from a provider that the policy does not accept, or an unknown
    one (AT45)."""
    # AT29: where the policy names no key providers, those count that a node takes by default.
    providers = policy.code.key_providers or DEFAULT_KEY_PROVIDERS
    found = facts.key_provider
    if statement.secret_origin == "platform":  # noqa: S105  # where it comes from
        # The provider of this secret knows it. An answer can omit the log, and any party can run a
        # service of a kind: only a name in the policy, or RTMR3, which covers the provider, shows
        # that it is the right one.
        if not policy.code.key_providers and any(
            entry.rtmr3 is None for entry in policy.code.measurements
        ):
            providers = ()
    elif found is None:
        return
    if not is_accepted(found, providers):
        named = "nobody who can be told" if found is None else found[:80]
        raise NodeEvidenceRefused("key-provider", f"the node's keys come from {named}")
