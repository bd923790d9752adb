"""Insisting on a node's own evidence from the command line.

Example:
    async with demanding(url, policy, trust_root=None, collateral=folder) as requirement:
        async with Client(url, session=session, require_node_evidence=requirement) as client: ...
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Final

from sealspace.errors import NodeEvidenceRefused
from sealspace.node_evidence import NodePolicy, NodeRequirement

from ...errors import ConfigurationError

_ACCEPTING: Final = {
    "secret_origin": "--accept-operator-secret",
    "trust_roots": "--accept-root HEX",
    "node_policy": "--accept-node-policy",
    "key_providers": "--accept-key-provider TEXT",
}


@asynccontextmanager
async def demanding(
    node: str, policy: NodePolicy | None, *, trust_root: Path | None, collateral: Path | None
) -> AsyncIterator[NodeRequirement | None]:
    """Yield what a client has to demand of a node; a refusal inside says how to go on from the command line.

    Args:
        node: its address.
        policy: None: nothing is demanded, and nothing yielded.
        trust_root: root certificate; None: Intel's.
        collateral: folder of documents; None: Intel's service is asked.
    Raises:
        ConfigurationError: the quote library is not installed, or the trust root is none.
        CollateralRefused: the folder of collateral cannot be used.
        NodeEvidenceRefused: from inside.
    """
    if policy is None:
        yield None
        return
    async with judging().node_verifier(trust_root=trust_root, collateral=collateral) as verifier:
        try:
            yield NodeRequirement(verifier, policy)
        except NodeEvidenceRefused as refused:
            refused.hint = _next(refused, node)
            raise


def judging() -> ModuleType:
    """Return the module `node_judging`, which needs the quote library; the other commands do without.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        from . import node_judging
    except ImportError:
        raise ConfigurationError(
            "the quote library is not installed, so nothing can be verified here",
            hint="pip install 'sealspace[node]'",
        ) from None
    return node_judging


def _next(refused: NodeEvidenceRefused, node: str) -> str:
    option = _ACCEPTING.get(refused.reason)
    if option is not None:
        return f"ask for another node, or accept that: sealspace login --node {node} --require-node-evidence {option}"
    return refused.hint or f"see what it proves: sealspace attest node {node}"
