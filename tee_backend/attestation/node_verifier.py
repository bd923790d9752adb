"""Client-side verification of nodes that run in TDX trust domains.

`TdxNodeVerifier` is a verifier for `sealspace.documents.node_evidence`.

Example:
    documents = HeldCollateral([path.read_bytes() for path in folder.glob("*.json")])
    required = NodeRequirement(TdxNodeVerifier(intel_root(), documents), NodePolicy(code=policy))
    client = Client("https://node.example", require_node_evidence=required)
"""

from dataclasses import dataclass

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


@dataclass
class TdxNodeVerifier:
    """A verifier of TDX quotes from nodes.

    It never uses collateral that a node supplies.
    """

    _root: TrustRoot
    _collateral: CollateralProvider

    async def verify(
        self, attestation: NodeAttestation, policy: NodePolicy, *, now: float
    ) -> NodeEvidence:
        """Verify a node's evidence against a policy.

        See `NodeVerifier`.
        """
        facts = await self.examine(attestation, now=now)
        self._check_statement(attestation.statement, policy)
        _check_key_provider(facts, attestation.statement, policy)
        refusal = judge(facts, policy.code, now)
        if refusal is not None:
            # Refusals of a policy use underscores, as on the wire; codes of clients use hyphens.
            raise NodeEvidenceRefused(
                refusal.replace("_", "-"), "the policy does not approve the code in the quote"
            )
        return NodeEvidence(statement=attestation.statement, facts=facts)

    async def examine(self, attestation: NodeAttestation, *, now: float) -> Evidence:
        """Verify a node's quote and return the facts in the quote.

        The quote must contain the nonce and the node's statement.

        Args:
            attestation: the node's answer; untrusted.
            now: epoch seconds.
        Returns:
            Facts in which `invoker` is the node's DID, and the receiver key is the node's public
            key.
        Raises:
            NodeEvidenceRefused: a signature, a validity period, the report data or the event log is
                not valid, or the log says that the application has no key provider.
        Does not check:
            Whether a policy approves the code, its platform, its key provider and the statement.
        """
        # the quote must name the nonce and the statement (AT41)
        binding = node_binding(attestation.nonce, attestation.statement)
        try:
            # All providers pass here: `verify` checks them against the policy (AT45). An
            # application without a provider is refused here already, since no policy accepts it.
            bound = bind_quote(
                attestation.quote, binding, event_log=attestation.event_log, accepted=NAMES
            )
            evidence, _ = await examine_with(bound, self._collateral, root=self._root, now=now)
        except AttestationError as exc:
            raise NodeEvidenceRefused(exc.code, exc.detail) from exc
        return evidence

    def _check_statement(self, statement: NodeStatement, policy: NodePolicy) -> None:
        """Check what a node states about itself against the policy (AT45)."""
        if policy.store_id is not None and statement.store_id != policy.store_id:
            raise NodeEvidenceRefused(
                "store",
                f"the policy requires store {policy.store_id.hex()}, but the node uses store"
                f" {statement.store_id.hex()}",
            )
        if statement.secret_origin not in policy.secret_origins:
            raise NodeEvidenceRefused(
                "secret-origin",
                "the policy does not accept a root secret that comes from the node's"
                f" {statement.secret_origin}",
            )
        if statement.attestation not in policy.modes:
            raise NodeEvidenceRefused(
                "mode", f"the policy does not accept the attestation mode {statement.attestation}"
            )
        foreign = set(statement.trust_roots) - {self._root.sha256} - policy.release_roots
        if foreign:
            raise NodeEvidenceRefused(
                "trust-roots",
                f"the policy does not allow the root certificate {min(foreign).hex()}, which the"
                " node accepts for backends",
            )
        if statement.node_policy_suffices and not policy.accepts_node_policy:
            raise NodeEvidenceRefused(
                "node-policy",
                "the policy requires the owner's approval of code, but this node"
                " also accepts code that the owner did not approve",
            )
        if not are_accepted(statement.key_providers, policy.release_key_providers):
            providers = ", ".join(statement.key_providers)[:200]
            raise NodeEvidenceRefused(
                "key-providers",
                f"the node accepts more key providers than the policy does: {providers}",
            )


def _check_key_provider(facts: Evidence, statement: NodeStatement, policy: NodePolicy) -> None:
    """Check that the policy accepts the node's key provider (AT45)."""
    # AT29: without key providers in the policy, a node's default applies.
    providers = policy.code.key_providers or DEFAULT_KEY_PROVIDERS
    provider = facts.key_provider
    if statement.secret_origin == "platform":  # noqa: S105  # where it comes from
        # The provider knows this secret. A node can omit the event log, and any party can run a
        # key service. So the right provider is proven only by its name in the policy, or by RTMR3,
        # which covers the provider.
        is_rtmr3_always_named = all(entry.rtmr3 is not None for entry in policy.code.measurements)
        if not policy.code.key_providers and not is_rtmr3_always_named:
            providers = ()  # the policy proves no provider, so none is accepted
    elif provider is None:
        return  # only a secret of the platform requires a log that names the provider
    if not is_accepted(provider, providers):
        provider_name = "unknown" if provider is None else provider[:80]
        raise NodeEvidenceRefused(
            "key-provider", f"the policy does not accept the node's key provider: {provider_name}"
        )
