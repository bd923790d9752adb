"""Requiring a node's own evidence on the command line."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from ..documents.node_evidence import NodePolicy, NodeRequirement
from ..errors import NodeEvidenceRefused
from .lazy import provided

_ACCEPTING: Final = {
    "secret-origin": "--accept-operator-secret",
    "trust-roots": "--accept-root HEX",
    "node-policy": "--accept-node-policy",
    "key-providers": "--accept-key-provider PROVIDER",
}


@asynccontextmanager
async def demanding(
    node: str, policy: NodePolicy | None, *, trust_root: Path | None, collateral: Path | None
) -> AsyncIterator[NodeRequirement | None]:
    """Yield the requirement that a client places on a node; a refusal inside says how to continue on the command
    line."""
    if policy is None:
        yield None
        return
    node_verifier = provided("node-evidence").node_verifier  # needs the extra `verify`
    async with node_verifier(trust_root=trust_root, collateral=collateral) as verifier:
        try:
            yield NodeRequirement(verifier, policy)
        except NodeEvidenceRefused as refused:
            refused.step = _next(refused, node)
            raise


def _next(refused: NodeEvidenceRefused, node: str) -> str:
    option = _ACCEPTING.get(refused.reason)
    if option is not None:
        return f"ask for another node, or accept that: sealspace login {node} --require-node-evidence {option}"
    return refused.step or f"see what it proves: sealspace verify {node}"
