"""Rows that are opaque here, one document each: networks, evidence, receipts, withdrawals, collateral.

Their contents are defined by `encryption_network` and `tee_backend.attestation`.

Modules:
    collateral: collateral, and the state of its fetches.
    evidence: evidence of backends, and the release record.
    networks: encryption networks with their policies.
    receipts: receipts of a network, and the documents they refer to.
    withdrawals: the operator's withdrawals.
"""
