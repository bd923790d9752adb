"""Operations of evidence: a backend's, the node's own, and the collateral that both are judged
by."""
