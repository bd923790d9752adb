"""Asking a node for its own evidence, and sending no token before the evidence is accepted."""

import asyncio
from typing import Final

from capabilities.ambient import Clock, Entropy
from capabilities.strict_base64 import encode_url

from ..documents.node_evidence import (
    MAX_ATTESTATION_BYTES,
    NodeAttestation,
    NodeEvidence,
    NodeRequirement,
    parse_node_attestation,
)
from ..errors import NodeEvidenceRefused, SealspaceError
from .caller import Caller
from .transport import Request, Transport

_NONCE_BYTES: Final = 32


async def fetch_node_attestation(transport: Transport, entropy: Entropy) -> NodeAttestation:
    """Ask a node for its evidence with a fresh nonce; nothing of the answer is verified."""
    nonce = encode_url(entropy.token(_NONCE_BYTES))
    request = Request("GET", f"/attestation?nonce={nonce}", repeatable=True, max_answer_bytes=MAX_ATTESTATION_BYTES)
    answer = await transport.require(request)
    return parse_node_attestation(answer.body, nonce=nonce)


class NodeGuard:
    """Requires a node's evidence, once for all waiting callers, and again when it is old."""

    def __init__(self, caller: Caller, requirement: NodeRequirement, *, clock: Clock, entropy: Entropy) -> None:
        self._caller = caller
        self._requirement = requirement
        self._clock = clock
        self._entropy = entropy
        self._turn = asyncio.Lock()
        self._known: tuple[float, NodeEvidence] | None = None
        self._store_id: bytes | None = None
        self._failures = 0
        self._failed: SealspaceError | None = None

    async def require(self) -> NodeEvidence:
        """Return evidence that is good now; it is asked for where there is none, or it is old.

        Raises:
            NodeEvidenceRefused: it is not good. It is asked for again the next time; callers that waited for an answer
            that was not good get the same answer, or the last of many would wait for all requests before.
            NodeMismatch, NodeRefused, TransportError.
        """
        known = self._fresh()
        if known is not None:
            return known
        failures = self._failures
        async with self._turn:
            known = self._fresh()  # another task may have asked meanwhile
            if known is not None:
                return known
            if self._failed is not None and self._failures != failures:
                raise self._failed
            try:
                return await self._ask()
            except SealspaceError as error:
                self._failures, self._failed = self._failures + 1, error
                raise

    def leave_turn(self) -> None:
        """Let nobody wait for a request that is under way, in a forked process: its parent makes it."""
        self._turn = asyncio.Lock()

    def _fresh(self) -> NodeEvidence | None:
        if self._known is None:
            return None
        asked_at, evidence = self._known
        ends_at = min(asked_at + self._requirement.renew_after_s, evidence.facts.expires_at)
        # A clock that was set back says nothing about the age.
        return evidence if asked_at <= self._clock.now() < ends_at else None

    async def _ask(self) -> NodeEvidence:
        self._known = None
        node_id = await self._caller.node_id()
        asked_at = self._clock.now()  # a quote may be as old as the request: a relay can hold it back
        attestation = await fetch_node_attestation(self._caller.transport, self._entropy)
        statement, now = attestation.statement, self._clock.now()
        # AT45
        if statement.node_did != node_id:
            raise NodeEvidenceRefused("node-did", f"the evidence is of {statement.node_did}, the node is {node_id}")
        if self._store_id not in (None, statement.store_id):
            raise NodeEvidenceRefused("store", "the evidence is of another store than the one before")
        evidence = await self._requirement.verifier.verify(attestation, self._requirement.policy, now=now)
        self._store_id, self._known = statement.store_id, (asked_at, evidence)
        return evidence
