"""The trust domain that the node itself runs in: who makes its quotes, who gives it its root
secret.

A guest agent is looked for each time it is needed: it may be started after the node, or anew.
"""

from pathlib import Path

from tee_backend.evidence.dstack import DstackSource
from tee_backend.evidence.evidence_errors import SourceUnavailable
from tee_backend.evidence.source import EvidenceSource
from tee_backend.evidence.tsm import TsmSource

from ..config.tree import Platform


def quote_source(platform: Platform) -> EvidenceSource:
    """Return what makes the node's quotes."""
    return TsmSource() if platform.source == "tsm" else key_source(platform)


def key_source(platform: Platform) -> DstackSource:
    """Return the guest agent, which gives the node keys of its own, and quotes too."""
    if platform.source != "dstack" and platform.source != "tappd":
        raise SourceUnavailable(f"platform.source {platform.source} is no guest agent")
    if platform.socket is not None:
        return DstackSource(Path(platform.socket), platform.source, timeout_s=platform.quote_s)
    return DstackSource.find(generations=(platform.source,), timeout_s=platform.quote_s)
