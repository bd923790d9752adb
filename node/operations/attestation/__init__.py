"""Use cases of evidence: a backend's, the node's own, and the collateral to judge it by."""
