"""The configured sources of the node's TEE quotes and root secret.

The guest agent is looked up at each use, because it may start after the node or be restarted.
"""

from pathlib import Path

from tee_backend.evidence.dstack import DstackSource
from tee_backend.evidence.evidence_errors import SourceUnavailable
from tee_backend.evidence.source import EvidenceSource
from tee_backend.evidence.tsm import TsmSource

from ..config.tree import Platform


def quote_source(platform: Platform) -> EvidenceSource:
    """Return the configured source of the node's own TEE quotes."""
    return TsmSource() if platform.source == "tsm" else key_source(platform)


def key_source(platform: Platform) -> DstackSource:
    """Return a client of the TEE's guest agent."""
    if platform.source != "dstack" and platform.source != "tappd":
        raise SourceUnavailable(
            "to use a guest agent, set platform.source to dstack or tappd; platform.source"
            f" is now {platform.source}"
        )
    if platform.socket is not None:
        return DstackSource(Path(platform.socket), platform.source, timeout_s=platform.quote_s)
    return DstackSource.find(generations=(platform.source,), timeout_s=platform.quote_s)
